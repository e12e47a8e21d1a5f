//! The envelope: which mode a request is in.

use bytes::Bytes;
use crossdock_core::{Envelope, Event, Malformed};

use crate::{binary, encode, media, refusal::whole, structured};

/// CloudEvents 1.0 over HTTP.
///
/// | `content-type` | mode |
/// |---|---|
/// | `application/cloudevents+json` | structured: one event |
/// | `application/cloudevents-batch+json` | batch: a list of at most 10,000 events, each accepted or refused by itself |
/// | anything else, with `ce-…` headers | binary: attributes in headers, the body is the data |
///
/// `partitionkey` becomes the event's key. A structured event whose data has no `datacontenttype` gets
/// `application/json`, which is what the specification says that it means. Data that claims to be JSON must be JSON,
/// at most 128 levels deep, without half surrogate pairs, also when it comes as `data_base64`; its numbers, spaces,
/// duplicate names and escapes stay as they are.
///
/// A `ce-…` header is printable ASCII, in which anything else is percent-encoded UTF-8; quoted strings are read too. Raw
/// bytes beyond ASCII are refused, since what an HTTP library makes of them may be the same for two different ids.
#[derive(Debug, Clone, Copy, Default)]
pub struct CloudEvents;

const SEND_ONE_OF: &str = "is not a CloudEvents request: send `content-type: application/cloudevents+json` (one event), \
                           `application/cloudevents-batch+json` (a list), or `ce-specversion`, `ce-id`, `ce-source` and \
                           `ce-type` headers with the data as the body";

impl Envelope for CloudEvents {
    fn decode(
        &self,
        headers: &[(String, String)],
        body: &Bytes,
    ) -> Result<Vec<Result<Event, Malformed>>, Malformed> {
        let content_type = header(headers, "content-type").unwrap_or_default();
        let essence = media::essence(content_type);
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        if is("application/cloudevents+json") {
            text(content_type, body)?;
            structured::event(body, "").map(|event| vec![Ok(event)])
        } else if is("application/cloudevents-batch+json") {
            text(content_type, body)?;
            structured::batch(body)
        } else if is_cloudevents(essence) {
            Err(whole(format!(
                "cannot be read: the format `{essence}` is not supported; use the JSON format"
            )))
        } else if headers.iter().any(|(name, _)| binary::attribute(name).is_some()) {
            binary::event(headers, body).map(|event| vec![Ok(event)])
        } else {
            Err(whole(SEND_ONE_OF))
        }
    }

    fn encode(&self, event: &Event) -> serde_json::Value {
        encode::structured(event)
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn is_cloudevents(essence: &str) -> bool {
    let prefix = "application/cloudevents";
    essence.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Refuses what JSON cannot be written in, with a better message than a parser has.
fn text(content_type: &str, body: &Bytes) -> Result<(), Malformed> {
    if !media::is_utf8(content_type) {
        return Err(whole("is not in UTF-8, the only charset of JSON"));
    }
    if body.starts_with(b"\xEF\xBB\xBF") || body.starts_with(b"\xFF\xFE") || body.starts_with(b"\xFE\xFF") {
        return Err(whole("begins with a byte order mark; JSON is UTF-8 without one (RFC 8259 §8.1)"));
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(whole("is empty; it must hold a CloudEvents event as a JSON object"));
    }
    Ok(())
}
