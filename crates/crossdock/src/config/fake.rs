//! Connectors for tests: a source like GitHub's and a target like the HTTP connector's, which connect to nothing.

use std::sync::Arc;

use crossdock_core::{
    ActionSpec, Connection, ConnectionName, Connector, ConnectorError, ConnectorSpec, Environment, Field,
    FieldKind, Settings,
};

const fn field(name: &'static str, kind: FieldKind, required: bool, about: &'static str) -> Field {
    Field { name, kind, required, about }
}

const GITHUB: &[Field] =
    &[field("secret", FieldKind::Secret, true, "the secret of the webhook, as it was typed into GitHub")];

const HTTP: &[Field] = &[
    field("base_url", FieldKind::Url, true, "what the paths of actions are added to"),
    field("signing_secret", FieldKind::Secret, false, "signs each request as Standard Webhooks does"),
    field("timeout", FieldKind::Duration, false, "how long an answer may take; default 30s"),
    field("headers", FieldKind::TextMap, false, "headers of every request"),
    field("secret_headers", FieldKind::SecretMap, false, "headers with secret values"),
    field("style", FieldKind::Choice(&["plain", "structured"]), false, "how events are written"),
    field("gzip", FieldKind::Bool, false, "whether bodies are compressed"),
    field("redirects", FieldKind::Integer, false, "how many redirects are followed"),
    field("success", FieldKind::TextList, false, "statuses that count as success"),
];

const FIELDS: &[Field] = &[
    field("path", FieldKind::Path, true, "the path below `base_url`"),
    field("query", FieldKind::TextMap, false, "the query"),
];

const REQUEST: &[Field] = &[
    field("method", FieldKind::Choice(&["POST", "PUT", "PATCH", "DELETE"]), true, "the method"),
    field("path", FieldKind::Path, true, "the path below `base_url`"),
];

struct Fake(ConnectorSpec);

impl Connector for Fake {
    fn spec(&self) -> &ConnectorSpec {
        &self.0
    }

    fn connect(
        &self,
        _name: &ConnectionName,
        settings: &Settings,
        _environment: Environment,
    ) -> Result<Arc<dyn Connection>, ConnectorError> {
        match settings.text("base_url").is_some_and(|url| url.contains("forbidden")) {
            true => Err(ConnectorError {
                field: Some("base_url".to_owned()),
                message: "this host is not allowed".to_owned(),
            }),
            false => Ok(Arc::new(Nothing)),
        }
    }
}

struct Nothing;

impl Connection for Nothing {}

/// `github` and `http`.
pub fn connectors() -> Vec<Arc<dyn Connector>> {
    let github = ConnectorSpec {
        name: "github".to_owned(),
        about: "GitHub".to_owned(),
        config: GITHUB.to_vec(),
        actions: Vec::new(),
        source: true,
    };
    let http = ConnectorSpec {
        name: "http".to_owned(),
        about: "anything that speaks HTTP".to_owned(),
        config: HTTP.to_vec(),
        actions: vec![
            ActionSpec { name: "post", about: "sends a POST request", fields: FIELDS },
            ActionSpec { name: "request", about: "sends a request", fields: REQUEST },
        ],
        source: false,
    };
    vec![Arc::new(Fake(github)), Arc::new(Fake(http))]
}
