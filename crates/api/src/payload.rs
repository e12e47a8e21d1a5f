//! What dead letters and events carry, as it is shown: whole, but for headers that may hold a secret.

use bytes::Bytes;
use crossdock_core::{Envelope, Event, MappedRequest};
use serde_json::{Map, Value, json};

/// What stands in the place of a value that may be a secret.
const REDACTED: &str = "‹redacted›";

/// A mapped request. The body is `body` (JSON or text) or `body_base64`.
pub(crate) fn request(request: &MappedRequest, envelope: &dyn Envelope) -> Value {
    let mut fields = request.fields.clone();
    fields.values_mut().for_each(redact);
    let mut shown = json!({
        "action": request.action,
        "fields": fields,
        "content_type": request.content_type,
    });
    if let Some((name, value)) = body(request.content_type.as_deref(), &request.body, envelope) {
        shown[name] = value;
    }
    shown
}

/// Bytes as the envelope shows the data of an event: JSON where nothing is lost by that, text, or base64.
fn body(content_type: Option<&str>, bytes: &Bytes, envelope: &dyn Envelope) -> Option<(&'static str, Value)> {
    let event = Event {
        id: String::new(),
        source: String::new(),
        kind: String::new(),
        subject: None,
        time: None,
        content_type: content_type.map(str::to_owned),
        schema: None,
        key: None,
        extensions: Vec::new(),
        data: bytes.clone(),
    };
    let mut shown = envelope.encode(&event);
    let shown = shown.as_object_mut()?;
    let names = [("data", "body"), ("data_base64", "body_base64")];
    names.into_iter().find_map(|(from, to)| shown.remove(from).map(|value| (to, value)))
}

/// Hides the values of a map of headers that may be secrets.
fn redact(field: &mut Value) {
    if let Value::Object(headers) = field {
        hide(headers);
    }
}

fn hide(headers: &mut Map<String, Value>) {
    for (name, value) in headers {
        if may_be_secret(name) {
            *value = REDACTED.into();
        }
    }
}

fn may_be_secret(header: &str) -> bool {
    const SIGNS: [&str; 9] = [
        "authorization",
        "cookie",
        "token",
        "secret",
        "password",
        "api-key",
        "apikey",
        "signature",
        "credential",
    ];
    let header = header.to_ascii_lowercase().replace('_', "-");
    SIGNS.iter().any(|sign| header.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_may_hold_a_secret_are_hidden_and_others_are_not() {
        for secret in ["Authorization", "proxy-authorization", "Set-Cookie", "X_API_KEY", "x-auth-token"] {
            assert!(may_be_secret(secret), "{secret}");
        }
        for open in ["content-type", "x-request-id", "idempotency-key", "accept"] {
            assert!(!may_be_secret(open), "{open}");
        }
    }
}
