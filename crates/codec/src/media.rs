//! Media types, as far as they decide how bytes are read.

/// The type without its parameters: `application/json` of `application/json; charset=utf-8`.
pub(crate) fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Whether bytes of this type are JSON: the subtype is `json` or ends with `+json`.
pub(crate) fn is_json(content_type: &str) -> bool {
    let Some((_, subtype)) = essence(content_type).split_once('/') else { return false };
    let subtype = subtype.as_bytes();
    let ends = |end: &[u8]| {
        subtype.len() >= end.len() && subtype[subtype.len() - end.len()..].eq_ignore_ascii_case(end)
    };
    subtype.eq_ignore_ascii_case(b"json") || ends(b"+json")
}

/// Whether text of this type is UTF-8: it says so, says ASCII, or says nothing.
pub(crate) fn is_utf8(content_type: &str) -> bool {
    let charset = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    charset.is_none_or(|charset| {
        ["utf-8", "utf8", "us-ascii"].iter().any(|name| charset.eq_ignore_ascii_case(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_by_the_subtype_alone() {
        for json in ["application/json", "text/JSON; charset=utf-8", "application/vnd.shop.order+Json"] {
            assert!(is_json(json), "{json}");
        }
        for other in
            ["", "json", "text/plain", "application/jsonl", "application/json-seq", "application/xml"]
        {
            assert!(!is_json(other), "{other}");
        }
    }

    #[test]
    fn a_charset_is_read_with_and_without_quotes() {
        assert!(is_utf8("text/plain"));
        assert!(is_utf8("text/plain; format=flowed; Charset=\"UTF-8\""));
        assert!(!is_utf8("text/plain; charset=iso-8859-1"));
    }
}
