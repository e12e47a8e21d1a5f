//! A base URL, and paths that cannot leave it.

use url::Url;

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
    fn a_base_url_is_plain() {
        for base in ["ftp://h", "h:80", "https://u:p@h", "https://h#f", "/x", "", "http://"] {
            assert!(BaseUrl::parse(base).is_err(), "{base}");
        }
    }
}
