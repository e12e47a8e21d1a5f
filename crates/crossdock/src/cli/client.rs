//! Speaks to a running hub. JSON comes back as it was sent, so that programs get the API's own words.

use std::{net::IpAddr, time::Duration};

use crossdock_core::Selection;
use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::{
    args::{Global, Part},
    failure::{Code, Failure},
};
use crate::safe;

/// How long it may take to reach the hub, how long it may look for an answer, and how long it may work on one: freezing a
/// million dead letters takes its time, and a test waits for the other side.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const ACT_WITHIN: Duration = Duration::from_secs(300);

/// The most items that the API gives on one page.
const PAGE: u32 = 1000;

/// The longest name of a person that the API takes, in bytes.
const ACTOR_BYTES_MAX: usize = 128;

/// A hub.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
    actor: Option<String>,
}

/// An answer of the hub.
#[derive(Debug)]
pub struct Reply {
    /// As it came.
    pub text: String,
    /// As it can be read.
    pub value: Value,
}

impl Reply {
    /// The items of a list.
    pub fn items(&self) -> &[Value] {
        self.value.get("items").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Where the next page begins.
    pub fn next(&self) -> Option<&str> {
        self.value.get("next").and_then(Value::as_str)
    }
}

type Query<'a> = &'a [(&'static str, String)];

impl Client {
    /// The hub that the arguments name. Opens nothing.
    pub fn new(global: &Global) -> Result<Self, Failure> {
        let base = Url::parse(&global.url)
            .ok()
            .filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https"));
        let Some(base) = base else {
            return Err(Failure::new(Code::Usage, format!("`{}` is not the address of a hub", global.url))
                .next("write it as http://127.0.0.1:8080, with --url or CROSSDOCK_URL"));
        };
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&base) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
        let token = global.token.clone().filter(|token| !token.is_empty());
        let actor = actor_of(global.actor.as_deref());
        Ok(Self { http, base, token, actor })
    }

    /// Where the hub is, for messages.
    fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Reads one thing.
    pub async fn get(&self, path: &[&str], query: Query<'_>) -> Result<Reply, Failure> {
        self.call(Method::GET, path, query, None).await
    }

    /// Reads a part of a list, over as many pages as that takes.
    pub async fn list(&self, path: &[&str], query: Query<'_>, part: &Part) -> Result<Reply, Failure> {
        let mut reply = self.page(path, query, part.limit, part.cursor.as_deref()).await?;
        loop {
            let missing = part.limit.saturating_sub(u32::try_from(reply.items().len()).unwrap_or(u32::MAX));
            let Some(next) = reply.next().filter(|_| missing > 0) else { return Ok(reply) };
            let page = self.page(path, query, missing, Some(next)).await?;
            if page.items().is_empty() {
                return Ok(reply);
            }
            let items = [reply.items(), page.items()].concat();
            let value = json!({ "items": items, "next": page.next() });
            reply = Reply { text: value.to_string(), value };
        }
    }

    async fn page(
        &self,
        path: &[&str],
        query: Query<'_>,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Reply, Failure> {
        let mut query = query.to_vec();
        query.push(("limit", limit.min(PAGE).to_string()));
        query.extend(cursor.map(|cursor| ("cursor", cursor.to_owned())));
        self.get(path, &query).await
    }

    /// What a replay of these dead letters would come to.
    pub async fn plan(&self, selection: &Selection, rate: Option<f64>) -> Result<Reply, Failure> {
        let body = json!({ "selection": selection, "rate": rate });
        self.call(Method::POST, &["replay-plans"], &[], Some(body)).await
    }

    /// Makes a replay.
    pub async fn replay(
        &self,
        selection: &Selection,
        rate: Option<f64>,
        reason: &str,
    ) -> Result<Reply, Failure> {
        let body = json!({ "selection": selection, "rate": rate, "reason": reason });
        self.call(Method::POST, &["replays"], &[], Some(body)).await
    }

    /// Sends one dead letter: `what` is `dead_letter` or `group`.
    pub async fn test(&self, what: &str, id: &str, reason: &str) -> Result<Reply, Failure> {
        let mut body = json!({ "reason": reason });
        body[what] = json!(id);
        self.call(Method::POST, &["replay-tests"], &[], Some(body)).await
    }

    /// Gives dead letters up.
    pub async fn discard(&self, selection: &Selection, reason: &str) -> Result<Reply, Failure> {
        let body = json!({ "selection": selection, "reason": reason });
        self.call(Method::POST, &["dead-letters", "discards"], &[], Some(body)).await
    }

    /// Changes a connection or a replay.
    pub async fn change(&self, path: &[&str], change: Value) -> Result<Reply, Failure> {
        self.call(Method::PATCH, path, &[], Some(change)).await
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: Query<'_>,
        body: Option<Value>,
    ) -> Result<Reply, Failure> {
        let within = if method == Method::GET { ANSWER_WITHIN } else { ACT_WITHIN };
        let mut request = self.http.request(method, self.url(path)).query(query).timeout(within);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(actor) = &self.actor {
            request = request.header("x-crossdock-actor", actor);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error, within))?;
        let status = response.status().as_u16();
        let text = response.text().await.map_err(|error| self.unreachable(&error, within))?;
        match serde_json::from_str(&text) {
            Ok(value) if (200..300).contains(&status) => Ok(Reply { text, value }),
            _ if (200..400).contains(&status) => {
                Err(Failure::new(Code::Failed, format!("what answers at {} is not a hub", self.address()))
                    .next("name the hub with --url or CROSSDOCK_URL"))
            }
            _ => Err(Failure::answered(status, &text)),
        }
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        url
    }

    fn unreachable(&self, error: &reqwest::Error, within: Duration) -> Failure {
        let address = self.address();
        if error.is_timeout() && !error.is_connect() {
            let seconds = within.as_secs();
            return Failure::new(
                Code::Failed,
                format!("the hub at {address} did not answer within {seconds} s"),
            )
            .next("look at its log; what was asked for may have been done");
        }
        if error.is_builder() {
            return Failure::new(
                Code::Usage,
                "the token cannot be sent: it holds characters that no header takes",
            )
            .next("look at --token and CROSSDOCK_TOKEN");
        }
        Failure::new(Code::Failed, format!("no hub answers at {address}")).next(
            "start one with `crossdock run` or `crossdock demo`, or name another with --url or CROSSDOCK_URL",
        )
    }
}

/// The name that this machine knows the person by.
/// Who acts: who was named, or whoever is logged in.
pub fn actor_of(named: Option<&str>) -> Option<String> {
    named.map(str::to_owned).or_else(login).as_deref().and_then(actor)
}

fn login() -> Option<String> {
    ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok())
}

/// As much of a person's name as the API takes; none if nothing is left of it.
fn actor(name: &str) -> Option<String> {
    let name = safe::line(name);
    let name = name[..name.floor_char_boundary(ACTOR_BYTES_MAX)].trim();
    (!name.is_empty()).then(|| name.to_owned())
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_to_what_the_api_takes() {
        assert_eq!(actor(" ana\n").as_deref(), Some("ana"));
        assert_eq!(actor(" "), None);
        assert_eq!(actor(&"é".repeat(100)).map(|name| name.len()), Some(128));
    }

    #[test]
    fn a_proxy_is_not_asked_for_a_hub_on_this_machine() {
        let is = |url: &str| is_loopback(&url.parse().unwrap());
        assert!(["http://localhost:1", "http://127.9.9.9", "http://[::1]:8080"].into_iter().all(is));
        assert!(!["http://localhost.test", "http://10.0.0.1", "http://[::2]"].into_iter().any(is));
    }
}
