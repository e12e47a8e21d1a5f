//! A warehouse: takes signed picks of SKUs that it knows.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use hyper::Method;
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    Answer, Ledger, LedgerOptions, Place, Received, StartError,
    server::{Server, System},
    shop::SKUS,
    signature::standard_signature,
};

/// How far a signature's time may be off, in seconds: five minutes, as the libraries of Standard Webhooks allow.
const TOLERANCE_SECONDS: u64 = 300;

/// How a warehouse is started.
#[derive(Debug, Clone)]
pub struct WarehouseOptions {
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// The signing secret, `whsec_` and base64.
    pub secret: String,
    /// What is written down. Key (`/customer`) and sequence (`/sequence`) are found where this API has them.
    pub ledger: LedgerOptions,
}

/// A running warehouse. `POST /picks` takes `{customer, sequence, lines: [{sku, quantity}]}` with a Standard Webhooks
/// signature: 401 if it is missing, wrong or old, 422 `UNKNOWN_SKU` for a SKU that it does not know. It knows what the
/// [`crate::Shop`] sells.
pub struct Warehouse {
    server: Server,
    state: Arc<State>,
}

struct State {
    secret: String,
    skus: Mutex<BTreeSet<String>>,
    ledger: Ledger,
}

impl Warehouse {
    /// Listens on loopback.
    pub async fn start(options: WarehouseOptions) -> Result<Self, StartError> {
        let failed = |source| StartError { system: "warehouse", doing: "opening its ledger", source };
        let pointer = |pointer: &str| Some(Place::Pointer(pointer.to_owned()));
        let places = LedgerOptions {
            key: options.ledger.key.clone().or(pointer("/customer")),
            seq: options.ledger.seq.clone().or(pointer("/sequence")),
            ..options.ledger
        };
        let state = Arc::new(State {
            secret: options.secret,
            skus: Mutex::new(SKUS.iter().map(|(sku, ..)| (*sku).to_owned()).collect()),
            ledger: Ledger::open(places).map_err(failed)?,
        });
        let server = Server::start("warehouse", options.port, Arc::clone(&state)).await?;
        Ok(Self { server, state })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    /// Its base URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.addr)
    }

    /// What arrived.
    pub fn ledger(&self) -> &Ledger {
        &self.state.ledger
    }

    /// Adds a SKU, from the next request on.
    pub fn learn(&self, sku: &str) {
        self.state.skus.lock().unwrap_or_else(PoisonError::into_inner).insert(sku.to_owned());
    }

    /// Closes everything, also in the middle of an answer.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

impl System for State {
    fn answer(&self, request: Received) -> Answer {
        let answer = self.decide(&request);
        self.ledger.record(&request, answer.status);
        answer
    }
}

impl State {
    fn decide(&self, request: &Received) -> Answer {
        if request.method != Method::POST || request.path() != "/picks" {
            return Answer::error(404, "NOT_FOUND", "this warehouse has POST /picks");
        }
        if !self.verifies(request) {
            return Answer::error(401, "BAD_SIGNATURE", "webhook-signature is missing, wrong or too old");
        }
        let pick: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let Some(lines) = pick["lines"].as_array() else {
            return Answer::error(400, "NO_LINES", "a pick has `lines` of `sku` and `quantity`");
        };
        let skus = self.skus.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = lines.iter().map(|line| line["sku"].as_str().unwrap_or_default());
        match wanted.find(|sku| !skus.contains(*sku)) {
            Some(sku) => Answer::error(422, "UNKNOWN_SKU", &format!("no shelf holds {sku}")),
            None => Answer::status(202)
                .body("{\"result\":\"picking\"}")
                .header("content-type", "application/json"),
        }
    }

    fn verifies(&self, request: &Received) -> bool {
        let (Some(id), Some(timestamp), Some(signatures)) = (
            request.header("webhook-id"),
            request.header("webhook-timestamp"),
            request.header("webhook-signature"),
        ) else {
            return false;
        };
        let age = timestamp.parse().map(|sent: i64| Timestamp::now().as_second().abs_diff(sent));
        let expected = standard_signature(&self.secret, id, timestamp, &request.body);
        age.is_ok_and(|age| age <= TOLERANCE_SECONDS)
            && expected.is_ok_and(|expected| signatures.split(' ').any(|signature| signature == expected))
    }
}
