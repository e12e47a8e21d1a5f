//! A store that refuses at will, and a vendor.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use crossdock_core::{
    Act, Action, Connection, Connections, Event, EventLog, EventSummary, FlowName, Inbound, Inbox,
    LoggedEvent, Outbox, Page, PageRequest, Position, PublishError, Published, Refusal, StoreError,
    StoredConnection, Topic, Webhook,
};
use crossdock_testkit::Memory;
use jiff::Timestamp;

/// The ports of a memory that can be busy, full or away.
pub struct Moody {
    pub memory: Memory,
    /// What events are answered with, but those with the id `always`.
    pub refusal: Mutex<Option<PublishError>>,
    /// Whether reads fail.
    pub away: AtomicBool,
}

impl Moody {
    pub fn new(memory: Memory) -> Self {
        Self { memory, refusal: Mutex::default(), away: AtomicBool::new(false) }
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.away.load(Ordering::Relaxed) {
            let source = std::io::Error::other("the disk is gone: /secret/place");
            return Err(StoreError::Unavailable { doing: "reading", source: source.into() });
        }
        Ok(())
    }
}

#[async_trait]
impl Outbox for Moody {
    async fn append(&self, topic: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        let refusal = self.refusal.lock().unwrap().clone();
        let mut results = Vec::new();
        for event in events {
            match refusal.clone().filter(|_| event.id != "always") {
                Some(refusal) => results.push(Err(refusal)),
                None => results.extend(self.memory.append(topic, vec![event]).await),
            }
        }
        results
    }

    fn refusal(&self) -> Option<String> {
        match &*self.refusal.lock().unwrap() {
            Some(PublishError::Unavailable(why)) => Some(why.clone()),
            _ => None,
        }
    }
}

#[async_trait]
impl EventLog for Moody {
    async fn list(&self, topic: Option<&Topic>, page: PageRequest) -> Result<Page<EventSummary>, StoreError> {
        self.check()?;
        EventLog::list(&self.memory, topic, page).await
    }

    async fn find(&self, id: &str) -> Result<Vec<LoggedEvent>, StoreError> {
        self.check()?;
        self.memory.find(id).await
    }

    async fn is_complete(&self, flow: &FlowName, position: &Position) -> Result<bool, StoreError> {
        self.check()?;
        self.memory.is_complete(flow, position).await
    }
}

#[async_trait]
impl Connections for Moody {
    async fn load(&self) -> Result<Vec<StoredConnection>, StoreError> {
        self.check()?;
        self.memory.load().await
    }

    async fn save(
        &self,
        connection: &StoredConnection,
        act: Option<&Act>,
    ) -> Result<StoredConnection, StoreError> {
        self.check()?;
        self.memory.save(connection, act).await
    }
}

/// A vendor whose signature is the word `good`; its handshake is a body `hello`.
pub struct Vendor;

impl Connection for Vendor {
    fn webhook(&self) -> Option<Arc<dyn Webhook>> {
        Some(Arc::new(Self))
    }

    fn action(&self, _: &str) -> Option<Arc<dyn Action>> {
        None
    }
}

impl Webhook for Vendor {
    fn handle(&self, request: &Inbound, _: Timestamp) -> Inbox {
        if request.header("x-signature") != Some("good") {
            return Inbox::Refuse(Refusal::Unauthorized("the signature does not match".to_owned()));
        }
        if request.body == "hello" {
            let body = Bytes::from(format!("{} {}", request.method, request.uri));
            return Inbox::Reply { status: 200, content_type: "text/plain", body };
        }
        let Some(id) = request.header("x-delivery") else {
            let refusal =
                Refusal::Malformed { message: "no delivery id".to_owned(), pointer: Some("/id".to_owned()) };
            return Inbox::Refuse(refusal);
        };
        Inbox::Accept(vec![event(id, &request.body)])
    }
}

/// An event of the vendor.
pub fn event(id: &str, data: &Bytes) -> Event {
    Event {
        id: id.to_owned(),
        source: "/vendor".to_owned(),
        kind: "order.paid".to_owned(),
        subject: None,
        time: None,
        content_type: Some("application/json".to_owned()),
        schema: None,
        key: Some("k1".to_owned()),
        extensions: Vec::new(),
        data: data.clone(),
    }
}
