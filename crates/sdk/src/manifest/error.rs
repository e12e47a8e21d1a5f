//! What is wrong with a manifest, and where.

use std::fmt;

use crossdock_expr::CompileError;
use serde_saphyr::{Location, Spanned};

/// What is wrong with a manifest, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 if it is about the whole file.
    pub line: u64,
    /// The column, from 1.
    pub column: u64,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl ManifestError {
    /// An error of the YAML itself or of its shape.
    pub(super) fn yaml(file: &str, error: &serde_saphyr::Error) -> Self {
        let location = error.location().unwrap_or(Location::UNKNOWN);
        let message = error.without_snippet().to_string();
        // The place is told by the fields; the reader's own text tells it again at the end.
        let message = message.split(" at line ").next().unwrap_or_default();
        Self::at(file, location, message)
    }

    /// An error at the place of a value.
    pub(crate) fn at(file: &str, location: Location, message: impl Into<String>) -> Self {
        let (line, column) = (location.line(), location.column());
        Self { file: file.to_owned(), line, column, message: message.into(), help: None }
    }

    /// An error about the whole file.
    pub(crate) fn whole(file: &str, message: impl Into<String>) -> Self {
        Self::at(file, Location::UNKNOWN, message)
    }

    /// An error inside an expression: at its character where the YAML holds the expression as it is, else at its beginning.
    pub(crate) fn expression(file: &str, yaml: &str, text: &Spanned<String>, error: CompileError) -> Self {
        let at = text.referenced;
        let start =
            at.span().byte_offset().and_then(|offset| usize::try_from(offset).ok()).unwrap_or(usize::MAX);
        let rest = yaml.get(start..).unwrap_or_default();
        let quote = usize::from(rest.starts_with(['"', '\'']));
        let inside = rest.get(quote..).is_some_and(|rest| rest.starts_with(text.value.as_str()));
        let shift = if inside { quote + text.value[..error.span.start].chars().count() } else { 0 };
        let column = at.column() + shift as u64;
        Self { column, help: error.help, ..Self::at(file, at, error.message) }
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

impl std::error::Error for ManifestError {}
