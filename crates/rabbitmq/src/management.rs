//! The management API, for what AMQP does not tell.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret;
use serde::Deserialize;

use crate::options::Management;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A node of the cluster.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) mem_alarm: bool,
    #[serde(default)]
    pub(crate) disk_free_alarm: bool,
}

/// A queue, as its policy makes it.
#[derive(Debug, Deserialize)]
pub(crate) struct QueueState {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) policy: Option<String>,
    #[serde(default)]
    pub(crate) operator_policy: Option<String>,
    /// An empty list where no policy applies, by a habit of Erlang.
    #[serde(default)]
    pub(crate) effective_policy_definition: Definition,
}

/// What a policy says.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Definition {
    Some(Rules),
    None(#[allow(dead_code, reason = "read to tell it from an object")] Vec<()>),
}

impl Default for Definition {
    fn default() -> Self {
        Self::None(Vec::new())
    }
}

/// The rules that can lose events, or refuse them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Rules {
    pub(crate) max_length: Option<i64>,
    pub(crate) max_length_bytes: Option<i64>,
    pub(crate) overflow: Option<String>,
    pub(crate) delivery_limit: Option<i64>,
    pub(crate) message_ttl: Option<i64>,
    pub(crate) expires: Option<i64>,
}

impl Management {
    pub(crate) async fn nodes(&self) -> Result<Vec<Node>, String> {
        self.get("api/nodes".to_owned()).await
    }

    pub(crate) async fn queues(&self, vhost: &str) -> Result<Vec<QueueState>, String> {
        self.get(format!("api/queues/{}", utf8_percent_encode(vhost, NON_ALPHANUMERIC))).await
    }

    async fn get<T: for<'d> Deserialize<'d>>(&self, path: String) -> Result<T, String> {
        let url = format!("{}/{path}", self.url.as_str().trim_end_matches('/'));
        let client = reqwest::Client::builder().timeout(ANSWER_MAX).build();
        let mut request = client.map_err(|error| crossdock_core::chain(&error))?.get(url);
        if let Some((user, password)) = &self.login {
            request = request.basic_auth(user, Some(password.expose_secret()));
        }
        let answer = async { request.send().await?.error_for_status()?.json().await };
        answer.await.map_err(|error: reqwest::Error| crossdock_core::chain(&error))
    }
}
