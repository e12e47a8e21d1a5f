//! A base URL, and paths that cannot leave it.

use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// Segments of a path that are shorter are no credentials: `api`, `v2`, `hooks`.
const SEGMENT_SECRET_BYTES_MIN: usize = 8;

/// A base URL was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(String);

/// A path was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path {0}")]
pub struct PathError(&'static str);

/// Where calls go: scheme, host, port and the beginning of the path, which no rendered value can leave.
#[derive(Debug, Clone)]
pub struct BaseUrl {
    url: Url,
    /// The URL without query and without a slash at the end.
    prefix: String,
}

impl BaseUrl {
    /// Reads an `http` or `https` URL; a query stays on every call.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let url = Url::parse(text).map_err(|error| UrlError(format!("this is not a URL: {error}")))?;
        let problem = if !matches!(url.scheme(), "http" | "https") {
            Some("this must begin with http:// or https://")
        } else if url.host_str().is_none_or(str::is_empty) {
            Some("this has no host")
        } else if !url.username().is_empty() || url.password().is_some() {
            Some("credentials do not belong in a URL: use `username` and `password`")
        } else if url.fragment().is_some() {
            Some("a URL to call has no fragment (`#`)")
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(UrlError(problem.to_owned()));
        }
        let mut bare = url.clone();
        bare.set_query(None);
        let prefix = bare.as_str().trim_end_matches('/').to_owned();
        Ok(Self { url, prefix })
    }

    /// The URL itself.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The URL with `path` at the end. The path may hold a query; values in it must be percent-encoded already.
    pub fn join(&self, path: &str) -> Result<Url, PathError> {
        if path.is_empty() {
            return Ok(self.url.clone());
        }
        let (route, query) = path.split_once('?').map_or((path, None), |(route, query)| (route, Some(query)));
        check(route)?;
        let slash = if route.starts_with('/') || route.is_empty() { "" } else { "/" };
        let joined = format!("{}{slash}{route}", self.prefix);
        let mut url = Url::parse(&joined).map_err(|_| PathError("makes no URL"))?;
        if url.origin() != self.url.origin() || !url.as_str().starts_with(&self.prefix) {
            return Err(PathError("leaves the base URL"));
        }
        url.set_query(self.url.query());
        if let Some(query) = query {
            let both = url.query().map(|base| format!("{base}&{query}"));
            url.set_query(Some(both.as_deref().unwrap_or(query)));
        }
        Ok(url)
    }

    /// A joined URL as people may see it: the host and what was joined, without any query. The path of the base is left out,
    /// since for incoming webhooks of chat systems it is the credential.
    pub fn shown(&self, url: &Url) -> String {
        let whole = url.as_str().split('?').next().unwrap_or_default();
        let joined = whole.strip_prefix(&self.prefix).unwrap_or_default();
        let hidden = if self.url.path() == "/" { "" } else { "/…" };
        format!("{}{hidden}{joined}", self.url.origin().ascii_serialization())
    }

    /// The parts of path and query that came, whole or in part, from what references put in: others must not see them.
    pub fn secrets(&self, inserted: &[SecretString]) -> Vec<SecretString> {
        let came_from_outside = |part: &str| {
            let mut inserted = inserted.iter().map(ExposeSecret::expose_secret);
            inserted.any(|value| value.contains(part) || (value.len() >= 4 && part.contains(value)))
        };
        let segments = self.url.path().split('/').filter(|part| part.len() >= SEGMENT_SECRET_BYTES_MIN);
        let values = self.url.query().into_iter().flat_map(|query| query.split('&'));
        let values = values.map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
        let mut secrets = Vec::new();
        for part in segments.chain(values.filter(|value| !value.is_empty())) {
            let decoded = percent_decode_str(part).decode_utf8_lossy();
            if came_from_outside(part) || came_from_outside(&decoded) {
                secrets.extend([SecretString::from(part), SecretString::from(decoded.into_owned())]);
            }
        }
        secrets
    }
}

/// Refuses whatever a URL reader takes as more than a path below the base.
fn check(route: &str) -> Result<(), PathError> {
    if route.contains("://") || route.starts_with("//") {
        return Err(PathError("must not be a URL of its own: the host comes from `base_url`"));
    }
    if route.contains(['\\', '#']) || route.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(PathError("holds a character that must be percent-encoded"));
    }
    if route.split('/').any(is_dots) {
        return Err(PathError("holds a `.` or `..` segment"));
    }
    Ok(())
}

/// `.` and `..`, also percent-encoded, as URL readers take them.
fn is_dots(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    plain == "." || plain == ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(base: &str, path: &str) -> Result<String, PathError> {
        BaseUrl::parse(base).unwrap().join(path).map(String::from)
    }

    #[test]
    fn a_path_goes_below_the_base() {
        let base = "http://127.0.0.1:9001/api/";
        assert_eq!(joined(base, "/issues/a%2Fb").unwrap(), "http://127.0.0.1:9001/api/issues/a%2Fb");
        assert_eq!(joined(base, "issues").unwrap(), "http://127.0.0.1:9001/api/issues");
        assert_eq!(joined(base, "/").unwrap(), "http://127.0.0.1:9001/api/");
        assert_eq!(joined(base, "").unwrap(), base);
        assert_eq!(joined("https://h/x?k=1", "/a?b=2").unwrap(), "https://h/x/a?k=1&b=2");
        assert_eq!(joined("https://h", "/~a/ü").unwrap(), "https://h/~a/%C3%BC");
    }

    #[test]
    fn a_path_cannot_leave_the_base() {
        let hostile = [
            "/../admin",
            "/a/../../b",
            "..",
            "/%2e%2e/x",
            "/.%2E/x",
            "/./a",
            "//evil.example/",
            "http://evil.example/",
            "/\\evil.example",
            "/a\r\nHost: x",
            "/a b",
            "/a#b",
            "/x://y",
            "/a/..",
            "/\u{2028}",
        ];
        for path in hostile {
            assert!(joined("https://h/base", path).is_err(), "{path:?}");
        }
        // Not a segment of their own, so only text.
        for path in ["/a..b", "/...", "/@evil.example", "/:80", "/%2f%2e%2e%2fx"] {
            assert!(joined("https://h/base", path).unwrap().starts_with("https://h/base/"), "{path:?}");
        }
        assert!(joined("https://h", ":@evil.example/").unwrap().starts_with("https://h/:@"));
    }

    #[test]
    fn people_see_the_host_and_the_path_that_was_joined() {
        let shown = |base: &str, path: &str| {
            let base = BaseUrl::parse(base).unwrap();
            base.shown(&base.join(path).unwrap())
        };
        assert_eq!(shown("http://127.0.0.1:9001", "/all?key=1"), "http://127.0.0.1:9001/all");
        assert_eq!(shown("http://h", ""), "http://h/");
        assert_eq!(
            shown("https://hooks.example/services/T0/B0/s3cret?k=s3cret", ""),
            "https://hooks.example/…"
        );
        assert_eq!(shown("https://h/s3cret/", ""), "https://h/…/");
        assert_eq!(shown("https://h/s3cret", "/issues/a%2Fb"), "https://h/…/issues/a%2Fb");
    }

    #[test]
    fn what_references_put_into_path_and_query_is_secret() {
        let secrets = |base: &str, inserted: &[&str]| {
            let inserted: Vec<_> = inserted.iter().map(|value| SecretString::from(*value)).collect();
            let mut found: Vec<String> = BaseUrl::parse(base)
                .unwrap()
                .secrets(&inserted)
                .iter()
                .map(|secret| secret.expose_secret().to_owned())
                .collect();
            found.sort_unstable();
            found.dedup();
            found
        };
        let url = "https://hooks.example/services/T00000001/s3cret%2Dpart?sig=abc&v=";
        assert_eq!(secrets(url, &[url]), ["T00000001", "abc", "s3cret%2Dpart", "s3cret-part", "services"]);
        assert_eq!(secrets(url, &["s3cret-part"]), ["s3cret%2Dpart", "s3cret-part"]);
        assert_eq!(secrets(url, &["T00000001/s3cret%2Dpart"]), ["T00000001", "s3cret%2Dpart", "s3cret-part"]);
        assert!(secrets(url, &["hooks.example"]).is_empty() && secrets(url, &[]).is_empty());
    }

    #[test]
    fn a_base_url_is_plain() {
        for base in ["ftp://h", "h:80", "https://u:p@h", "https://h#f", "/x", "", "http://"] {
            assert!(BaseUrl::parse(base).is_err(), "{base}");
        }
    }
}
