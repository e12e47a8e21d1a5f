//! Text in which `${ jq }` inserts.

use crate::{CompileError, Document, EvalError, Failure, Program, Scope, Variables};

/// A compiled text in which `${ jq }` inserts; `$${` writes a literal `${`.
#[derive(Debug)]
pub struct Template {
    source: String,
    segments: Vec<Segment>,
}

#[derive(Debug)]
enum Segment {
    Text(String),
    Insert(Program),
}

impl Template {
    /// Compile a text. Spans of errors are within `text`, also for the jq inside it.
    pub fn compile(text: &str, scope: &Scope) -> Result<Self, CompileError> {
        let mut segments = Vec::new();
        let mut plain = String::new();
        let mut at = 0;
        while let Some(found) = text[at..].find("${") {
            let open = at + found;
            if text[at..open].ends_with('$') {
                plain.push_str(&text[at..open - 1]);
                plain.push_str("${");
                at = open + 2;
                continue;
            }
            plain.push_str(&text[at..open]);
            if !plain.is_empty() {
                segments.push(Segment::Text(std::mem::take(&mut plain)));
            }
            let start = open + 2;
            let end = start + end_of_insert(&text[start..]).ok_or_else(|| unclosed(open))?;
            let program = Program::compile(&text[start..end], scope).map_err(|error| error.moved(start))?;
            segments.push(Segment::Insert(program));
            at = end + 1;
        }
        plain.push_str(&text[at..]);
        if !plain.is_empty() {
            segments.push(Segment::Text(plain));
        }
        Ok(Self { source: text.to_owned(), segments })
    }

    /// The text that was compiled.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether nothing is inserted, so that every rendering is the same.
    pub fn is_literal(&self) -> bool {
        self.segments.iter().all(|segment| matches!(segment, Segment::Text(_)))
    }

    /// The text with `filler` in the place of everything that is inserted.
    pub fn filled(&self, filler: &str) -> String {
        let parts = self.segments.iter().map(|segment| match segment {
            Segment::Text(text) => text,
            Segment::Insert(_) => filler,
        });
        parts.collect()
    }

    /// Append the rendering as JSON: a text that is exactly one `${…}` keeps the type of its value (null included), any other
    /// is a string.
    pub fn json(&self, input: &Document, vars: &Variables<'_>, out: &mut Vec<u8>) -> Result<(), EvalError> {
        if let [Segment::Insert(program)] = &self.segments[..] {
            return program.json(input, vars, out);
        }
        let text = self.text(input, vars)?;
        serde_json::to_writer(out, &text).expect("a vector takes any text");
        Ok(())
    }

    /// The rendering as text.
    ///
    /// Strings are inserted as they are, numbers and booleans as in JSON. Null, an array or an object has no text:
    /// [`Failure::NotText`], which names the expression that gave it; write `${ .name // "" }` where null is to be nothing.
    pub fn text(&self, input: &Document, vars: &Variables<'_>) -> Result<String, EvalError> {
        self.text_with(input, vars, |value, out| out.push_str(value))
    }

    /// The rendering as text, or `None` if the text is exactly one `${…}` and that gives null or nothing: for headers and
    /// query parameters that are left out when they have no value.
    pub fn optional_text(&self, input: &Document, vars: &Variables<'_>) -> Result<Option<String>, EvalError> {
        match &self.segments[..] {
            [Segment::Insert(program)] => program.text(input, vars),
            _ => self.text(input, vars).map(Some),
        }
    }

    /// The rendering as text, in which `escape` writes the inserted values, and only those: for the segments of a path, say.
    pub fn text_with(
        &self,
        input: &Document,
        vars: &Variables<'_>,
        escape: impl Fn(&str, &mut String),
    ) -> Result<String, EvalError> {
        let mut out = String::with_capacity(self.source.len());
        for segment in &self.segments {
            match segment {
                Segment::Text(text) => out.push_str(text),
                Segment::Insert(program) => escape(&inserted(program, input, vars)?, &mut out),
            }
        }
        Ok(out)
    }
}

fn inserted(program: &Program, input: &Document, vars: &Variables<'_>) -> Result<String, EvalError> {
    let failed = |failure: Failure| failure.in_expression(program.source());
    match program.first(input, vars, |output| output.text())? {
        Some(Some(text)) => Ok(text),
        Some(None) => Err(failed(Failure::NotText { found: "null" })),
        None => Err(failed(Failure::NoOutput)),
    }
}

fn unclosed(open: usize) -> CompileError {
    CompileError::new("`${` is not closed by `}`", open..open + 2)
        .with_help("write `$${` for the characters `${` themselves")
}

/// Where the `}` stands that closes an insert whose jq begins `text`; braces within brackets, strings and comments of
/// the jq do not count.
fn end_of_insert(text: &str) -> Option<usize> {
    let mut closers = vec![b'}'];
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        let closer = *closers.last()?;
        match (closer, byte) {
            (b'"', b'\\') => {
                if let Some((_, b'(')) = bytes.next() {
                    closers.push(b')');
                }
            }
            (closer, byte) if closer == byte => {
                closers.pop();
                if closers.is_empty() {
                    return Some(at);
                }
            }
            (b'"', _) => {}
            (_, b'"') => closers.push(b'"'),
            (_, b'(') => closers.push(b')'),
            (_, b'[') => closers.push(b']'),
            (_, b'{') => closers.push(b'}'),
            (_, b'#') => {
                bytes.find(|(_, byte)| *byte == b'\n');
            }
            _ => {}
        }
    }
    None
}
