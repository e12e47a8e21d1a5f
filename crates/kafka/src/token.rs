//! A token for SASL OAUTHBEARER by OAuth 2 client credentials.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rdkafka::client::OAuthToken;
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::options::TokenEndpoint;

/// How long the whole fetch may take. librdkafka asks again ten seconds after a failure.
const FETCH_MAX: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long a token lasts that does not say so itself.
const LIFETIME: Duration = Duration::from_secs(300);

/// No token came. Shows neither secret nor token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("asking {url} for a token")]
    Http { url: String, source: reqwest::Error },
    #[error("{url} refused to give a token: HTTP {status}")]
    Refused { url: String, status: u16 },
    #[error("{url} answered with no token: {why}")]
    Unreadable { url: String, why: &'static str },
    #[error("starting the request for a token")]
    Start(#[from] std::io::Error),
}

/// Fetches a token. Called from librdkafka's own polling threads, never from a task: it blocks.
pub(crate) fn fetch(endpoint: &TokenEndpoint) -> Result<OAuthToken, TokenError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(fetch_async(endpoint))
}

async fn fetch_async(endpoint: &TokenEndpoint) -> Result<OAuthToken, TokenError> {
    let url = endpoint.url.clone();
    let failed = |source: reqwest::Error| TokenError::Http { url: url.clone(), source: source.without_url() };
    let client = reqwest::Client::builder()
        .timeout(FETCH_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(&failed)?;
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if let Some(scope) = &endpoint.scope {
        form.append_pair("scope", scope);
    }
    let request = client
        .post(&endpoint.url)
        .basic_auth(&endpoint.client_id, Some(endpoint.client_secret.expose_secret()))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("accept", "application/json")
        .body(form.finish());
    let mut response = request.send().await.map_err(&failed)?;
    if !response.status().is_success() {
        return Err(TokenError::Refused { url, status: response.status().as_u16() });
    }
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(&failed)? {
        answer.extend_from_slice(&chunk);
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(TokenError::Unreadable { url, why: "it is too long" });
        }
    }
    read(&answer, &endpoint.client_id, now()).map_err(|why| TokenError::Unreadable { url, why })
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The token of an answer. Who it is for and how long it lasts stand in the token itself where it is a JWT.
fn read(answer: &[u8], client_id: &str, now: Duration) -> Result<OAuthToken, &'static str> {
    let answer: Value = serde_json::from_slice(answer).map_err(|_| "it is not JSON")?;
    let token = answer.get("access_token").and_then(Value::as_str).ok_or("it has no access_token")?;
    let claims = claims(token);
    let claim = |name: &str| claims.as_ref().and_then(|claims| claims.get(name));
    let principal = claim("sub").and_then(Value::as_str).unwrap_or(client_id).to_owned();
    let lasts = answer.get("expires_in").and_then(Value::as_u64).map(Duration::from_secs);
    let ends = match claim("exp").and_then(Value::as_u64) {
        Some(seconds) => Duration::from_secs(seconds),
        None => now + lasts.unwrap_or(LIFETIME),
    };
    let lifetime_ms = i64::try_from(ends.as_millis()).map_err(|_| "it lasts for ever")?;
    Ok(OAuthToken { token: token.to_owned(), principal_name: principal, lifetime_ms })
}

fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwt_says_itself_who_it_is_for_and_until_when() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"hub","exp":2000}"#);
        let answer = format!(r#"{{"access_token":"e30.{payload}.","expires_in":5}}"#);
        let token = read(answer.as_bytes(), "client", Duration::from_secs(1000)).expect("a token");
        assert_eq!((token.principal_name.as_str(), token.lifetime_ms), ("hub", 2_000_000));
        let opaque = read(br#"{"access_token":"x","expires_in":5}"#, "client", Duration::from_secs(1000));
        let opaque = opaque.expect("a token");
        assert_eq!((opaque.principal_name.as_str(), opaque.lifetime_ms), ("client", 1_005_000));
        assert!(read(b"{}", "client", Duration::ZERO).is_err());
    }
}
