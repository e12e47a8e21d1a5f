//! The variables that a place allows.

use crate::{Document, Failure};

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

    /// The scope's own copy of a name (given with `$`), if it is one of its variables.
    pub(crate) fn find(&self, name: &str) -> Option<&'static str> {
        self.names.iter().copied().find(|known| name.strip_prefix('$') == Some(known))
    }
}

/// The value of a variable. Whoever evaluates has to give one for each variable of the scope.
pub(crate) fn variable<'a>(name: &str, vars: &Variables<'a>) -> Result<&'a Document, Failure> {
    let found = vars.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, document)| *document)
        .ok_or_else(|| Failure::runtime(&format!("`${name}` has no value here")))
}
