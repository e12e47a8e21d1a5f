//! Who did it and why.

use serde::{Deserialize, Serialize};

/// A person's (or a program's) act on events, as it is kept in the audit table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
}
