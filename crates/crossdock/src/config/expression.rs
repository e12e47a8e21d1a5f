//! Expressions and templates: compiled where they stand, their errors told at the place in the file.

use crossdock_expr::{CompileError, Program, Scope, Template, Tree};
use serde_json::Value as Json;

use super::{
    place,
    problem::{Problem, code},
    reader::Reader,
    yaml::{Entry, Node, Span, Value},
};

/// What expressions of a flow may use: `.` is the event's data, `$event` its attributes.
const SCOPE: Scope = Scope::new(&["event"]);

impl Reader<'_> {
    /// A field that is a jq expression.
    pub fn program(&mut self, node: &Node, what: &str) -> Option<Program> {
        let text = self.text(node, what)?;
        match Program::compile(text, &SCOPE) {
            Ok(program) => Some(program),
            Err(error) if text.contains("${") => {
                let help = format!("{what} is jq already: write it without `${{ }}`");
                self.not_compiled(&node.span, text, CompileError { help: Some(help), ..error })
            }
            Err(error) => self.not_compiled(&node.span, text, error),
        }
    }

    /// A field that is text in which `${ jq }` inserts.
    pub fn template(&mut self, node: &Node, what: &str) -> Option<Template> {
        let text = self.text(node, what)?;
        match Template::compile(text, &SCOPE) {
            Ok(template) => Some(template),
            Err(error) => self.not_compiled(&node.span, text, error),
        }
    }

    /// What a flow makes of an event: one jq program, or a tree of templates.
    pub fn map(&mut self, node: &Node) -> Option<Tree> {
        match &node.value {
            Value::Scalar { .. } => self.program(node, "`map`").map(Tree::program),
            _ => self.tree(node),
        }
    }

    fn tree(&mut self, node: &Node) -> Option<Tree> {
        match &node.value {
            Value::List(items) => self.all(items, Self::tree).map(Tree::array),
            Value::Map(entries) => self.all(entries, Self::branch).map(Tree::object),
            Value::Scalar { text, plain } => match plain.then(|| literal(text)) {
                Some(Literal::Json(value)) => Some(Tree::literal(&value)),
                Some(Literal::Unclear(help)) => {
                    let message = format!("`{text}` may be a number or text");
                    self.report(Problem::new(code::WRONG_VALUE, node.span.clone(), message).help(help));
                    None
                }
                Some(Literal::Text) => {
                    self.warn_of_plain_path(node, text);
                    self.template(node, "the value").map(Tree::template)
                }
                None => self.template(node, "the value").map(Tree::template),
            },
        }
    }

    fn warn_of_plain_path(&mut self, node: &Node, text: &str) {
        let path = text.strip_prefix("$event.").or(text.strip_prefix('.')).unwrap_or_default();
        if path.starts_with(|first: char| first.is_ascii_alphabetic()) {
            let problem =
                Problem::new(code::PLAIN_TEXT, node.span.clone(), "this is sent as text, as it stands here");
            self.report(
                problem
                    .help(format!("write `\"${{{text}}}\"` to insert what it stands for, or quote it"))
                    .warning(),
            );
        }
    }

    fn branch(&mut self, entry: &Entry) -> Option<(String, Tree)> {
        self.tree(&entry.node).map(|tree| (entry.name.clone(), tree))
    }

    /// Reads every item, also after one that is wrong.
    fn all<N, T>(&mut self, items: &[N], read: impl Fn(&mut Self, &N) -> Option<T>) -> Option<Vec<T>> {
        let read: Vec<_> = items.iter().map(|item| read(self, item)).collect();
        read.into_iter().collect()
    }

    fn not_compiled<T>(&mut self, at: &Span, text: &str, error: CompileError) -> Option<T> {
        let span = place::within(&self.problems.text, at, text, &error.span);
        let problem = Problem::new(code::EXPRESSION, span, error.message);
        self.report(Problem { help: error.help, ..problem });
        None
    }
}

/// What a plain scalar of a tree is by the rules of YAML 1.2.
enum Literal {
    Json(Json),
    Text,
    Unclear(&'static str),
}

fn literal(text: &str) -> Literal {
    let json = match text {
        "" | "~" | "null" | "Null" | "NULL" => Json::Null,
        "true" | "True" | "TRUE" => Json::Bool(true),
        "false" | "False" | "FALSE" => Json::Bool(false),
        _ => return number(text),
    };
    Literal::Json(json)
}

const NUMBER_HELP: &str = "write text in quotes, and a number as JSON has it (no leading `0` or `+`)";

fn number(text: &str) -> Literal {
    let digits = text.trim_start_matches(['-', '+']);
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return Literal::Text;
    }
    if let Ok(number) = serde_json::from_str::<serde_json::Number>(text) {
        return Literal::Json(Json::Number(number));
    }
    if digits.starts_with("0x") || digits.starts_with("0o") {
        return Literal::Unclear(NUMBER_HELP);
    }
    let numeric = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    match digits.bytes().all(numeric) && digits.parse::<f64>().is_ok() {
        true => Literal::Unclear(NUMBER_HELP),
        false => Literal::Text,
    }
}
