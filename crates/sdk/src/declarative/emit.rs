//! The event that a request becomes.

use crossdock_expr::{Document, EvalError, Failure, Program, Template, Variables};
use jiff::Timestamp;

use crate::{Event, Refusal};

/// Expressions of which the first that has a value counts.
pub(super) struct Alternatives<T>(pub(super) Vec<T>);

/// Makes the attributes of an event.
pub(super) struct Emitter {
    pub(super) items: Option<Program>,
    pub(super) kind: Alternatives<Template>,
    pub(super) id: Alternatives<Template>,
    pub(super) key: Option<Alternatives<Program>>,
    pub(super) time: Option<Alternatives<Template>>,
    pub(super) subject: Option<Alternatives<Template>>,
    pub(super) source: Option<Alternatives<Template>>,
}

/// What all events of a request have in common.
pub(super) struct Common<'a> {
    pub(super) variables: &'a Variables<'a>,
    pub(super) source: &'a str,
    pub(super) content_type: &'a str,
}

impl Emitter {
    /// The events of a body. `body` is what expressions see, `data` what the event holds.
    pub(super) fn events(
        &self,
        body: &Document,
        data: &bytes::Bytes,
        common: &Common<'_>,
    ) -> Result<Vec<Event>, Refusal> {
        let Some(items) = &self.items else {
            return Ok(vec![self.event(body, data, common)?]);
        };
        let items = items.jsons(body, common.variables).map_err(|error| refusal("items", &error))?;
        let event = |item: bytes::Bytes| self.event(&Document::new(item.clone()), &item, common);
        items.into_iter().map(event).collect()
    }

    fn event(&self, body: &Document, data: &bytes::Bytes, common: &Common<'_>) -> Result<Event, Refusal> {
        let vars = common.variables;
        let optional = |name: &str, texts: &Option<Alternatives<Template>>| match texts {
            Some(texts) => texts.first(body, vars).map_err(|error| refusal(name, &error)),
            None => Ok(None),
        };
        let key = self.key.as_ref().map(|key| key.first(body, vars)).transpose();
        let event = Event {
            id: required("id", &self.id, body, vars)?,
            source: optional("source", &self.source)?.unwrap_or_else(|| common.source.to_owned()),
            kind: required("type", &self.kind, body, vars)?,
            subject: optional("subject", &self.subject)?,
            time: optional("time", &self.time)?.and_then(|time| time.parse::<Timestamp>().ok()),
            content_type: Some(common.content_type.to_owned()),
            schema: None,
            key: key.map_err(|error| refusal("key", &error))?.flatten(),
            extensions: Vec::new(),
            data: data.clone(),
        };
        event.validate().map_err(|error| malformed(error.to_string(), None))?;
        Ok(event)
    }
}

fn required(
    name: &str,
    texts: &Alternatives<Template>,
    body: &Document,
    vars: &Variables<'_>,
) -> Result<String, Refusal> {
    let text = texts.first(body, vars).map_err(|error| refusal(name, &error))?;
    text.ok_or_else(|| {
        let tried: Vec<_> = texts.0.iter().map(|text| format!("`{}`", text.source())).collect();
        malformed(format!("the request has no event {name}: {} gave nothing", tried.join(", ")), None)
    })
}

fn refusal(name: &str, error: &EvalError) -> Refusal {
    let pointer = matches!(error.failure, Failure::NotJson { .. }).then(String::new);
    malformed(format!("failed to read the event {name}: {error}: {}", error.failure), pointer)
}

pub(super) fn malformed(message: impl Into<String>, pointer: Option<String>) -> Refusal {
    Refusal::Malformed { message: message.into(), pointer }
}

/// An expression that may have no text.
pub(super) trait MaybeText {
    /// The text, or `None` where there is no value.
    fn maybe_text(&self, body: &Document, vars: &Variables<'_>) -> Result<Option<String>, EvalError>;
}

impl MaybeText for Program {
    fn maybe_text(&self, body: &Document, vars: &Variables<'_>) -> Result<Option<String>, EvalError> {
        present(self.text(body, vars))
    }
}

impl MaybeText for Template {
    fn maybe_text(&self, body: &Document, vars: &Variables<'_>) -> Result<Option<String>, EvalError> {
        present(self.text(body, vars).map(Some))
    }
}

/// What has no text is no value: a vendor that changes the shape of a field must not have its events refused.
fn present(text: Result<Option<String>, EvalError>) -> Result<Option<String>, EvalError> {
    match text {
        Err(EvalError { failure: Failure::NoOutput | Failure::NotText { .. }, .. }) => Ok(None),
        text => text,
    }
}

impl<T: MaybeText> Alternatives<T> {
    /// The first text that is there and not empty.
    fn first(&self, body: &Document, vars: &Variables<'_>) -> Result<Option<String>, EvalError> {
        for text in &self.0 {
            match text.maybe_text(body, vars)? {
                Some(text) if !text.is_empty() => return Ok(Some(text)),
                _ => {}
            }
        }
        Ok(None)
    }
}
