//! The binary mode: attributes in `ce-…` headers, the data as the body.

use bytes::Bytes;
use crossdock_core::{Event, Malformed};
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;

use crate::{
    Draft,
    attributes::{check_name, refuse},
    media,
    structured::check_json,
};

/// The attribute that a header carries.
pub(crate) fn attribute(header: &str) -> Option<&str> {
    let (prefix, name) = header.split_at_checked(3)?;
    prefix.eq_ignore_ascii_case("ce-").then_some(name)
}

/// Reads the one event of a request.
pub(crate) fn event(headers: &[(String, String)], body: &Bytes) -> Result<Event, Malformed> {
    let mut draft = Draft::default();
    for (header, value) in headers {
        let lower = header.to_ascii_lowercase();
        let name = match attribute(&lower) {
            Some(name @ ("data" | "data_base64" | "datacontenttype")) => {
                return Err(refuse(
                    name,
                    "is no header: the data is the body, its media type is `content-type`",
                ));
            }
            Some(name) => name,
            None if lower == "content-type" => "datacontenttype",
            None => continue,
        };
        check_name(name)?;
        draft.see(name)?;
        draft.set(name, value_of(name, value)?)?;
    }
    if draft.content_type().is_some_and(media::is_json) && !body.is_empty() {
        let _: &RawValue = serde_json::from_slice(body)
            .map_err(|error| refuse("data", format!("is not JSON, as `content-type` says: {error}")))?;
        check_json(body)?;
    }
    draft.finish(body.clone())
}

/// Takes off what the HTTP binding puts on (§3.1.3.2): quotes, then percent-encoding. `content-type` has neither.
fn value_of(name: &str, value: &str) -> Result<String, Malformed> {
    let value = value.trim();
    if name == "datacontenttype" {
        return Ok(value.to_owned());
    }
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let plain = inner.map(unescape);
    let decoded = percent_decode_str(plain.as_deref().unwrap_or(value)).decode_utf8();
    decoded.map(Into::into).map_err(|_| refuse(name, "is not UTF-8 after percent-decoding its header"))
}

/// Removes the backslashes of a quoted string.
fn unescape(quoted: &str) -> String {
    let mut escaped = false;
    let keep = |character: &char| {
        escaped = *character == '\\' && !escaped;
        !escaped
    };
    quoted.chars().filter(keep).collect()
}
