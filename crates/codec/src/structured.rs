//! The JSON format: one event, or a list of them.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use crossdock_core::{Event, Malformed};
use serde_json::value::RawValue;

use crate::{
    attributes::{Draft, check_name},
    items::{self, Items},
    json, media,
    members::{self, Members},
    refusal::{refuse, whole},
};

/// Reads a list of events: for each one the event or why it is none.
pub(crate) fn batch(body: &Bytes) -> Result<Vec<Result<Event, Malformed>>, Malformed> {
    if !begins_with(body, b'[') {
        return Err(whole("must be a JSON list of events"));
    }
    let Items(items) = serde_json::from_slice(body).map_err(|error| unread(&error, items::TOO_MANY))?;
    let read = |(n, item): (usize, &&RawValue)| {
        let slice = body.slice_ref(item.get().as_bytes());
        event(&slice, &format!("/{n}"))
    };
    Ok(items.iter().enumerate().map(read).collect())
}

/// Reads one event. `place` is where it stands in the request.
pub(crate) fn event(body: &Bytes, place: &str) -> Result<Event, Malformed> {
    let within =
        |malformed: Malformed| Malformed { pointer: format!("{place}{}", malformed.pointer), ..malformed };
    if !begins_with(body, b'{') {
        let form = if place.is_empty() && begins_with(body, b'[') {
            "is a list; send lists as `application/cloudevents-batch+json`"
        } else {
            "must hold each event as a JSON object"
        };
        return Err(within(whole(form)));
    }
    let Members(members) =
        serde_json::from_slice(body).map_err(|error| within(unread(&error, members::TOO_MANY)))?;
    collect(body, &members).map_err(within)
}

/// Why a list or object could not be read. Anything may be in it, so where the JSON is right only the number can be wrong.
fn unread(error: &serde_json::Error, too_many: &str) -> Malformed {
    if error.is_data() { whole(too_many) } else { whole(format!("is not JSON: {error}")) }
}

fn begins_with(body: &[u8], byte: u8) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&byte)
}

fn collect(body: &Bytes, members: &[(std::borrow::Cow<'_, str>, &RawValue)]) -> Result<Event, Malformed> {
    let mut draft = Draft::default();
    let (mut data, mut data_base64) = (None, None);
    for (name, value) in members {
        check_name(name)?;
        draft.see(name)?;
        match name.as_ref() {
            "data" => data = Some(*value),
            "data_base64" if value.get() != "null" => data_base64 = Some(*value),
            // The JSON format says that null is the same as leaving the attribute out.
            _ if value.get() == "null" => draft.leave_unset(name),
            _ => draft.set(name, text_of(name, value)?)?,
        }
    }
    let data = match (data, data_base64) {
        (Some(_), Some(_)) => return Err(refuse("data_base64", "stands beside `data`; send one of them")),
        (Some(data), None) => read_data(&mut draft, body, data)?,
        (None, Some(data)) => read_base64(&draft, data)?,
        (None, None) => Bytes::new(),
    };
    draft.finish(data)
}

/// The value of an attribute as text.
fn text_of(name: &str, value: &RawValue) -> Result<String, Malformed> {
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'"') => {
            serde_json::from_str(json).map_err(|error| refuse(name, format!("is not JSON text: {error}")))
        }
        _ if is_standard(name) => Err(refuse(name, "must be text")),
        Some(b't' | b'f') => Ok(json.to_owned()),
        Some(b'-' | b'0'..=b'9') if json.parse::<i64>().is_ok() => Ok(json.to_owned()),
        _ => Err(refuse(name, "must be text, a whole number of 64 bits, or true or false")),
    }
}

fn is_standard(name: &str) -> bool {
    matches!(
        name,
        "specversion"
            | "id"
            | "source"
            | "type"
            | "subject"
            | "time"
            | "datacontenttype"
            | "dataschema"
            | "partitionkey"
    )
}

fn read_data(draft: &mut Draft, body: &Bytes, data: &RawValue) -> Result<Bytes, Malformed> {
    if draft.content_type().is_none_or(media::is_json) {
        draft.imply_content_type("application/json");
        json::check_shape("data", data.get().as_bytes())?;
        return Ok(body.slice_ref(data.get().as_bytes()));
    }
    let content_type = draft.content_type().unwrap_or_default();
    if !media::is_utf8(content_type) {
        return Err(refuse("data", format!("is `{content_type}` and not UTF-8; send it as `data_base64`")));
    }
    if !data.get().starts_with('"') {
        return Err(refuse("data", format!("must be text, because `datacontenttype` is `{content_type}`")));
    }
    let text: String = serde_json::from_str(data.get())
        .map_err(|error| refuse("data", format!("is not JSON text: {error}")))?;
    Ok(Bytes::from(text))
}

fn read_base64(draft: &Draft, data: &RawValue) -> Result<Bytes, Malformed> {
    const NAME: &str = "data_base64";
    let text: String = serde_json::from_str(data.get()).map_err(|_| refuse(NAME, "must be text"))?;
    let bytes = STANDARD.decode(&text).map_err(|error| {
        let error = error.to_string().to_lowercase();
        refuse(NAME, format!("is not base64 (RFC 4648 §4, with padding): {}", error.trim_end_matches('.')))
    })?;
    if draft.content_type().is_some_and(media::is_json) {
        json::check(NAME, &bytes)?;
    }
    Ok(Bytes::from(bytes))
}
