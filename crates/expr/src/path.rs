//! Plain paths, walked over the text of a document.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::Term;
use jaq_core::path::{Opt, Part};

use crate::outline::{Kind, Node};
use crate::scope::variable;
use crate::{Document, Failure, Scope, Variables};

/// Most characters of a value that the message of a failed step quotes.
const QUOTE_CHARS_MAX: usize = 60;

/// A path such as `.`, `.customer.email`, `.items[0].sku` or `$event.type`, any part of it with `?`.
#[derive(Debug)]
pub(crate) struct Path {
    /// The variable that it starts from; without one, the input.
    variable: Option<&'static str>,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    index: Index,
    /// Give nothing, instead of failing, where the value has no such parts at all.
    optional: bool,
}

#[derive(Debug)]
enum Index {
    Key(String),
    Position(isize),
}

/// Where a path leads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found<'a> {
    /// To a value of the document.
    Value(Node<'a>),
    /// Into something missing, which is null.
    Null,
    /// Nowhere: a part with `?` stopped it.
    Nothing,
}

impl Path {
    /// The path that a term is, if it is one.
    pub(crate) fn from_term(term: &Term<&str>, scope: &Scope) -> Option<Self> {
        let (start, parts) = match term {
            Term::Path(start, path) => (&**start, &path.0[..]),
            start => (start, &[][..]),
        };
        let variable = match start {
            Term::Id => None,
            Term::Var(name) => Some(scope.find(name)?),
            _ => return None,
        };
        let step = |(part, opt): &(Part<Term<&str>>, Opt)| match part {
            Part::Index(index) => {
                Some(Step { index: index_of(index)?, optional: matches!(opt, Opt::Optional) })
            }
            Part::Range(..) => None,
        };
        Some(Self { variable, steps: parts.iter().map(step).collect::<Option<_>>()? })
    }

    /// Follow the path.
    pub(crate) fn find<'a>(&self, input: &'a Document, vars: &Variables<'a>) -> Result<Found<'a>, Failure> {
        let start = self.variable.map_or(Ok(input), |name| variable(name, vars))?;
        let mut node = start.root()?;
        for step in &self.steps {
            match step.follow(node) {
                Ok(Some(next)) => node = next,
                // Whatever is looked up in null is null.
                Ok(None) => return Ok(Found::Null),
                Err(_) if step.optional => return Ok(Found::Nothing),
                Err(failure) => return Err(failure),
            }
        }
        Ok(Found::Value(node))
    }
}

impl Step {
    fn follow<'a>(&self, node: Node<'a>) -> Result<Option<Node<'a>>, Failure> {
        match (node.kind(), &self.index) {
            (Kind::Null, _) | (Kind::Object, Index::Position(_)) => Ok(None),
            (Kind::Object, Index::Key(key)) => Ok(node.field(key)),
            (Kind::Array, Index::Position(position)) => Ok(node.item(*position)),
            (_, index) => Err(cannot_index(node, index)),
        }
    }
}

/// jq's message for looking up a part of something that has no such parts.
fn cannot_index(node: Node<'_>, index: &Index) -> Failure {
    let raw = node.raw_str();
    let value = match raw.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &raw[..end]),
        None => raw.to_owned(),
    };
    match index {
        Index::Key(key) => Failure::runtime(&format!("cannot index {value} with {}", serde_json::json!(key))),
        Index::Position(position) => Failure::runtime(&format!("cannot index {value} with {position}")),
    }
}

fn index_of(term: &Term<&str>) -> Option<Index> {
    match term {
        Term::Num(text) => text.parse().ok().map(Index::Position),
        Term::Neg(inner) => match &**inner {
            Term::Num(text) => text.parse().ok().map(|position: isize| Index::Position(-position)),
            _ => None,
        },
        term => literal_string(term).map(Index::Key),
    }
}

/// The text of a string literal in which nothing is inserted.
pub(crate) fn literal_string(term: &Term<&str>) -> Option<String> {
    let Term::Str(None, parts) = term else { return None };
    let mut text = String::new();
    for part in parts {
        match part {
            StrPart::Str(part) => text.push_str(part),
            StrPart::Char(character) => text.push(*character),
            StrPart::Term(_) => return None,
        }
    }
    Some(text)
}
