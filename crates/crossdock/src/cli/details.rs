//! One thing with all its fields, whatever they are: names on the left, then lists as tables, then nested things.

use serde_json::{Map, Value};

use super::{age, columns, deliveries, screen::Screen, table};
use crate::safe;

/// The fields of a thing, in the order of the API.
pub fn render(value: &Value, screen: &Screen) -> String {
    let mut parts = Vec::new();
    add(value, "", screen, &mut parts);
    parts.join("\n\n")
}

fn add(value: &Value, heading: &str, screen: &Screen, parts: &mut Vec<String>) {
    let Value::Object(fields) = value else {
        parts.push(titled(heading, &table::text(Some(value))));
        return;
    };
    let flat: Vec<_> = fields.iter().filter(|(name, value)| is_flat(name, value)).collect();
    if !flat.is_empty() {
        parts.push(titled(heading, &pairs(&flat, screen)));
    }
    for (name, value) in fields.iter().filter(|(name, value)| !is_flat(name, value)) {
        let heading = if heading.is_empty() { name.clone() } else { format!("{heading}.{name}") };
        match value {
            payload if is_payload(name) => parts.push(titled(&heading, &safe::json(&format!("{payload:#}")))),
            Value::Array(items) => {
                parts.push(titled(&heading, &list(name, items, screen)));
                parts.extend(last_answer(items));
            }
            other => add(other, &heading, screen, parts),
        }
    }
}

/// Data of people, which is shown as it is.
fn is_payload(name: &str) -> bool {
    matches!(name, "cloudevent" | "body")
}

fn is_flat(name: &str, value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty() && !is_payload(name),
        Value::Array(items) => {
            !items.iter().any(Value::is_object) && !is_payload(name) && name != "deliveries"
        }
        _ => true,
    }
}

fn is_nothing(value: &Value) -> bool {
    value.is_null()
        || value.as_array().is_some_and(Vec::is_empty)
        || value.as_str().is_some_and(str::is_empty)
}

fn titled(heading: &str, text: &str) -> String {
    if heading.is_empty() { text.to_owned() } else { format!("{}\n{text}", heading.to_uppercase()) }
}

fn pairs(fields: &[(&String, &Value)], screen: &Screen) -> String {
    let mut drawn = table::blank(screen);
    for (name, value) in fields.iter().filter(|(_, value)| !is_nothing(value)) {
        drawn.add_row([name.as_str(), &scalar(name, value, screen)]);
    }
    table::lines(&mut drawn)
}

fn list(name: &str, items: &[Value], screen: &Screen) -> String {
    if name == "deliveries" {
        return deliveries::render(items, screen);
    }
    match columns::of(name) {
        Some(columns) => table::render(items, columns, screen),
        None => table_of_all_fields(items, screen),
    }
}

/// What the other side answered to the last of some attempts.
fn last_answer(attempts: &[Value]) -> Option<String> {
    let excerpt = attempts.last()?.get("excerpt")?.as_str()?;
    Some(titled("the last answer", &safe::lines(excerpt)))
}

fn table_of_all_fields(items: &[Value], screen: &Screen) -> String {
    let empty = Map::new();
    let fields = |item: &Value| item.as_object().cloned().unwrap_or_else(|| empty.clone());
    let mut names: Vec<String> = Vec::new();
    for (name, value) in items.iter().flat_map(fields) {
        if !value.is_null() && !names.contains(&name) {
            names.push(name);
        }
    }
    let mut drawn = table::blank(screen);
    drawn.set_header(names.iter().map(|name| name.to_uppercase()));
    for item in items {
        drawn.add_row(names.iter().map(|name| match item.get(name) {
            Some(value) => scalar(name, value, screen),
            None => "-".to_owned(),
        }));
    }
    table::lines(&mut drawn)
}

/// A value in one cell; moments by the ending of their name.
fn scalar(name: &str, value: &Value, screen: &Screen) -> String {
    match name {
        "at" | "since" | "until" | "time" => screen.moment(Some(value)),
        "selection" if value.as_object().is_some_and(Map::is_empty) => "every open dead letter".to_owned(),
        "rate" if value.is_number() => format!("{}/s", table::text(Some(value))),
        _ if name.ends_with("_at") => screen.moment(Some(value)),
        _ if screen.terminal && value.is_u64() => age::count(value.as_u64().unwrap_or_default()),
        _ => table::text(Some(value)),
    }
}
