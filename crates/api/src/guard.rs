//! Who may speak to the API: not a page of another site through somebody's browser (DNS rebinding, CSRF), and not without
//! the token. Pure functions over the head of a request.

use std::net::IpAddr;

use axum::http::{HeaderMap, Method, Uri, header, uri::Authority};
use secrecy::ExposeSecret;

use crate::{ApiOptions, Problem, problem::Kind, problem::shown};

/// Who sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Somebody who may use the API.
    Trusted,
    /// Anybody: a vendor, a probe, or whoever has found the address.
    Stranger,
}

/// Checks the head of a request. Webhooks are signed by their vendors and may come through any tunnel; probes of
/// orchestrators use any address: `/in/…` and `/health/…` take strangers.
pub(crate) fn check(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    options: &ApiOptions,
) -> Result<Caller, Problem> {
    let path = uri.path();
    if path.starts_with("/in/") || path.starts_with("/health/") {
        let trusted =
            check_access(method, uri, headers, options).and_then(|()| check_token(headers, options));
        return Ok(if trusted.is_ok() { Caller::Trusted } else { Caller::Stranger });
    }
    check_access(method, uri, headers, options)?;
    if path == "/v1" || path.starts_with("/v1/") {
        check_token(headers, options)?;
    }
    Ok(Caller::Trusted)
}

/// Checks that the request was meant for this hub and does not come from a page of another site.
fn check_access(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    options: &ApiOptions,
) -> Result<(), Problem> {
    let host = host(uri, headers)
        .ok_or_else(|| Problem::new(Kind::MISDIRECTED, "the request has no single Host"))?;
    if !host_allowed(&host, &options.allowed_hosts) {
        let text =
            format!("the host `{}` is not served here; add it to the allowed hosts", shown(host.as_str()));
        return Err(Problem::new(Kind::MISDIRECTED, text));
    }
    if !same_site(method, &host, headers) {
        return Err(Problem::new(Kind::CROSS_ORIGIN, "the request comes from a page of another origin"));
    }
    Ok(())
}

/// The host that the client means: of the request line (HTTP/2, proxies) or of the one `Host` header.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    if let Some(authority) = uri.authority() {
        return Some(authority.clone());
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().filter(|_| hosts.next().is_none())?;
    let host = Authority::try_from(host.as_bytes()).ok()?;
    (!host.as_str().contains('@')).then_some(host)
}

/// Whether a `Host` is ours. An address is: there is no name in it that somebody could point elsewhere.
fn host_allowed(host: &Authority, allowed: &[String]) -> bool {
    let name = host.host().trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        return true;
    }
    let is_allowed = |allowed: &String| {
        allowed.trim_end_matches('.').eq_ignore_ascii_case(&name)
            || allowed.eq_ignore_ascii_case(host.as_str())
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok() || allowed.iter().any(is_allowed)
}

/// Whether a browser says that the request comes from our own page, or no browser says anything.
fn same_site(method: &Method, host: &Authority, headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let own = |origin: &[u8]| {
        let rest = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host.as_str().as_bytes()))
    };
    if !origins.all(|origin| own(origin.as_bytes())) {
        return false;
    }
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    method.is_safe() || matches!(site, None | Some(b"same-origin" | b"none"))
}

/// Checks the token, if there is one.
fn check_token(headers: &HeaderMap, options: &ApiOptions) -> Result<(), Problem> {
    let Some(token) = &options.token else { return Ok(()) };
    let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let given = given
        .and_then(|value| value.split_at_checked(7))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
    match given {
        Some((_, given)) if equal(given.trim_ascii(), token.expose_secret().as_bytes()) => Ok(()),
        Some(_) => Err(Problem::new(Kind::UNAUTHORIZED, "the token is wrong")),
        None => Err(Problem::new(Kind::UNAUTHORIZED, "send `Authorization: Bearer …` with the hub's token")),
    }
}

/// Compares in a time that depends on the lengths alone.
fn equal(given: &[u8], expected: &[u8]) -> bool {
    let mut difference = u8::from(given.len() != expected.len());
    for (n, byte) in given.iter().enumerate() {
        // An empty token is refused by the length; the index stays inside otherwise.
        difference |= byte ^ expected.get(n % expected.len().max(1)).unwrap_or(&0);
        difference = std::hint::black_box(difference);
    }
    difference == 0 && !expected.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(host: &str, names: &[&str]) -> bool {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        host_allowed(&host.parse().unwrap(), &names)
    }

    #[test]
    fn loopback_is_always_ours() {
        for host in
            ["localhost", "LOCALHOST:8080", "hub.localhost", "localhost.:80", "127.0.0.1:9", "[::1]:8"]
        {
            assert!(allowed(host, &[]), "{host}");
        }
    }

    #[test]
    fn a_rebound_name_is_not_ours() {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "evillocalhost",
            "2130706433",
            "0x7f.1",
        ] {
            assert!(!allowed(host, &[]), "{host}");
        }
    }

    #[test]
    fn addresses_and_allowed_names_are_ours() {
        assert!(allowed("10.0.0.1:8080", &[]));
        assert!(!allowed("hub.example", &[]));
        assert!(allowed("Hub.Example.:443", &["hub.example"]));
        assert!(allowed("hub.example:8443", &["hub.example:8443"]));
        assert!(!allowed("hub.example:1", &["hub.example:8443"]));
    }

    fn from(method: &Method, host: &str, name: &'static str, value: &str) -> bool {
        let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
        same_site(method, &host.parse().unwrap(), &headers)
    }

    #[test]
    fn an_origin_must_be_the_host_itself() {
        assert!(from(&Method::POST, "localhost:8080", "origin", "http://localhost:8080"));
        for origin in [
            "null",
            "http://localhost:8081",
            "http://localhost",
            "http://evil.example",
            "file://localhost:8080",
        ] {
            assert!(!from(&Method::GET, "localhost:8080", "origin", origin), "{origin}");
        }
    }

    #[test]
    fn another_sites_page_may_not_write() {
        assert!(!from(&Method::POST, "localhost", "sec-fetch-site", "cross-site"));
        assert!(!from(&Method::PATCH, "localhost", "sec-fetch-site", "same-site"));
        assert!(from(&Method::POST, "localhost", "sec-fetch-site", "same-origin"));
        assert!(from(&Method::GET, "localhost", "sec-fetch-site", "cross-site"));
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(equal(b"secret", b"secret"));
        for wrong in [&b""[..], b"secre", b"secrets", b"secretsecret", b"Secret"] {
            assert!(!equal(wrong, b"secret"));
        }
        assert!(!equal(b"", b""));
    }
}
