//! `to:` which action of which connection, and its fields.

use crossdock_core::{ActionSpec, Connection, ConnectionName, Field, FieldKind, WrittenField};
use crossdock_engine::{FieldPlan, FieldValue};
use crossdock_expr::Template;

use super::{
    connections::Known,
    problem::{Problem, code},
    reader::{Fields, Reader, choices},
    yaml::{Node, Span},
};

/// Where a flow sends its events.
pub struct Target {
    /// The connection.
    pub connection: ConnectionName,
    /// The action.
    pub action: String,
    /// The action's fields that are written.
    pub fields: Vec<FieldPlan>,
}

/// Who knows whether a field of an action could work; nobody if the connection itself is wrong.
#[derive(Clone, Copy)]
struct Checked<'a> {
    connection: &'a dyn Connection,
    action: &'a ActionSpec,
}

impl Reader<'_> {
    /// The target of a flow.
    pub fn to(
        &mut self,
        flow: &Fields<'_>,
        connections: &[Known<'_>],
        used: &mut Vec<String>,
    ) -> Option<Target> {
        const HELP: &str = "for example `to: { connection: NAME, action: NAME }`";
        let node = self.required(flow, "to", HELP)?;
        let entries = self.entries(node, "`to`")?;
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
        let to = self.fields(node, "`to`", &node.span, &names)?;
        let connection =
            self.required(&to, "connection", HELP).and_then(|node| self.known(node, connections));
        let Some(connection) = connection else {
            self.required(&to, "action", "what the connection shall do");
            return None;
        };
        used.push(connection.name.to_owned());
        let action = self.action(&to, connection)?;
        let checked = connection.plan.as_ref().map(|plan| Checked { connection: &*plan.connection, action });
        let fields = self.action_fields(node, action, checked);
        Some(Target {
            connection: ConnectionName::new(connection.name).ok()?,
            action: action.name.to_owned(),
            fields: fields?,
        })
    }

    fn action<'c>(&mut self, to: &Fields<'_>, connection: &Known<'c>) -> Option<&'c ActionSpec> {
        let spec = connection.spec?;
        let names: Vec<_> = spec.actions.iter().map(|action| action.name).collect();
        if names.is_empty() {
            let message = format!("the connector `{}` has no actions: events only come in", spec.name);
            let at = to.get("connection").map_or(to.owner().clone(), |node| node.span.clone());
            self.report(Problem::new(code::CONFLICT, at, message));
            return None;
        }
        let node = self.required(to, "action", &format!("one of: {}", names.join(", ")))?;
        let written = self.text(node, "`action`")?;
        let found = spec.actions.iter().find(|action| action.name == written);
        if found.is_none() {
            let message = format!("the connector `{}` has no action `{written}`", spec.name);
            self.report(
                Problem::new(code::UNKNOWN_NAME, node.span.clone(), message).help(choices(written, &names)),
            );
        }
        found
    }

    fn action_fields(
        &mut self,
        node: &Node,
        action: &ActionSpec,
        checked: Option<Checked<'_>>,
    ) -> Option<Vec<FieldPlan>> {
        let mut allowed = vec!["connection", "action"];
        allowed.extend(action.fields.iter().map(|field| field.name));
        let what = format!("the action `{}`", action.name);
        let written = self.fields(node, &what, &node.span, &allowed)?;
        let mut plans = Vec::new();
        let mut whole = true;
        for field in action.fields {
            match written.get(field.name) {
                Some(node) => match self.field_value(node, field, checked) {
                    Some(value) => plans.push(FieldPlan { name: field.name, kind: field.kind, value }),
                    None => whole = false,
                },
                None if field.required => {
                    self.required(&written, field.name, field.about);
                    whole = false;
                }
                None => {}
            }
        }
        whole.then_some(plans)
    }

    fn field_value(
        &mut self,
        node: &Node,
        field: &Field,
        checked: Option<Checked<'_>>,
    ) -> Option<FieldValue> {
        let what = format!("`{}`", field.name);
        match field.kind {
            FieldKind::TextMap => {
                let entries = self.entries(node, &what)?;
                let read: Vec<_> = entries
                    .iter()
                    .map(|entry| {
                        let template = self.template(&entry.node, &format!("`{}`", entry.name))?;
                        self.check(checked, field, Some(&entry.name), &template, &entry.at)?;
                        Some((entry.name.clone(), template))
                    })
                    .collect();
                return read.into_iter().collect::<Option<_>>().map(FieldValue::TextMap);
            }
            FieldKind::Text | FieldKind::Path | FieldKind::Url => {}
            _ => self.constant(node, &what, field.kind)?,
        }
        let template = self.template(node, &what)?;
        self.check(checked, field, None, &template, &node.span)?;
        Some(FieldValue::Text(template))
    }

    /// Asks the connection whether the field could work at all.
    fn check(
        &mut self,
        checked: Option<Checked<'_>>,
        field: &Field,
        name: Option<&str>,
        template: &Template,
        at: &Span,
    ) -> Option<()> {
        let Some(Checked { connection, action }) = checked else { return Some(()) };
        let text = template.filled("x");
        let written = WrittenField { action: action.name, field: field.name, name, text: &text };
        connection
            .check(written)
            .map_err(|message| self.report(Problem::new(code::WRONG_VALUE, at.clone(), message)))
            .ok()
    }

    /// Checks a field that cannot hold expressions.
    fn constant(&mut self, node: &Node, what: &str, kind: FieldKind) -> Option<()> {
        if self.text(node, what)?.contains("${") {
            let problem = Problem::new(
                code::WRONG_VALUE,
                node.span.clone(),
                format!("{what} cannot hold an expression"),
            );
            let help = match kind {
                FieldKind::Choice(words) => choices("", words),
                _ => "write the value itself".to_owned(),
            };
            self.report(problem.help(help));
            return None;
        }
        match kind {
            FieldKind::Integer => self.integer(node, what, 0, u64::MAX).map(drop),
            FieldKind::Bool => self.bool(node, what).map(drop),
            FieldKind::Duration => self.duration(node, what).map(drop),
            FieldKind::Choice(words) => self.choice(node, what, words).map(drop),
            _ => self.wrong_type(node, &format!("{what} cannot be set in a flow")),
        }
    }
}
