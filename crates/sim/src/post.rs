//! Sending one webhook: the client of shop and GitHub.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

/// A request got no answer.
#[derive(Debug, thiserror::Error)]
#[error("failed to post to {url}")]
pub struct PostError {
    /// Where to.
    pub url: String,
    /// What went wrong.
    #[source]
    pub source: reqwest::Error,
}

/// What a webhook was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// The status.
    pub status: u16,
    /// The body, as text.
    pub body: String,
    /// When the answer came.
    pub at: Timestamp,
}

/// A client that keeps its connections and waits at most five seconds for an answer, as shops do.
pub(crate) fn client() -> reqwest::Client {
    // Nothing here speaks TLS, and reading the machine's certificates takes longer than a hundred posts.
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(Duration::from_secs(5));
    builder.build().expect("a client without a proxy and certificates of its own can be built")
}

pub(crate) async fn post(
    client: &reqwest::Client,
    url: &str,
    headers: &[(&'static str, String)],
    body: Bytes,
) -> Result<Posted, PostError> {
    let failed = |source| PostError { url: url.to_owned(), source };
    let mut request = client.post(url).header("content-type", "application/json").body(body);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let response = request.send().await.map_err(failed)?;
    let status = response.status().as_u16();
    let body = response.text().await.map_err(failed)?;
    Ok(Posted { status, body, at: Timestamp::now() })
}
