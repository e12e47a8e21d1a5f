//! A JSON text that is parsed at most once, and only when a program looks into it.

use std::sync::{LazyLock, OnceLock};

use bytes::Bytes;

use crate::outline::{Node, Outline};
use crate::value::Val;
use crate::{Failure, Limit};

/// Longest document that a jq program (other than a plain path or comparison) looks into: 8 MiB. Its values take up to
/// twenty times the memory of the text.
const JQ_BYTES_MAX: usize = 8 << 20;

/// A JSON text, parsed at most once and only when a program needs it.
///
/// Building one costs nothing, whatever the bytes are; that they are not JSON is found by the first program that looks
/// into them ([`Failure::NotJson`]). One document may be read by many programs and threads.
///
/// JSON here is RFC 8259 in UTF-8, nested at most 128 deep. Of an object's duplicate keys the last counts.
#[derive(Debug)]
pub struct Document {
    text: Text,
    outline: OnceLock<Result<Outline, String>>,
    value: OnceLock<Val>,
}

enum Text {
    Ready(Bytes),
    Lazy(LazyLock<Bytes, Box<dyn FnOnce() -> Bytes + Send>>),
}

impl Document {
    /// The document with this text.
    pub const fn new(text: Bytes) -> Self {
        Self { text: Text::Ready(text), outline: OnceLock::new(), value: OnceLock::new() }
    }

    /// A document whose text is made only if a program asks for it, for example the attributes of an event.
    pub fn lazy(text: impl FnOnce() -> Bytes + Send + 'static) -> Self {
        let text = Text::Lazy(LazyLock::new(Box::new(text)));
        Self { text, outline: OnceLock::new(), value: OnceLock::new() }
    }

    /// The text, made now if it was not yet.
    pub fn text(&self) -> &Bytes {
        match &self.text {
            Text::Ready(text) => text,
            Text::Lazy(text) => text,
        }
    }

    /// The whole as a node, from which paths start.
    pub(crate) fn root(&self) -> Result<Node<'_>, Failure> {
        let text = self.text();
        match self.outline.get_or_init(|| Outline::read(text)) {
            Ok(outline) => Ok(outline.root(text)),
            Err(message) => Err(Failure::NotJson { message: message.clone() }),
        }
    }

    /// The whole as a value for jq.
    pub(crate) fn value(&self) -> Result<&Val, Failure> {
        let root = self.root()?;
        let text = self.text();
        if text.len() > JQ_BYTES_MAX {
            return Err(Failure::StepLimit { limit: Limit::Work });
        }
        Ok(self.value.get_or_init(|| Val::read(root, text)))
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = match self {
            Self::Ready(text) => Some(text.len()),
            Self::Lazy(_) => None,
        };
        f.debug_struct("Text").field("bytes", &length).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_lazy_document_is_made_once_and_only_when_asked() {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let document = Document::lazy(|| {
            MADE.fetch_add(1, Ordering::Relaxed);
            Bytes::from_static(b"{\"a\":1}")
        });
        assert_eq!(MADE.load(Ordering::Relaxed), 0);
        assert!(document.root().is_ok() && document.value().is_ok());
        assert_eq!(MADE.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn that_it_is_not_json_is_found_when_it_is_read() {
        let document = Document::new(Bytes::from_static(b"<order/>"));
        let message = "expected a value at byte 0".to_owned();
        assert_eq!(document.root().map(Node::raw_str), Err(Failure::NotJson { message }));
    }

    #[test]
    fn a_document_that_is_too_large_for_jq_still_has_paths() {
        let text = format!("{{\"id\":7,\"blob\":\"{}\"}}", "x".repeat(JQ_BYTES_MAX));
        let document = Document::new(Bytes::from(text));
        assert_eq!(document.root().ok().and_then(|root| root.field("id")).map(Node::raw_str), Some("7"));
        assert_eq!(document.value().err(), Some(Failure::StepLimit { limit: Limit::Work }));
    }
}
