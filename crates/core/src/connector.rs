//! The connector port: what knows one kind of outside system.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::{ConnectionName, ConnectorSpec, Event, Fault, Settings};

/// A connection cannot be made from this configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConnectorError {
    /// The field of `config` that is wrong.
    pub field: Option<String>,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// What a connection must know of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Environment {
    /// Whether the hub itself listens on loopback only. Then connections may call loopback addresses too.
    pub loopback: bool,
}

/// One kind of outside system.
pub trait Connector: Send + Sync {
    /// What it is, what it takes, what it does.
    fn spec(&self) -> &ConnectorSpec;

    /// Makes a connection. Opens nothing: a connection to a system that is down is made all the same.
    fn connect(
        &self,
        name: &ConnectionName,
        settings: &Settings,
        environment: Environment,
    ) -> Result<Arc<dyn Connection>, ConnectorError>;
}

/// A field of an action as the configuration has it, before there is any event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenField<'a> {
    /// The action.
    pub action: &'a str,
    /// The field.
    pub field: &'a str,
    /// The name within the field, where the field is a map.
    pub name: Option<&'a str>,
    /// The text, with the letter `x` in the place of everything that is inserted per event.
    pub text: &'a str,
}

/// A connector configured for one account.
pub trait Connection: Send + Sync {
    /// The source of events that are posted to us, if there is one.
    fn webhook(&self) -> Option<Arc<dyn Webhook>> {
        None
    }

    /// The action of that name.
    fn action(&self, _name: &str) -> Option<Arc<dyn Action>> {
        None
    }

    /// Refuses what could not work with any event, so that it is told where it is written and not by a dead letter for each
    /// event. Pure. `Err` is what is wrong and what to write instead.
    fn check(&self, _written: WrittenField<'_>) -> Result<(), String> {
        Ok(())
    }
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Inbound {
    /// The method, in capitals.
    pub method: String,
    /// The path and query as they were sent.
    pub uri: String,
    /// Header names in lower case, values as they came.
    pub headers: Vec<(String, String)>,
    /// The body, after a content coding (gzip and the like) was taken off.
    pub body: Bytes,
}

impl Inbound {
    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The signature is missing, wrong or too old: 401.
    Unauthorized(String),
    /// It is not what the vendor sends: 400, with a JSON pointer to the place if there is one.
    Malformed {
        /// What is wrong.
        message: String,
        /// Where, as a JSON pointer.
        pointer: Option<String>,
    },
}

/// What a webhook makes of a request.
#[derive(Debug, Clone)]
pub enum Inbox {
    /// These events; answered only after the durable commit.
    Accept(Vec<Event>),
    /// Nothing to keep; answer this (a handshake).
    Reply {
        /// The status.
        status: u16,
        /// The media type of the body.
        content_type: &'static str,
        /// The body.
        body: Bytes,
    },
    /// Not ours.
    Refuse(Refusal),
}

/// A source that is posted to us. Pure: bytes in, events or a reply out, no I/O, so that it cannot miss the time in
/// which the vendor wants its answer.
pub trait Webhook: Send + Sync {
    /// Verifies the raw bytes, then reads them.
    fn handle(&self, request: &Inbound, now: Timestamp) -> Inbox;
}

/// What is sent: bytes and what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// The media type.
    pub content_type: Option<String>,
    /// The bytes.
    pub bytes: Bytes,
}

/// One event for an action.
#[derive(Debug, Clone)]
pub struct Item {
    /// The rendered fields of the action, by name.
    pub fields: Vec<(&'static str, serde_json::Value)>,
    /// The mapped event, or its data untouched.
    pub body: Body,
    /// Stays the same over every try and every replay of this delivery.
    pub idempotency_key: String,
    /// 1 for the first counted try.
    pub attempt: u32,
    /// W3C `traceparent` of the event, to be passed on.
    pub traceparent: Option<String>,
}

impl Item {
    /// A rendered field.
    pub fn field(&self, name: &str) -> Option<&serde_json::Value> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }
}

/// What a call came to, success or not.
#[derive(Debug, Clone)]
pub struct Output {
    /// What was called, for example `POST http://127.0.0.1:9001/all`; no secret is in it.
    pub request: Option<String>,
    /// The status of the answer.
    pub status: Option<u16>,
    /// Success, or why not.
    pub result: Result<(), Fault>,
}

/// Calls an outside system.
///
/// One output for each item, in order; partial failure is normal. Contains no loop, sleep, retry or metric: the engine
/// owns them. Ends by itself within the connection's time-out. **Cancellation**: dropping the future leaves it open
/// whether the call happened.
#[async_trait]
pub trait Action: Send + Sync {
    /// Makes the call.
    async fn call(&self, items: &[Item]) -> Vec<Output>;
}

/// A request does not hold events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Malformed {
    /// A JSON pointer to the place, `""` for the whole.
    pub pointer: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

/// Reads events from a request, in whichever form they are written. Implemented by the codec, handed to the API.
pub trait Envelope: Send + Sync {
    /// Events, or for each the reason why it is none. `Err` if the request as a whole cannot be read.
    fn decode(
        &self,
        headers: &[(String, String)],
        body: &Bytes,
    ) -> Result<Vec<Result<Event, Malformed>>, Malformed>;

    /// One event in the structured JSON form, for people and programs that read it back.
    fn encode(&self, event: &Event) -> serde_json::Value;
}
