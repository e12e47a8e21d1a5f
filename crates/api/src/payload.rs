//! What dead letters and events carry, as it is shown: whole, but for headers that may hold a secret.

use bytes::Bytes;
use crossdock_core::{Envelope, Event, MappedRequest};
use serde_json::{Map, Value, json};

/// What stands in the place of a value that may be a secret.
const REDACTED: &str = "‹redacted›";

/// A mapped request. The body is `body` (JSON or text) or `body_base64`.
pub(crate) fn request(request: &MappedRequest, envelope: &dyn Envelope) -> Value {
    let mut fields = request.fields.clone();
    fields.iter_mut().for_each(|(name, value)| redact(name, value));
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

/// Hides what may be a secret in a field of an action: values of a map of headers or parameters by their names, and the
/// query of a path, as attempts do.
fn redact(name: &str, field: &mut Value) {
    match field {
        Value::Object(named) => hide(named),
        Value::String(path) if name == "path" => {
            if let Some(query) = path.find('?') {
                path.replace_range(query + 1.., REDACTED);
            }
        }
        _ => {}
    }
}

fn hide(named: &mut Map<String, Value>) {
    for (name, value) in named {
        if may_be_secret(name) {
            *value = REDACTED.into();
        }
    }
}

fn may_be_secret(name: &str) -> bool {
    /// Anywhere in the name.
    const SIGNS: [&str; 13] = [
        "authorization",
        "cookie",
        "token",
        "secret",
        "password",
        "api-key",
        "apikey",
        "access-key",
        "private-key",
        "functions-key",
        "subscription-key",
        "signature",
        "credential",
    ];
    /// As a word of their own; within others they are harmless (`author`, `design`, `compass`).
    const WORDS: [&str; 8] = ["auth", "sig", "pass", "passwd", "pwd", "pin", "jwt", "hmac"];
    let name = name.to_ascii_lowercase().replace(['_', '.', ' '], "-");
    let named = |word: &str| WORDS.contains(&word);
    // A key alone is a credential; `idempotency-key` and `partition-key` are none.
    name == "key" || name.split('-').any(named) || SIGNS.iter().any(|sign| name.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_may_hold_a_secret_are_hidden_and_others_are_not() {
        for secret in [
            "Authorization",
            "proxy-authorization",
            "Set-Cookie",
            "X_API_KEY",
            "x-auth-token",
            "key",
            "sig",
            "auth",
            "x-auth",
            "pass",
            "X-Acme-Pass",
            "x-functions-key",
        ] {
            assert!(may_be_secret(secret), "{secret}");
        }
        for open in [
            "content-type",
            "x-request-id",
            "idempotency-key",
            "accept",
            "author",
            "x-design",
            "compass",
            "keys",
        ] {
            assert!(!may_be_secret(open), "{open}");
        }
    }

    #[test]
    fn the_query_of_a_path_is_hidden_as_in_attempts() {
        let mut path = Value::from("/issues/a%2Fb?key=s3cret&x=1?2");
        redact("path", &mut path);
        assert_eq!(path, "/issues/a%2Fb?‹redacted›");
        for (name, text) in [("path", "/issues"), ("subject", "why?")] {
            let mut value = Value::from(text);
            redact(name, &mut value);
            assert_eq!(value, text);
        }
    }
}
