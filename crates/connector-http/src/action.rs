//! One call per event.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use crossdock_sdk::{
    Action, Class, ExposeSecret, Fault, Item, Output, classify,
    http::{Answer, Call, HeaderMap, HeaderName, HeaderValue, Method, Url, own_header},
    signature::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP},
};
use jiff::Timestamp;
use serde_json::Value;

use crate::target::{Target, call_header};

/// An action of a connection.
pub(crate) struct Send {
    target: Arc<Target>,
    method: Method,
}

impl Send {
    pub(crate) fn new(target: Arc<Target>, method: Method) -> Self {
        Self { target, method }
    }

    async fn send(&self, item: &Item) -> Output {
        let call = match self.call_for(item, Timestamp::now()) {
            Ok(call) => call,
            Err(fault) => return Output { request: None, status: None, result: Err(fault) },
        };
        let request = Some(format!("{} {}", call.method, self.target.base.shown(&call.url)));
        match self.target.client.send(call).await {
            Ok(answer) => {
                Output { request, status: Some(answer.status.as_u16()), result: self.judge(&answer) }
            }
            Err(fault) => Output { request, status: None, result: Err(fault) },
        }
    }

    fn call_for(&self, item: &Item, now: Timestamp) -> Result<Call, Fault> {
        let has_body = !matches!(self.method, Method::GET | Method::DELETE);
        let body = has_body.then(|| item.body.bytes.clone());
        Ok(Call {
            method: self.method.clone(),
            url: self.url(item)?,
            headers: self.headers(item, body.as_ref(), now)?,
            body,
            timeout: self.target.timeout,
            repeatable: self.target.idempotent || !matches!(self.method, Method::POST | Method::PATCH),
        })
    }

    fn url(&self, item: &Item) -> Result<Url, Fault> {
        let path = item.field("path").and_then(Value::as_str).unwrap_or_default();
        let mut url = self.target.base.join(path).map_err(|error| bug("path", error.to_string()))?;
        let query = item.field("query").and_then(Value::as_object).filter(|query| !query.is_empty());
        if query.is_some() || self.target.query_key.is_some() {
            let mut pairs = url.query_pairs_mut();
            for (name, value) in query.into_iter().flatten() {
                pairs.append_pair(name, &text(value));
            }
            if let Some((name, key)) = &self.target.query_key {
                pairs.append_pair(name, key.expose_secret());
            }
        }
        Ok(url)
    }

    fn headers(&self, item: &Item, body: Option<&Bytes>, now: Timestamp) -> Result<HeaderMap, Fault> {
        let mut headers = self.target.headers.clone();
        for (name, value) in item.field("headers").and_then(Value::as_object).into_iter().flatten() {
            let (name, value) =
                call_header(name, &text(value)).map_err(|error| bug("header", error.to_string()))?;
            headers.insert(name, value);
        }
        if let (Some(content_type), Some(_)) = (&item.body.content_type, body)
            && !headers.contains_key(CONTENT_TYPE)
        {
            headers.insert(CONTENT_TYPE, header_value("content-type", content_type)?);
        }
        // A trace is for people; one that cannot be passed on must not stop the event.
        if let Some(trace) = item.traceparent.as_deref().and_then(|trace| HeaderValue::from_str(trace).ok()) {
            headers.insert(TRACEPARENT, trace);
        }
        self.sign(&mut headers, &item.idempotency_key, body.map_or(&[], |body| body), now)?;
        Ok(headers)
    }

    /// The id stays the same over all tries and replays; the time is that of this try.
    fn sign(&self, headers: &mut HeaderMap, id: &str, body: &[u8], now: Timestamp) -> Result<(), Fault> {
        let timestamp = now.as_second().to_string();
        if let Some(signer) = &self.target.signer {
            let mut signature = header_value("webhook-signature", &signer.sign(id, &timestamp, body))?;
            signature.set_sensitive(true);
            headers.insert(SIGNATURE, signature);
        }
        headers.insert(ID, header_value("webhook-id", id)?);
        headers.insert(TIME, header_value("webhook-timestamp", &timestamp)?);
        Ok(())
    }

    fn judge(&self, answer: &Answer) -> Result<(), Fault> {
        if self.target.success.contains(&answer.status.as_u16()) {
            return Ok(());
        }
        classify(answer, &self.target.redactor)
    }
}

#[async_trait]
impl Action for Send {
    async fn call(&self, items: &[Item]) -> Vec<Output> {
        let mut outputs = Vec::with_capacity(items.len());
        for item in items {
            outputs.push(self.send(item).await);
        }
        outputs
    }
}

const CONTENT_TYPE: HeaderName = HeaderName::from_static("content-type");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const ID: HeaderName = HeaderName::from_static(HEADER_ID);
const TIME: HeaderName = HeaderName::from_static(HEADER_TIMESTAMP);
const SIGNATURE: HeaderName = HeaderName::from_static(HEADER_SIGNATURE);

fn text(value: &Value) -> std::borrow::Cow<'_, str> {
    match value {
        Value::String(text) => text.into(),
        other => other.to_string().into(),
    }
}

fn header_value(name: &str, value: &str) -> Result<HeaderValue, Fault> {
    own_header(name, value).map(|(_, value)| value).map_err(|error| bug("header", error.to_string()))
}

/// The rendered fields make no request, whatever the other side would say.
fn bug(code: &str, message: String) -> Fault {
    Fault::new(Class::Bug, message)
        .code(code)
        .advice("correct the field of the flow, or the event, then replay")
}
