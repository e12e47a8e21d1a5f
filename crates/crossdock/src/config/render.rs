//! Problems as people read them: the place, the line, a caret, the way out.

use std::fmt::{self, Write as _};

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents,
    Severity as Level, SourceCode, SourceSpan, SpanContents,
};

use super::problem::{Problem, Problems, Severity};
use crate::safe;

/// How to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Colours and box-drawing characters.
    Colour,
    /// Box-drawing characters.
    Lines,
    /// ASCII only, for files and pipes.
    Ascii,
}

impl Problems {
    /// All of them, in order, one paragraph each.
    pub fn render(&self, look: Look) -> String {
        let theme = match look {
            Look::Colour => GraphicalTheme::unicode(),
            Look::Lines => GraphicalTheme::unicode_nocolor(),
            Look::Ascii => GraphicalTheme::none(),
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(if look == Look::Ascii { 200 } else { 100 })
            .with_context_lines(0)
            .with_links(false);
        let source = Lines { file: &self.file, text: self.shown() };
        let mut out = String::new();
        for problem in &self.items {
            let drawn = Drawn { problem, file: &self.file, source: &source, span: self.one_line(problem) };
            if handler.render_report(&mut out, &drawn).is_err() {
                let _ = writeln!(out, "{}", problem.message);
            }
            out.push('\n');
        }
        out
    }

    /// The text with stars in place of what must not be shown, and question marks in place of what a terminal would obey;
    /// everything keeps its place.
    fn shown(&self) -> String {
        let hidden = |byte: usize| self.hidden.iter().any(|span| span.contains(&byte));
        let mut shown = String::with_capacity(self.text.len());
        for (byte, character) in self.text.char_indices() {
            let stand_in = match character {
                '\n' | '\r' | '\t' => None,
                _ if safe::is_obeyed(character) => Some('?'),
                _ if hidden(byte) && !character.is_whitespace() => Some('*'),
                _ => None,
            };
            match stand_in {
                Some(stand_in) => shown.extend(std::iter::repeat_n(stand_in, character.len_utf8())),
                None => shown.push(character),
            }
        }
        shown
    }

    /// The place of a problem, cut at the end of its first line: a map that is wrong need not be underlined as a whole.
    fn one_line(&self, problem: &Problem) -> Option<SourceSpan> {
        let span = self.visible(problem.span.as_ref()?);
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.floor_char_boundary(span.end).max(start);
        let line = self.text[start..end].lines().next().unwrap_or_default().trim_end();
        Some(SourceSpan::new(start.into(), line.len()))
    }
}

/// Shows the whole line of a place, and no other.
struct Lines<'a> {
    file: &'a str,
    text: String,
}

impl SourceCode for Lines<'_> {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        _before: usize,
        _after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let at = self.text.floor_char_boundary(span.offset());
        let (before, after) = self.text.split_at(at);
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let rest = after.split('\n').next().unwrap_or_default();
        // The last character of a line that ends as on Windows is none that is drawn; with it, the line would be miscounted.
        let end = (at + rest.len() - usize::from(rest.ends_with('\r'))).max(at);
        let line = before.matches('\n').count();
        let column = before[start..].chars().count();
        Ok(Box::new(MietteSpanContents::new_named(
            self.file.to_owned(),
            &self.text.as_bytes()[start..end],
            SourceSpan::new(start.into(), end - start),
            line,
            column,
            line + 1,
        )))
    }
}

struct Drawn<'a> {
    problem: &'a Problem,
    file: &'a str,
    source: &'a Lines<'a>,
    span: Option<SourceSpan>,
}

impl fmt::Display for Drawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.span {
            Some(_) => f.write_str(&safe::line(&self.problem.message)),
            None => write!(f, "{}: {}", safe::line(self.file), safe::line(&self.problem.message)),
        }
    }
}

impl fmt::Debug for Drawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Drawn<'_> {}

impl Diagnostic for Drawn<'_> {
    fn severity(&self) -> Option<Level> {
        Some(match self.problem.severity {
            Severity::Error => Level::Error,
            Severity::Warning => Level::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.help.as_ref().map(|help| Box::new(safe::line(help)) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.span.map(|_| self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.span?;
        Some(Box::new(std::iter::once(LabeledSpan::new_primary_with_span(None, span))))
    }
}
