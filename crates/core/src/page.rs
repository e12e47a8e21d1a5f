//! Lists by pages.

use serde::Serialize;

/// Where the next page begins. Opaque: only the store that gave it out can read it; any other text is
/// [`crate::StoreError::BadCursor`].
pub type Cursor = String;

/// Which part of a list.
#[derive(Debug, Clone)]
pub struct PageRequest {
    /// How many items, at least 1.
    pub limit: usize,
    /// Where to begin; none for the beginning.
    pub cursor: Option<Cursor>,
}

impl PageRequest {
    /// The first page of `limit` items.
    pub fn first(limit: usize) -> Self {
        Self { limit, cursor: None }
    }
}

/// One page of a list.
#[derive(Debug, Clone, Serialize)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Where the next page begins; none at the end.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// The same page with each item changed.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(change).collect(), next: self.next }
    }
}
