//! YAML text as a tree in which everything knows its place.
//!
//! A small, strict YAML: one document, maps with text keys that are written once, no anchors, aliases, merge keys or tags.
//! Whether a plain scalar is text, a number or a truth value is decided by who reads it.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span as Marks};

use super::problem::{Problem, code};

/// A range of bytes of the file.
pub type Span = Range<usize>;

/// The deepest nesting that is read. Ours needs six levels; a `map` may need some more.
const DEPTH_MAX: usize = 64;

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it stands, quotes included.
    pub span: Span,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Value {
    /// Text, a number, a truth value or nothing.
    Scalar {
        /// The text, unquoted.
        text: String,
        /// Whether it was written without quotes or block style, so that it may be something else than text.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A map, in the order in which it is written.
    Map(Vec<Entry>),
}

/// A key of a map and its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub name: String,
    /// Where the key stands.
    pub at: Span,
    /// The value.
    pub node: Node,
}

impl Node {
    /// Whether nothing is written there: an empty value, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What it is, for people.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            _ if self.is_null() => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// Reads a text. The tree is missing if the text is no YAML, or uses what we refuse.
pub fn parse(text: &str) -> (Option<Node>, Vec<Problem>) {
    let mut builder = Builder::new(text);
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, marks)) => builder.take(event, marks),
            Err(error) => Err(builder.unreadable(&error)),
        };
        if let Err(problem) = step {
            builder.problems.push(problem);
            return (None, builder.problems);
        }
    }
    (builder.root, builder.problems)
}

/// A list or map that is not complete yet.
enum Open {
    List { start: usize, items: Vec<Node> },
    Map { start: usize, entries: Vec<Entry>, name: Option<(String, Span)> },
}

struct Builder<'a> {
    text: &'a str,
    /// The byte of each character; the parser counts characters. Empty if they are the same.
    bytes: Vec<usize>,
    open: Vec<Open>,
    root: Option<Node>,
    problems: Vec<Problem>,
}

impl<'a> Builder<'a> {
    fn new(text: &'a str) -> Self {
        let bytes =
            if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(byte, _)| byte).collect() };
        Self { text, bytes, open: Vec::new(), root: None, problems: Vec::new() }
    }

    fn take(&mut self, event: Event<'_>, marks: Marks) -> Result<(), Problem> {
        let span = self.span(marks);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse(anchor, tag.is_some(), &span)?;
                self.scalar(text.into_owned(), style, span)
            }
            Event::SequenceStart(anchor, tag) => {
                refuse(anchor, tag.is_some(), &span)?;
                self.begin(Open::List { start: span.start, items: Vec::new() }, span)
            }
            Event::MappingStart(anchor, tag) => {
                refuse(anchor, tag.is_some(), &span)?;
                self.begin(Open::Map { start: span.start, entries: Vec::new(), name: None }, span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(_) => Err(refused(span, "an alias (`*name`)")),
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(Problem::new(code::YAML, span, "a second document begins here")
                    .help("one file holds one configuration: remove the `---`"))
            }
            _ => Ok(()),
        }
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, span: Span) -> Result<(), Problem> {
        if let Some(Open::Map { name: name @ None, .. }) = self.open.last_mut() {
            if text == "<<" && style == ScalarStyle::Plain {
                return Err(refused(span, "a merge key (`<<`)"));
            }
            *name = Some((text, span));
            return Ok(());
        }
        self.place(Node { span, value: Value::Scalar { text, plain: style == ScalarStyle::Plain } })
    }

    fn begin(&mut self, open: Open, span: Span) -> Result<(), Problem> {
        if matches!(self.open.last(), Some(Open::Map { name: None, .. })) {
            return Err(Problem::new(code::YAML, span, "a key must be a single value")
                .help("if this is text in braces or brackets, write it in quotes"));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(Problem::new(code::YAML, span, format!("nested more than {DEPTH_MAX} levels deep")));
        }
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self, span: Span) -> Result<(), Problem> {
        match self.open.pop() {
            Some(Open::List { start, items }) => {
                self.place(Node { span: start..span.end.max(start), value: Value::List(items) })
            }
            Some(Open::Map { start, entries, .. }) => {
                self.place(Node { span: start..span.end.max(start), value: Value::Map(entries) })
            }
            None => Ok(()),
        }
    }

    /// Puts a complete node where it belongs.
    fn place(&mut self, node: Node) -> Result<(), Problem> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, name, .. }) => {
                let Some((name, at)) = name.take() else {
                    return Err(Problem::new(code::YAML, node.span, "a value without a key"));
                };
                match entries.iter().find(|entry| entry.name == name) {
                    Some(first) => self.problems.push(duplicate(self.text, &name, at, &first.at)),
                    None => entries.push(Entry { name, at, node }),
                }
            }
        }
        Ok(())
    }

    fn span(&self, marks: Marks) -> Span {
        let start = self.byte(marks.start.index());
        start..self.byte(marks.end.index()).max(start)
    }

    fn byte(&self, character: usize) -> usize {
        if self.bytes.is_empty() {
            return character.min(self.text.len());
        }
        self.bytes.get(character).copied().unwrap_or(self.text.len())
    }

    fn unreadable(&self, error: &ScanError) -> Problem {
        let at = self.byte(error.marker().index());
        if error.info().contains("anchor") {
            return refused(at..at, "an alias (`*name`)");
        }
        let problem = Problem::new(code::YAML, at..at, format!("this is not YAML: {}", error.info()));
        if error.info().contains("mapping values") {
            return problem
                .help("text that holds `: ` or ` #` must be in quotes, or follow `|` on its own lines");
        }
        problem.help("look at the indentation (spaces, no tabs), the quotes and the brackets up to here")
    }
}

fn duplicate(text: &str, name: &str, at: Span, first: &Span) -> Problem {
    let line = text.get(..first.start).map_or(1, |before| before.matches('\n').count() + 1);
    Problem::new(code::DUPLICATE, at, format!("`{name}` is written twice"))
        .help(format!("it stands in line {line} already: keep one of the two, or give them different names"))
}

fn refuse(anchor: usize, tagged: bool, span: &Span) -> Result<(), Problem> {
    if anchor > 0 {
        return Err(refused(span.clone(), "an anchor (`&name`)"));
    }
    if tagged {
        return Err(refused(span.clone(), "a tag (`!name`)"));
    }
    Ok(())
}

fn refused(span: Span, what: &str) -> Problem {
    Problem::new(code::YAML, span, format!("{what} is not allowed"))
        .help("write the value out where it is needed, and text that begins with `&`, `*` or `!` in quotes")
}
