//! The expression and template language of Crossdock.
//!
//! One language everywhere: jq. A field that *is* an expression (`filter`, `key`, `items`, `when`) holds a [`Program`]; every
//! other string is a [`Template`], text in which `${ jq }` inserts; `map:` is a [`Tree`] of templates, or one program.
//! All three are compiled once, when the configuration is loaded, against the [`Scope`] of the place they stand in, so an
//! unknown variable or function is a [`CompileError`] with its place in the source and not a dead letter at night.
//!
//! A program reads a [`Document`], a JSON text that is parsed at most once and only when a program looks into it, and
//! the [`Variables`] of its scope. Plain paths (`.customer.email`, `$event.type`), comparisons of a path with a literal,
//! and `and`/`or` of those run natively over the text; everything else runs on the `jaq` engine. Both give the same
//! result, except that a natively copied value keeps its text to the letter (see [`Program::json`]).
//!
//! # What a program cannot do
//!
//! It reads nothing but its document and variables, apart from the clock (`now`): `input`, `$ENV`, `env`, `debug`,
//! `stderr`, `halt`, `import` and what depends on the machine's time zone are refused when compiling. It always ends: the
//! number of its steps ([`STEPS_MAX`]), the bytes it may produce and look through ([`WORK_BYTES_MAX`]) and the depth of its
//! recursion are limited, `try` cannot catch that, and a failure is an [`EvalError`], never a panic.
//!
//! This crate must never know what an event, a flow or a connector is: it sees JSON texts and names of variables.

mod condition;
mod diagnose;
mod document;
mod error;
mod guard;
mod jq;
mod library;
mod limits;
mod outline;
mod output;
mod path;
mod program;
mod scope;
mod template;
mod tick;
mod tree;
mod value;

pub use document::Document;
pub use error::{CompileError, EvalError, Failure, Limit};
pub use limits::{STEPS_MAX, WORK_BYTES_MAX};
pub use program::Program;
pub use scope::{Scope, Variables};
pub use template::Template;
pub use tree::{Tree, TreeError};
