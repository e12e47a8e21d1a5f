//! The variables that a place allows.

use crate::Document;

/// Values for the variables of a scope: name (without `$`) and document. A name that the program does not use is ignored.
pub type Variables<'a> = [(&'static str, &'a Document)];

/// The variables that an expression may use besides `.`, by the place it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    names: &'static [&'static str],
}

impl Scope {
    /// A scope with these variables, named without `$`: `Scope::new(&["event"])` allows `$event`.
    pub const fn new(names: &'static [&'static str]) -> Self {
        Self { names }
    }

    /// The names, without `$`, in the order given.
    pub const fn names(&self) -> &'static [&'static str] {
        self.names
    }
}
