//! `connector.yaml` as types: what a connector that needs no code says of itself.
//!
//! Reading is strict: a field that nobody knows is an error with file, line and column, since a misspelt `tolerance` would
//! else be a webhook without one.

mod error;
mod fields;
mod texts;

use indexmap::IndexMap;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::signature::Recipe;

pub use error::ManifestError;
pub use fields::{ConfigField, FieldType};
pub use texts::Texts;

/// A connector, as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the format.
    pub hub: Format,
    /// The name, as in `connector: github`.
    pub name: String,
    /// What it connects, in one sentence.
    pub about: String,
    /// Where the vendor describes it.
    #[serde(default)]
    pub docs: Option<String>,
    /// The fields of a connection's `config`, in the order in which people are asked for them.
    #[serde(default)]
    pub config: IndexMap<String, ConfigField>,
    /// The source that is posted to us.
    #[serde(default)]
    pub webhook: Option<WebhookManifest>,
    /// What must come of which request.
    #[serde(default)]
    pub tests: Vec<TestCase>,
}

/// The version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Format {
    /// The first.
    #[serde(rename = "connector/v1")]
    V1,
}

/// How requests become events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookManifest {
    /// Headers that a request must have to be one of this vendor's.
    #[serde(default, rename = "match")]
    pub matching: Vec<HeaderRule>,
    /// How requests are signed.
    #[serde(default)]
    pub verify: Option<Spanned<Recipe>>,
    /// Instead of `verify`: the field of `config` by which an operator says that anyone may post here.
    #[serde(default)]
    pub unsigned: Option<Spanned<String>>,
    /// What the body is.
    #[serde(default)]
    pub body: BodyRule,
    /// Requests that want an answer and are no event.
    #[serde(default)]
    pub handshake: Option<Handshake>,
    /// The event that a request becomes.
    pub emit: Emit,
}

/// A header that must be there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderRule {
    /// Its name, in any case.
    pub header: String,
    /// The values that it may have; any if there are none.
    #[serde(default, rename = "in")]
    pub values: Vec<String>,
    /// The field of `config` that holds the one value that it may have; any if that is not written.
    #[serde(default)]
    pub setting: Option<String>,
}

/// What the body is.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BodyRule {
    /// Whether it must be JSON.
    #[serde(default)]
    pub kind: BodyKind,
    /// The field that holds the JSON when the body is a form.
    #[serde(default)]
    pub form_field: Option<String>,
}

/// Whether a body must be JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyKind {
    /// It must.
    #[default]
    Json,
    /// It need not; one that is not is `null` to expressions.
    Any,
}

/// A request that wants an answer and is no event.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handshake {
    /// Which requests are: an expression.
    pub when: Spanned<String>,
    /// The answer's body: text in which `${…}` inserts.
    pub reply: Spanned<String>,
    /// The answer's media type.
    #[serde(default = "text_plain")]
    pub content_type: String,
}

fn text_plain() -> String {
    "text/plain".to_owned()
}

/// The event that a request becomes. Where several texts are given, the first that has a value counts.
///
/// `.` is the body, `$headers` its headers by lower-case name, `$config` the settings that are no secret, and `$request` has
/// `id` (made by the hub, another for every request), `time` (of arrival), `method` and `uri`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emit {
    /// An expression that gives the events of a body that holds several; `.` is then one of them.
    #[serde(default)]
    pub items: Option<Spanned<String>>,
    /// The type: text.
    #[serde(rename = "type")]
    pub kind: Spanned<Texts>,
    /// The id by which a second delivery is known: text.
    pub id: Spanned<Texts>,
    /// What order is kept by: an expression.
    #[serde(default)]
    pub key: Option<Spanned<Texts>>,
    /// When it happened: text, RFC 3339. One that cannot be read is left out.
    #[serde(default)]
    pub time: Option<Spanned<Texts>>,
    /// What it happened to: text.
    #[serde(default)]
    pub subject: Option<Spanned<Texts>>,
    /// Where it comes from: text; `/connections/<name>` unless written.
    #[serde(default)]
    pub source: Option<Spanned<Texts>>,
}

/// What must come of a request. The request is signed by the recipe, and again with every fault, which must be refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestCase {
    /// What it shows, as a sentence.
    pub name: String,
    /// Settings besides the secrets, as text.
    #[serde(default)]
    pub config: IndexMap<String, String>,
    /// The request's headers, without those of the signature.
    #[serde(default)]
    pub headers: IndexMap<String, String>,
    /// The file that holds the body, in the connector's folder.
    pub body: String,
    /// What must come of it.
    pub expect: Expect,
}

/// What must come of a request. What is not written is not compared.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The event's type.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// The event's id.
    #[serde(default)]
    pub id: Option<String>,
    /// The event's key.
    #[serde(default)]
    pub key: Option<String>,
    /// The event's time.
    #[serde(default)]
    pub time: Option<String>,
    /// The event's subject.
    #[serde(default)]
    pub subject: Option<String>,
    /// The number of events; one unless written.
    #[serde(default)]
    pub events: Option<usize>,
    /// The body of the answer to a handshake.
    #[serde(default)]
    pub reply: Option<String>,
    /// What the refusal says, or a part of it.
    #[serde(default)]
    pub refuse: Option<String>,
}

impl Manifest {
    /// Reads a manifest; `file` is its name in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, ManifestError> {
        serde_saphyr::from_str(text).map_err(|error| ManifestError::yaml(file, &error))
    }
}
