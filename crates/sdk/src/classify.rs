//! What an answer means, unless a connector knows better.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    Class, Fault, Redactor, Wait,
    http::{Answer, HeaderMap, StatusCode},
};

/// Longest error code that is kept: it names a group of failures.
const CODE_BYTES_MAX: usize = 64;

/// The built-in table: 2xx is success, everything else a fault with its class, the wait that was asked for, the vendor's
/// code, and the redacted beginning of the body.
pub fn classify(answer: &Answer, redactor: &Redactor) -> Result<(), Fault> {
    if answer.status.is_success() {
        return Ok(());
    }
    let status = answer.status;
    let (class, advice) = class(status);
    let message = match redirect_target(answer, redactor) {
        Some(message) => message,
        None => format!("answered {} {}", status.as_u16(), status.canonical_reason().unwrap_or_default()),
    };
    let mut fault = Fault::new(class, message.trim_end());
    fault.status = Some(status.as_u16());
    fault.wait = wait(class, &answer.headers);
    fault.code = code(&answer.body).filter(|code| redactor.mask(code) == *code);
    fault.advice = advice.map(str::to_owned);
    fault.excerpt = redactor.excerpt(&answer.body);
    Err(fault)
}

/// The class of a status, and what an operator should do about it.
fn class(status: StatusCode) -> (Class, Option<&'static str>) {
    match status.as_u16() {
        300..=399 => (Class::Rejected, Some("put the URL of the place itself in the configuration")),
        401 => {
            (Class::AuthBroken, Some("the credentials are refused: replace them, then resume the connection"))
        }
        403 => {
            (Class::Rejected, Some("the credentials are known but may not do this: check their permissions"))
        }
        404 => (Class::Rejected, Some("check the base URL and the path")),
        408 => (Class::Transient, None),
        410 => (Class::Rejected, Some("the place is gone for good: change or remove the flow")),
        413 => (Class::Rejected, Some("the body is too large for the other side: map it to less")),
        429 => (Class::Throttled, Some("the other side asks to slow down; the hub does")),
        501 | 505 => {
            (Class::Rejected, Some("the other side cannot do this at all: check the method and the URL"))
        }
        500..=599 => (Class::Transient, None),
        _ => (Class::Rejected, None),
    }
}

fn redirect_target(answer: &Answer, redactor: &Redactor) -> Option<String> {
    if !answer.status.is_redirection() {
        return None;
    }
    let location = answer.headers.get(http::header::LOCATION);
    let location = location.map_or_else(|| "none".to_owned(), |value| redactor.text(value.as_bytes(), 256));
    Some(format!("answered {}: redirects are not followed (location: {location})", answer.status.as_u16()))
}

/// How long to wait, if the other side says so. Strict: what is not understood is left to the schedule.
fn wait(class: Class, headers: &HeaderMap) -> Option<Wait> {
    if !matches!(class, Class::Throttled | Class::Transient) {
        return None;
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(wait) = text("retry-after").and_then(crossdock_core::parse_retry_after) {
        return Some(wait);
    }
    if class != Class::Throttled {
        return None;
    }
    ["ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset"]
        .into_iter()
        .find_map(|name| reset(text(name)?))
}

/// A reset as it is found in the wild: seconds from now, seconds since 1970, or milliseconds since 1970.
fn reset(value: &str) -> Option<Wait> {
    let value = value.trim();
    if value.is_empty() || value.len() > 13 || !value.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    match value.parse::<i64>().ok()? {
        delta @ 0..100_000_000 => Some(Wait::For(std::time::Duration::from_secs(delta.unsigned_abs()))),
        seconds @ 100_000_000..100_000_000_000 => Timestamp::from_second(seconds).ok().map(Wait::Until),
        milliseconds => Timestamp::from_millisecond(milliseconds).ok().map(Wait::Until),
    }
}

/// The vendor's code, from the places where most APIs put it. Sentences are no codes: they would split a group of failures.
fn code(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    ["/code", "/error/code", "/error/type", "/error", "/errors/0/code", "/error_code", "/type"]
        .into_iter()
        .filter_map(|pointer| body.pointer(pointer))
        .find_map(|value| match value {
            Value::String(text) if is_code(text) => Some(text.clone()),
            Value::Number(number) if number.is_i64() => Some(number.to_string()),
            _ => None,
        })
}

fn is_code(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':' | b'/');
    (1..=CODE_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}
