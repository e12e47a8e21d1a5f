//! An event while its attributes are being collected, whichever mode they come in.

use bytes::Bytes;
use crossdock_core::{Event, EventError, Malformed};
use jiff::Timestamp;

use crate::refusal::refuse;

/// Most extension attributes of an event.
const EXTENSIONS_MAX: usize = 64;

/// Most characters of the name of an attribute. CloudEvents says that it should have no more than 20.
const NAME_MAX: usize = 64;

/// Names that mean something to us. Their order gives each a bit in [`Draft::seen`].
const KNOWN: [&str; 11] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "partitionkey",
    "data",
    "data_base64",
];

/// An event in the making. Pointers in its refusals begin at the event.
#[derive(Default)]
pub(crate) struct Draft {
    seen: u16,
    version: String,
    id: String,
    source: String,
    kind: String,
    subject: Option<String>,
    time: Option<Timestamp>,
    content_type: Option<String>,
    schema: Option<String>,
    key: Option<String>,
    extensions: Vec<(String, String)>,
    /// Extensions that are there without a value.
    unset: Vec<String>,
}

impl Draft {
    /// Notes that a member is there, and refuses the second one of that name.
    pub(crate) fn see(&mut self, name: &str) -> Result<(), Malformed> {
        let again = match KNOWN.iter().position(|known| *known == name) {
            Some(bit) => {
                let before = self.seen;
                self.seen |= 1 << bit;
                before == self.seen
            }
            None => {
                self.extensions.iter().any(|(extension, _)| extension == name)
                    || self.unset.iter().any(|extension| extension == name)
            }
        };
        if again { Err(refuse(name, "is there twice; each attribute may be there once")) } else { Ok(()) }
    }

    /// Notes that an attribute is there and says nothing.
    pub(crate) fn leave_unset(&mut self, name: &str) {
        if !KNOWN.contains(&name) {
            self.unset.push(name.to_owned());
        }
    }

    /// Takes the value of an attribute.
    pub(crate) fn set(&mut self, name: &str, value: String) -> Result<(), Malformed> {
        check_text(name, &value)?;
        match name {
            "specversion" if value != "1.0" => {
                return Err(refuse(name, format!("is `{value}`; only `1.0` is supported")));
            }
            "specversion" => self.version = value,
            "id" => self.id = value,
            "source" => self.source = value,
            "type" => self.kind = value,
            "subject" => self.subject = Some(filled(name, value)?),
            "time" => self.time = Some(time(&value)?),
            "datacontenttype" => self.content_type = Some(filled(name, value)?),
            "dataschema" => self.schema = Some(filled(name, value)?),
            "partitionkey" => self.key = Some(filled(name, value)?),
            _ => self.extend(name, value)?,
        }
        Ok(())
    }

    fn extend(&mut self, name: &str, value: String) -> Result<(), Malformed> {
        if self.extensions.len() == EXTENSIONS_MAX {
            return Err(refuse(name, format!("is one extension too many; {EXTENSIONS_MAX} are allowed")));
        }
        self.extensions.push((name.to_owned(), value));
        Ok(())
    }

    /// The media type of the data.
    pub(crate) fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// Sets the media type if none was given.
    pub(crate) fn imply_content_type(&mut self, content_type: &str) {
        self.content_type.get_or_insert_with(|| content_type.to_owned());
    }

    /// The event, if everything that is required is there.
    pub(crate) fn finish(self, data: Bytes) -> Result<Event, Malformed> {
        let required = [&self.version, &self.id, &self.source, &self.kind];
        if let Some((_, (name, hint))) = required.iter().zip(REQUIRED).find(|(value, _)| value.is_empty()) {
            return Err(refuse(name, format!("is required: {hint}")));
        }
        let Self { id, source, kind, subject, time, content_type, schema, key, extensions, .. } = self;
        let event = Event { id, source, kind, subject, time, content_type, schema, key, extensions, data };
        event.validate().map_err(|EventError { attribute, problem }| refuse(&attribute, problem))?;
        Ok(event)
    }
}

const REQUIRED: [(&str, &str); 4] = [
    ("specversion", "`1.0`"),
    ("id", "text that names the event, unique within its source"),
    ("source", "a URI reference that names where the event comes from, for example `/shop`"),
    ("type", "text that says what happened, for example `order.paid`"),
];

/// Refuses a name that no attribute may have.
pub(crate) fn check_name(name: &str) -> Result<(), Malformed> {
    let fits = (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if fits || KNOWN.contains(&name) {
        return Ok(());
    }
    let allowed = format!("use 1 to {NAME_MAX} of a-z 0-9 (and put other fields into `data`)");
    Err(refuse(name, format!("is not the name of an attribute: {allowed}")))
}

fn check_text(name: &str, value: &str) -> Result<(), Malformed> {
    if value.len() > Event::ATTRIBUTE_BYTES_MAX {
        return Err(refuse(name, format!("is longer than {} bytes", Event::ATTRIBUTE_BYTES_MAX)));
    }
    if value.chars().any(char::is_control) {
        return Err(refuse(name, "holds a control character"));
    }
    Ok(())
}

fn filled(name: &str, value: String) -> Result<String, Malformed> {
    if value.is_empty() { Err(refuse(name, "must not be empty; leave it out")) } else { Ok(value) }
}

/// 0000-01-01T00:00:00Z. With an offset a time may be before it, and then has no RFC 3339 form in UTC.
const FIRST_SECOND: i64 = -62_167_219_200;

/// Reads an RFC 3339 time. The parser takes more than that, so the form is checked first.
fn time(value: &str) -> Result<Timestamp, Malformed> {
    let bad = || {
        let allowed = "`2026-11-24T08:15:30Z` or `2026-11-24T09:15:30.25+01:00`, in UTC from \
                       0000-01-01T00:00:00Z to 9999-12-30T22:00:00Z";
        refuse("time", format!("is not an RFC 3339 time such as {allowed}"))
    };
    if !is_rfc3339(value.as_bytes()) {
        return Err(bad());
    }
    let time: Timestamp = value.to_ascii_uppercase().parse().map_err(|_| bad())?;
    if time.as_second() < FIRST_SECOND { Err(bad()) } else { Ok(time) }
}

fn is_rfc3339(value: &[u8]) -> bool {
    let matches = |text: &[u8], form: &[u8]| {
        text.len() == form.len()
            && text.iter().zip(form).all(|(byte, form)| match form {
                b'9' => byte.is_ascii_digit(),
                form => byte.eq_ignore_ascii_case(form),
            })
    };
    let Some((seconds, rest)) = value.split_at_checked(19) else { return false };
    let digits = match rest.strip_prefix(b".") {
        Some(fraction) => fraction.iter().take_while(|byte| byte.is_ascii_digit()).count(),
        None => 0,
    };
    let offset = &rest[if digits > 0 { digits + 1 } else { 0 }..];
    let zone = matches(offset, b"Z") || matches(offset, b"+99:99") || matches(offset, b"-99:99");
    matches(seconds, b"9999-99-99T99:99:99") && digits <= 9 && zone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rfc_3339_is_a_time() {
        for good in ["2026-11-24T08:15:30Z", "2026-11-24t08:15:30z", "2026-11-24T08:15:30.123456789-05:30"] {
            assert!(time(good).is_ok(), "{good}");
        }
        for bad in [
            "2026-11-24",
            "2026-11-24 08:15:30Z",
            "2026-11-24T08:15:30",
            "2026-11-24T08:15Z",
            "2026-13-24T08:15:30Z",
            "2026-11-24T08:15:30.Z",
            "2026-11-24T08:15:30.1234567890Z",
            "2026-11-24T08:15:30+0100",
            "2026-11-24T08:15:30Z[UTC]",
            "1764000000",
            "٢٠٢٦-11-24T08:15:30Z",
        ] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
