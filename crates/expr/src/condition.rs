//! Comparisons of a path with a literal, and `and`/`or` of them, decided over the text of a document.

use jaq_core::load::parse::{BinaryOp, Term};
use jaq_core::ops::Cmp;
use jaq_json::Num;

use crate::outline::{Kind, Node};
use crate::path::{Found, Path, literal_string};
use crate::value::number;
use crate::{Document, Failure, Scope, Variables};

/// A condition that needs no jq.
#[derive(Debug)]
pub(crate) enum Condition {
    /// Whether what a path leads to is a literal (or is not, if `equal` is false).
    Compare {
        path: Path,
        literal: Literal,
        equal: bool,
    },
    /// Whether what a path leads to is neither null nor false. Only beside `and` and `or`.
    Truth(Path),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
}

#[derive(Debug)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Number(Num),
    String(String),
}

impl Condition {
    /// The condition that a term is, if it is one.
    pub(crate) fn from_term(term: &Term<&str>, scope: &Scope) -> Option<Self> {
        let Term::BinOp(left, op, right) = term else { return None };
        let operand = |term: &Term<&str>| {
            let truth = || Path::from_term(term, scope).map(Self::Truth);
            Self::from_term(term, scope).or_else(truth).map(Box::new)
        };
        match op {
            BinaryOp::And => Some(Self::And(operand(left)?, operand(right)?)),
            BinaryOp::Or => Some(Self::Or(operand(left)?, operand(right)?)),
            BinaryOp::Cmp(cmp @ (Cmp::Eq | Cmp::Ne)) => {
                let (path, literal) = match (Path::from_term(left, scope), Path::from_term(right, scope)) {
                    (Some(path), None) => (path, Literal::from_term(right)?),
                    (None, Some(path)) => (path, Literal::from_term(left)?),
                    _ => return None,
                };
                Some(Self::Compare { path, literal, equal: matches!(cmp, Cmp::Eq) })
            }
            _ => None,
        }
    }

    /// Decide; `None` is jq's "no output", which a path with `?` can lead to.
    pub(crate) fn decide<'a>(
        &self,
        input: &'a Document,
        vars: &Variables<'a>,
    ) -> Result<Option<bool>, Failure> {
        match self {
            Self::Compare { path, literal, equal } => Ok(match path.find(input, vars)? {
                Found::Value(node) => Some(literal.is(node) == *equal),
                Found::Null => Some(matches!(literal, Literal::Null) == *equal),
                Found::Nothing => None,
            }),
            Self::Truth(path) => Ok(match path.find(input, vars)? {
                Found::Value(node) => Some(is_true(node)),
                Found::Null => Some(false),
                Found::Nothing => None,
            }),
            Self::And(left, right) => match left.decide(input, vars)? {
                Some(true) => right.decide(input, vars),
                decided => Ok(decided),
            },
            Self::Or(left, right) => match left.decide(input, vars)? {
                Some(false) => right.decide(input, vars),
                decided => Ok(decided),
            },
        }
    }
}

/// Whether a value is neither null nor false.
pub(crate) fn is_true(node: Node<'_>) -> bool {
    !matches!(node.raw(), b"null" | b"false")
}

impl Literal {
    fn from_term(term: &Term<&str>) -> Option<Self> {
        match term {
            Term::Num(text) => Some(Self::Number(number(text))),
            Term::Neg(inner) => match &**inner {
                Term::Num(text) => Some(Self::Number(-number(text))),
                _ => None,
            },
            Term::Call("null", args) if args.is_empty() => Some(Self::Null),
            Term::Call("true", args) if args.is_empty() => Some(Self::Bool(true)),
            Term::Call("false", args) if args.is_empty() => Some(Self::Bool(false)),
            term => literal_string(term).map(Self::String),
        }
    }

    fn is(&self, node: Node<'_>) -> bool {
        match (self, node.kind()) {
            (Self::Null, Kind::Null) => true,
            (Self::Bool(bool), Kind::Bool) => *bool == is_true(node),
            (Self::Number(literal), Kind::Number) => *literal == number(node.raw_str()),
            (Self::String(text), Kind::String) => node.is_string(text),
            _ => false,
        }
    }
}
