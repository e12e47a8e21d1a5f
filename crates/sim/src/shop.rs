//! A shop that sends webhooks in Shopify's scheme.

mod order;
mod outgoing;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{sync::Mutex, task::JoinHandle, time::MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::TimedOut;
pub(crate) use order::SKUS;
pub use order::{Quirk, ShopOrder};
use outgoing::Outgoing;
pub use outgoing::Sent;

/// How a shop is started.
#[derive(Debug, Clone)]
pub struct ShopOptions {
    /// Where its webhooks go.
    pub url: String,
    /// The client secret that signs them.
    pub secret: String,
    /// `X-Shopify-Shop-Domain`.
    pub domain: String,
    /// The same seed gives the same customers, orders and ids.
    pub seed: u64,
    /// How many customers buy.
    pub customers: usize,
    /// Webhooks a second; none sends only what [`Shop::send`] asks for.
    pub rate: Option<f64>,
    /// The waits before each retry of a webhook that was not answered 2xx; then it is given up. Later webhooks wait.
    pub retries: Vec<Duration>,
    /// When the first order is made, later ones a second apart each; none takes the clock.
    pub started_at: Option<Timestamp>,
}

impl ShopOptions {
    /// A shop with 12 customers that sends nothing by itself and retries after 0.2 s, 1 s and 3 s.
    pub fn new(url: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            secret: secret.into(),
            domain: "sim-shop.myshopify.com".to_owned(),
            seed: 1,
            customers: 12,
            rate: None,
            retries: [200, 1000, 3000].map(Duration::from_millis).to_vec(),
            started_at: None,
        }
    }
}

/// A running shop. Its webhooks tell of orders: created, updated, paid. They leave one after the other, so the order of
/// each customer's events is the order in which they were sent. Dropping it stops it.
pub struct Shop {
    sender: Arc<Mutex<Outgoing>>,
    ledger: outgoing::Sents,
    pace: Option<JoinHandle<()>>,
    paused: tokio::sync::watch::Sender<bool>,
    stop: DropGuard,
}

impl Shop {
    /// Opens the shop. Must be called inside a runtime.
    pub fn start(options: ShopOptions) -> Self {
        let rate = options.rate;
        let outgoing = Outgoing::new(options);
        let ledger = outgoing.ledger();
        let sender = Arc::new(Mutex::new(outgoing));
        let (stop, paused) = (CancellationToken::new(), tokio::sync::watch::Sender::new(false));
        let pace = rate.filter(|rate| *rate > 0.0).map(|rate| {
            let work = at_pace(Arc::clone(&sender), rate, paused.subscribe());
            let stop = stop.clone();
            tokio::spawn(async move {
                stop.run_until_cancelled(work).await;
            })
        });
        Self { sender, ledger, pace, paused, stop: stop.drop_guard() }
    }

    /// Sends the next so many webhooks now, and returns when each was answered or given up.
    pub async fn send(&self, webhooks: u64) -> Vec<Sent> {
        let mut sent = Vec::new();
        for _ in 0..webhooks {
            sent.push(self.sender.lock().await.next(None).await);
        }
        sent
    }

    /// Sends a new order that has something odd about it. No later webhook tells of that order.
    pub async fn send_odd(&self, quirk: Quirk) -> Sent {
        self.sender.lock().await.next(Some(quirk)).await
    }

    /// Sends the last accepted webhook again, byte for byte and with its id, as a shop that missed the answer does. None if
    /// none was accepted yet.
    pub async fn resend_last(&self) -> Option<Sent> {
        self.sender.lock().await.again().await
    }

    /// Stops sending at the rate, from the next webhook on.
    pub fn pause(&self) {
        self.paused.send_replace(true);
    }

    /// Sends at the rate again.
    pub fn resume(&self) {
        self.paused.send_replace(false);
    }

    /// What was sent, in order; retries of one webhook are one entry.
    pub fn sent(&self) -> Vec<Sent> {
        self.ledger.list()
    }

    /// The webhook of this id, as it was last sent. Recent ones are found soonest.
    pub fn find(&self, id: &str) -> Option<Sent> {
        self.ledger.find(id)
    }

    /// How many webhooks were accepted, resent ones included.
    pub fn accepted(&self) -> u64 {
        self.ledger.counts().accepted
    }

    /// Waits until so many webhooks were accepted, resent ones included.
    pub async fn wait_for_accepted(&self, webhooks: u64, within: Duration) -> Result<(), TimedOut> {
        self.ledger.wait_for_accepted(webhooks, within).await
    }

    /// Closes the shop; a webhook that is out is given up.
    pub async fn stop(self) {
        drop(self.stop);
        if let Some(pace) = self.pace {
            let _ = pace.await;
        }
    }
}

async fn at_pace(sender: Arc<Mutex<Outgoing>>, rate: f64, mut paused: tokio::sync::watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if paused.wait_for(|paused| !paused).await.is_err() {
            return;
        }
        sender.lock().await.next(None).await;
    }
}
