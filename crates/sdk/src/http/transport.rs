//! What it means that there was no answer.

use std::{error::Error, io, time::Duration};

use super::Refused;
use crate::{Class, Fault};

/// The guard refused the address. Nothing was sent, and a name may resolve otherwise tomorrow.
pub(super) fn refused(refused: Refused) -> Fault {
    Fault::new(Class::Transient, refused.to_string()).code("address_refused").advice(refused.advice())
}

/// The call took longer than it may.
pub(super) fn timed_out(timeout: Duration, repeatable: bool) -> Fault {
    lost(format!("no answer within {timeout:?}"), "timeout", repeatable)
}

/// The call failed without an answer.
pub(super) fn failed(error: reqwest::Error, repeatable: bool) -> Fault {
    if let Some(found) = cause::<Refused>(&error) {
        return refused(found.clone());
    }
    let error = error.without_url();
    if error.is_connect() {
        return not_connected(&error);
    }
    if error.is_builder() {
        return Fault::new(Class::Bug, chain(&error)).code("request");
    }
    let code = if error.is_timeout() { "timeout" } else { "connection_lost" };
    lost(format!("the connection was lost before an answer came: {}", chain(&error)), code, repeatable)
}

/// Nothing was sent yet.
fn not_connected(error: &reqwest::Error) -> Fault {
    let (code, advice) = if cause::<rustls::Error>(error).is_some() {
        ("tls", "check the certificate of the server and the roots that this machine trusts")
    } else if error.is_dns() {
        ("dns", "check the host name in `base_url`, and the name servers of this machine")
    } else if error.is_timeout() {
        ("connect_timeout", "check that the server is up, and that no firewall drops the connection")
    } else {
        ("connect", "check that the server is up and listens at this address")
    };
    Fault::new(Class::Transient, format!("failed to connect: {}", chain(error))).code(code).advice(advice)
}

/// The request was sent, or part of it; nobody knows what became of it.
fn lost(message: String, code: &str, repeatable: bool) -> Fault {
    if repeatable {
        return Fault::new(Class::Transient, message).code(code);
    }
    Fault::new(Class::Ambiguous, message)
        .code(code)
        .advice("it may have happened: look at the other side, then replay or discard")
}

/// The message with those of its causes, leaving out what a cause repeats.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        source = error.source();
    }
    message
}

/// The first cause of that type, also inside I/O errors, which hide what they wrap.
fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inner = inner.map(|inner| inner as &(dyn Error + 'static));
        if let Some(found) = error.downcast_ref().or_else(|| inner.and_then(|inner| inner.downcast_ref())) {
            return Some(found);
        }
        next = inner.or_else(|| error.source());
    }
    None
}
