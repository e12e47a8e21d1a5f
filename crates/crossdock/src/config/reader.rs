//! Typed access to the tree. What does not fit is collected, so that one reading tells everything that is wrong.

use std::time::Duration;

use super::{
    duration::{self, DURATION_HELP},
    place,
    problem::{Problem, Problems, code},
    reference::{self, Environment, Reason, Resolved},
    yaml::{Entry, Node, Span, Value},
};

/// Reads nodes and collects what is wrong with them.
pub struct Reader<'a> {
    /// What was found so far.
    pub problems: Problems,
    environment: Environment<'a>,
}

/// The fields of a map whose names were checked.
pub struct Fields<'n> {
    entries: &'n [Entry],
    /// What the map describes, for messages: `the flow`.
    what: &'n str,
    /// Where to point if something is missing.
    owner: Span,
}

impl<'n> Fields<'n> {
    /// The value of a field, if it is written.
    pub fn get(&self, name: &str) -> Option<&'n Node> {
        self.entry(name).map(|entry| &entry.node)
    }

    /// The field, if it is written.
    pub fn entry(&self, name: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// A field of the map that a field holds, if both are written.
    pub fn inner(&self, name: &str, inner: &str) -> Option<&'n Entry> {
        match &self.get(name)?.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.name == inner),
            _ => None,
        }
    }

    /// Where to point if something is missing.
    pub fn owner(&self) -> &Span {
        &self.owner
    }
}

impl<'a> Reader<'a> {
    /// A reader for the file that `problems` is about.
    pub fn new(problems: Problems, environment: Environment<'a>) -> Self {
        Self { problems, environment }
    }

    /// How variables are looked up.
    pub fn environment(&self) -> Environment<'a> {
        self.environment
    }

    /// Collects a problem.
    pub fn report(&mut self, problem: Problem) {
        self.problems.items.push(problem);
    }

    /// The entries of a map. Nothing counts as an empty map.
    pub fn entries<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Entry]> {
        match &node.value {
            Value::Map(entries) => Some(entries),
            _ if node.is_null() => Some(&[]),
            _ => self.wrong_type(node, &format!("{what} must be a map of names and values")),
        }
    }

    /// The fields of a map, of which only these are allowed.
    pub fn fields<'n>(
        &mut self,
        node: &'n Node,
        what: &'n str,
        owner: &Span,
        allowed: &[&str],
    ) -> Option<Fields<'n>> {
        let entries = self.entries(node, what)?;
        for entry in entries.iter().filter(|entry| !allowed.contains(&entry.name.as_str())) {
            let message = format!("{what} has no field `{}`", entry.name);
            self.report(
                Problem::new(code::UNKNOWN_FIELD, entry.at.clone(), message)
                    .help(choices(&entry.name, allowed)),
            );
        }
        Some(Fields { entries, what, owner: owner.clone() })
    }

    /// A field that must be there.
    pub fn required<'n>(&mut self, fields: &Fields<'n>, name: &str, about: &str) -> Option<&'n Node> {
        let found = fields.get(name);
        if found.is_none() {
            let message = format!("{} needs `{name}`", fields.what);
            self.report(Problem::new(code::MISSING_FIELD, fields.owner.clone(), message).help(about));
        }
        found
    }

    /// The items of a list.
    pub fn list<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        match &node.value {
            Value::List(items) => Some(items),
            _ => self.wrong_type(node, &format!("{what} must be a list")),
        }
    }

    /// A single value as it is written.
    pub fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.value {
            _ if node.is_null() => {
                let problem = Problem::new(code::WRONG_TYPE, node.span.clone(), format!("{what} is empty"));
                self.report(problem.help("write a value, or remove the line"));
                None
            }
            Value::Scalar { text, .. } => Some(text),
            _ => self.wrong_type(node, &format!("{what} must be text")),
        }
    }

    /// A single value with its references put in.
    pub fn resolved(&mut self, node: &Node, what: &str) -> Option<Resolved> {
        let text = self.text(node, what)?;
        match reference::resolve(text, self.environment) {
            Ok(resolved) => Some(resolved),
            Err(problems) => {
                for problem in problems {
                    let span = place::within(&self.problems.text, &node.span, text, &problem.span);
                    self.report(unresolved(span, problem.reason));
                }
                None
            }
        }
    }

    /// A single value, references put in and read by `read`. Only what the file itself says is quoted if it fails.
    pub fn parsed<T>(
        &mut self,
        node: &Node,
        what: &str,
        help: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let resolved = self.resolved(node, what)?;
        let value = read(&resolved.text);
        if value.is_none() {
            let message = match (&node.value, resolved.inserted.is_empty()) {
                (Value::Scalar { text, .. }, true) => format!("{what} cannot be `{}`", shorten(text)),
                _ => format!("{what} cannot be what its reference stands for"),
            };
            self.report(Problem::new(code::WRONG_VALUE, node.span.clone(), message).help(help));
        }
        value
    }

    /// A duration.
    pub fn duration(&mut self, node: &Node, what: &str) -> Option<Duration> {
        self.parsed(node, what, DURATION_HELP, duration::duration)
    }

    /// A whole number between two limits.
    pub fn integer(&mut self, node: &Node, what: &str, from: u64, to: u64) -> Option<u64> {
        let help = match to {
            u64::MAX => format!("a whole number of at least {from}"),
            _ => format!("a whole number from {from} to {to}"),
        };
        self.parsed(node, what, &help, |text| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok())?.filter(|number| (from..=to).contains(number))
        })
    }

    /// A truth value.
    pub fn bool(&mut self, node: &Node, what: &str) -> Option<bool> {
        self.parsed(node, what, "`true` or `false`", |text| match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }

    /// A word out of a few.
    pub fn choice<'c>(&mut self, node: &Node, what: &str, allowed: &[&'c str]) -> Option<&'c str> {
        let help = choices(self.written(node), allowed);
        self.parsed(node, what, &help, |text| allowed.iter().copied().find(|word| *word == text))
    }

    /// Reports that a node is of the wrong type.
    pub fn wrong_type<T>(&mut self, node: &Node, message: &str) -> Option<T> {
        let problem = Problem::new(code::WRONG_TYPE, node.span.clone(), message);
        self.report(problem.help(format!("this is {}", node.kind())));
        None
    }

    fn written<'n>(&self, node: &'n Node) -> &'n str {
        match &node.value {
            Value::Scalar { text, .. } => text,
            _ => "",
        }
    }
}

/// What is told of a reference that was not put in.
pub fn unresolved(span: Span, reason: Reason) -> Problem {
    match reason {
        Reason::Missing(name) => Problem::new(
            code::MISSING_VARIABLE,
            span,
            format!("the environment variable `{name}` is not set"),
        )
        .help(format!(
            "set it before the start: `export {name}=...`; a variable that is set to nothing counts as not set"
        )),
        Reason::Malformed => Problem::new(code::WRONG_REFERENCE, span, "this is not a reference").help(
            "only `${env.NAME}` and `${env.NAME:default}` can stand here; write `$${` for a literal `${`",
        ),
    }
}

/// What is allowed, the nearest first if there is one.
pub fn choices(written: &str, allowed: &[&str]) -> String {
    let mut sorted = allowed.to_vec();
    sorted.sort_unstable();
    let list = sorted.join(", ");
    match nearest(written, &sorted) {
        Some(near) => format!("did you mean `{near}`? allowed here: {list}"),
        None if sorted.is_empty() => "nothing is allowed here".to_owned(),
        None => format!("allowed here: {list}"),
    }
}

/// The name that was probably meant.
pub fn nearest<'n>(written: &str, names: &[&'n str]) -> Option<&'n str> {
    names
        .iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(written, name), *name))
        .filter(|(likeness, _)| *likeness >= 0.55)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

/// As much of a text as a message may quote.
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
