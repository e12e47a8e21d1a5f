//! An event in the structured JSON form, for people and programs that read it back.

use base64::{Engine, engine::general_purpose::STANDARD};
use crossdock_core::Event;
use serde_json::{Map, Value};

use crate::{media, scan::scan};

/// The event as a JSON object.
///
/// `data` is JSON where the data is JSON, text where its type says that it is some other UTF-8 text, and otherwise
/// `data_base64`: also for JSON that would come out changed (numbers that a 64-bit reader may change, duplicate names).
pub(crate) fn structured(event: &Event) -> Value {
    let mut object = Map::new();
    let time = event.time.map(|time| time.to_string());
    let attributes = [
        ("specversion", Some("1.0")),
        ("id", Some(event.id.as_str())),
        ("source", Some(event.source.as_str())),
        ("type", Some(event.kind.as_str())),
        ("subject", event.subject.as_deref()),
        ("time", time.as_deref()),
        ("datacontenttype", event.content_type.as_deref()),
        ("dataschema", event.schema.as_deref()),
        ("partitionkey", event.key.as_deref()),
    ];
    for (name, value) in attributes {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            object.insert(name.to_owned(), value.into());
        }
    }
    for (name, value) in &event.extensions {
        object.insert(name.clone(), value.as_str().into());
    }
    if !event.data.is_empty() {
        let (name, value) = data(event);
        object.insert(name.to_owned(), value);
    }
    Value::Object(object)
}

fn data(event: &Event) -> (&'static str, Value) {
    let content_type = event.content_type.as_deref().filter(|media_type| !media_type.is_empty());
    let shown = if content_type.is_none_or(media::is_json) {
        unchanged(&event.data)
    } else if content_type.is_some_and(media::is_utf8) {
        std::str::from_utf8(&event.data).ok().map(Value::from)
    } else {
        None
    };
    match shown {
        Some(value) => ("data", value),
        None => ("data_base64", STANDARD.encode(&event.data).into()),
    }
}

/// The bytes as a JSON value, if they are JSON and nothing is lost by reading them.
fn unchanged(bytes: &[u8]) -> Option<Value> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let shape = scan(bytes);
    (shape.wide_numbers == 0 && shape.members == members(&value)).then_some(value)
}

fn members(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(members).sum(),
        Value::Object(object) => object.len() + object.values().map(members).sum::<usize>(),
        _ => 0,
    }
}
