//! Sends a payload as GitHub does.

use bytes::Bytes;

use crate::{PostError, Posted, post, signature::github_signature};

/// A delivery of GitHub's.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// `X-GitHub-Event`, for example `issues`.
    pub event: String,
    /// `X-GitHub-Delivery`: a redelivery has the same id.
    pub id: String,
    /// The payload, sent byte for byte.
    pub payload: Bytes,
}

/// Signs and posts it, once. An answer of any status is `Ok`.
pub async fn deliver(url: &str, secret: &str, delivery: &Delivery) -> Result<Posted, PostError> {
    let headers = [
        ("x-github-event", delivery.event.clone()),
        ("x-github-delivery", delivery.id.clone()),
        ("x-hub-signature-256", github_signature(secret, &delivery.payload)),
        ("user-agent", "GitHub-Hookshot/sim".to_owned()),
    ];
    post::post(&post::client(), url, &headers, delivery.payload.clone()).await
}
