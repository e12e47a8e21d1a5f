//! Webhooks on their way out of the shop, and the ledger of what was sent.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::sync::watch;

use super::{
    ShopOptions,
    order::{Orders, Quirk},
};
use crate::{Counts, TimedOut, post, signature::shopify_signature};

/// The most entries that are kept; the oldest go first.
const SENT_MAX: usize = 500_000;

/// A webhook that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// `X-Shopify-Webhook-Id`.
    pub id: String,
    /// `X-Shopify-Topic`.
    pub topic: &'static str,
    /// The order's name.
    pub order: String,
    /// The customer's id.
    pub key: String,
    /// The number among the customer's events.
    pub seq: u64,
    /// The status of the last answer; none if there was no answer.
    pub status: Option<u16>,
    /// How often it was sent.
    pub tries: u32,
    /// Whether it was sent before, with this id, and accepted.
    pub again: bool,
    /// When it was answered or given up.
    pub at: Timestamp,
}

impl Sent {
    /// Whether it was answered 2xx.
    pub fn accepted(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// What was sent. Shared between the sender and those who look.
#[derive(Clone, Default)]
pub(super) struct Sents {
    list: Arc<Mutex<std::collections::VecDeque<Sent>>>,
    counts: Arc<watch::Sender<Counts>>,
}

impl Sents {
    fn record(&self, sent: Sent) {
        let accepted = sent.accepted();
        let mut list = self.locked();
        if list.len() >= SENT_MAX {
            list.pop_front();
        }
        list.push_back(sent);
        drop(list);
        self.counts.send_modify(|counts| {
            counts.requests += 1;
            counts.accepted += u64::from(accepted);
        });
    }

    pub(super) fn list(&self) -> Vec<Sent> {
        self.locked().iter().cloned().collect()
    }

    pub(super) fn find(&self, id: &str) -> Option<Sent> {
        self.locked().iter().rev().find(|sent| sent.id == id).cloned()
    }

    pub(super) fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    pub(super) async fn wait_for_accepted(&self, webhooks: u64, within: Duration) -> Result<(), TimedOut> {
        let mut counts = self.counts.subscribe();
        let enough = counts.wait_for(|counts| counts.accepted >= webhooks);
        match tokio::time::timeout(within, enough).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(TimedOut { waited: within, seen: self.counts() }),
        }
    }

    fn locked(&self) -> MutexGuard<'_, std::collections::VecDeque<Sent>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A signed webhook.
#[derive(Clone)]
struct Webhook {
    sent: Sent,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

/// Makes webhooks and sends them, one at a time.
pub(super) struct Outgoing {
    options: ShopOptions,
    orders: Orders,
    client: reqwest::Client,
    made: i64,
    last_accepted: Option<Webhook>,
    ledger: Sents,
}

impl Outgoing {
    pub(super) fn new(options: ShopOptions) -> Self {
        let orders = Orders::new(options.seed, options.customers);
        let (client, ledger) = (post::client(), Sents::default());
        Self { options, orders, client, made: 0, last_accepted: None, ledger }
    }

    pub(super) fn ledger(&self) -> Sents {
        self.ledger.clone()
    }

    /// Makes the next webhook and sends it until it is accepted or given up.
    pub(super) async fn next(&mut self, quirk: Option<Quirk>) -> Sent {
        let webhook = self.make(quirk.as_ref());
        let webhook = self.send(webhook).await;
        let sent = webhook.sent.clone();
        if sent.accepted() {
            self.last_accepted = Some(webhook);
        }
        sent
    }

    /// Sends the last accepted webhook again.
    pub(super) async fn again(&mut self) -> Option<Sent> {
        let mut webhook = self.last_accepted.clone()?;
        webhook.sent.again = true;
        Some(self.send(webhook).await.sent)
    }

    fn make(&mut self, quirk: Option<&Quirk>) -> Webhook {
        let made = SignedDuration::from_secs(self.made);
        self.made += 1;
        let now = self.options.started_at.map_or_else(Timestamp::now, |start| start + made);
        let (event, id) = (self.orders.next(quirk, now), self.orders.id());
        let body = Bytes::from(event.payload.to_string());
        let headers = vec![
            ("x-shopify-topic", event.topic.to_owned()),
            ("x-shopify-webhook-id", id.clone()),
            ("x-shopify-shop-domain", self.options.domain.clone()),
            ("x-shopify-triggered-at", now.to_string()),
            ("x-shopify-hmac-sha256", shopify_signature(&self.options.secret, &body)),
        ];
        let sent = Sent {
            id,
            topic: event.topic,
            order: event.order,
            key: event.customer.to_string(),
            seq: event.sequence,
            status: None,
            tries: 0,
            again: false,
            at: now,
        };
        Webhook { sent, headers, body }
    }

    async fn send(&self, mut webhook: Webhook) -> Webhook {
        webhook.sent.tries = 0;
        let mut waits = self.options.retries.iter();
        loop {
            let body = webhook.body.clone();
            let posted = post::post(&self.client, &self.options.url, &webhook.headers, body).await;
            webhook.sent.tries += 1;
            webhook.sent.status = posted.ok().map(|posted| posted.status);
            webhook.sent.at = Timestamp::now();
            match waits.next() {
                Some(wait) if !webhook.sent.accepted() => tokio::time::sleep(*wait).await,
                _ => break,
            }
        }
        self.ledger.record(webhook.sent.clone());
        webhook
    }
}
