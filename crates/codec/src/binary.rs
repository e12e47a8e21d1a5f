//! The binary mode: attributes in `ce-…` headers, the data as the body.

use std::borrow::Cow;

use bytes::Bytes;
use crossdock_core::{Event, Malformed};
use percent_encoding::percent_decode_str;

use crate::{
    attributes::{Draft, check_name},
    json, media,
    refusal::refuse,
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
    if draft.content_type().is_some_and(media::is_json) {
        json::check("data", body)?;
    }
    draft.finish(body.clone())
}

/// Takes off what the HTTP binding puts on (§3.1.3.2): quotes, then percent-encoding. `content-type` has neither.
fn value_of(name: &str, value: &str) -> Result<String, Malformed> {
    let value = value.trim_matches([' ', '\t']);
    if name == "datacontenttype" {
        let refused = || refuse(name, "is not printable ASCII, as every media type is");
        return is_printable(value).then(|| value.to_owned()).ok_or_else(refused);
    }
    if !is_printable(value) {
        let advice = "percent-encode its bytes in UTF-8 (`é` is `%C3%A9`)";
        return Err(refuse(name, format!("is not printable ASCII; {advice}")));
    }
    let plain = unquote(value).ok_or_else(|| {
        refuse(name, "begins with a quote and is no quoted string; percent-encode quotes as `%22`")
    })?;
    let decoded = percent_decode_str(&plain).decode_utf8();
    decoded.map(Into::into).map_err(|_| refuse(name, "is not UTF-8 after percent-decoding its header"))
}

fn is_printable(value: &str) -> bool {
    value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// The text inside of a quoted string (RFC 9110 §5.6.4), or the value if it is none. `None` if it only begins as one.
fn unquote(value: &str) -> Option<Cow<'_, str>> {
    let Some(quoted) = value.strip_prefix('"') else { return Some(Cow::Borrowed(value)) };
    let mut text = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return characters.as_str().is_empty().then_some(Cow::Owned(text)),
            '\\' => text.push(characters.next()?),
            character => text.push(character),
        }
    }
}
