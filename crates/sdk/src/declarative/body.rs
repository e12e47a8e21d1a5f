//! What of a request's body is the event's data.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{compile::Source, emit::malformed};
use crate::{Inbound, Refusal, manifest::BodyKind};

/// The data of an event and how it is read.
pub(super) struct Payload {
    /// The event's data.
    pub(super) data: Bytes,
    /// Its media type.
    pub(super) content_type: String,
    /// Whether it is JSON.
    pub(super) json: bool,
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

impl Source {
    /// Takes the data out of the body. Called only after the body was verified.
    pub(super) fn payload(&self, request: &Inbound) -> Result<Payload, Refusal> {
        let declared = request.header("content-type").map(str::trim).filter(|value| !value.is_empty());
        let payload = match &self.form_field {
            Some(field) if declared.is_some_and(is_form) => form_payload(&request.body, field)?,
            _ => Payload {
                data: request.body.clone(),
                content_type: declared.unwrap_or(JSON).to_owned(),
                json: false,
            },
        };
        match serde_json::from_slice::<&RawValue>(&payload.data) {
            Ok(_) => Ok(Payload { json: true, ..payload }),
            Err(_) if self.body_kind == BodyKind::Any => Ok(payload),
            Err(error) => Err(malformed(format!("the body is not JSON: {error}"), Some(String::new()))),
        }
    }
}

fn is_form(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case(FORM)
}

fn form_payload(body: &[u8], field: &str) -> Result<Payload, Refusal> {
    let found = url::form_urlencoded::parse(body).find(|(name, _)| name == field);
    let (_, text) = found.ok_or_else(|| malformed(format!("the form has no field `{field}`"), None))?;
    Ok(Payload { data: Bytes::from(text.into_owned()), content_type: JSON.to_owned(), json: false })
}
