//! What every store port can answer with.

/// A store could not do what was asked. Nothing was changed, unless the error says that this is not known.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached or written. Try again; nothing is lost.
    #[error("the store is not available while {doing}")]
    Unavailable {
        /// What we were doing.
        doing: &'static str,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no such thing.
    #[error("no {what} with the id `{id}`")]
    NotFound {
        /// The noun.
        what: &'static str,
        /// The id.
        id: String,
    },
    /// The thing is in a state that does not allow this.
    #[error("{0}")]
    Conflict(String),
    /// The cursor is not one that we gave out.
    #[error("the cursor is not valid")]
    BadCursor,
    /// Another worker owns this by now: nothing was changed, and nothing that the former owner has in hand counts any more.
    #[error("{0} has another owner by now")]
    Fenced(String),
    /// What is stored cannot be read: the file is damaged. Nothing is overwritten.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}
