//! A CRM: contacts behind a bearer token.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hyper::Method;
use serde_json::Value;

use crate::{
    Answer, Ledger, LedgerOptions, Place, Received, StartError,
    server::{Server, System},
};

/// How a CRM is started.
#[derive(Clone)]
pub struct CrmOptions {
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// The token that `Authorization: Bearer …` must carry.
    pub token: String,
    /// What is written down. Key (the contact) and sequence (`/sequence`) are found where this API has them.
    pub ledger: LedgerOptions,
}

/// How long a behaviour lasts. Afterwards the CRM is well again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// Until another behaviour is set.
    UntilTold,
    /// For so many requests.
    Requests(u64),
    /// For so long.
    Time(Duration),
}

/// What the CRM does with requests whose token is right.
#[derive(Clone)]
pub enum Behaviour {
    /// Takes everything.
    Ok,
    /// 503 for everything.
    Outage(Lasting),
    /// 429 with `Retry-After`.
    Throttle {
        /// What it asks for.
        retry_after: Duration,
        /// For how long it does.
        lasting: Lasting,
    },
    /// 422 with a code for what the predicate finds in the body; takes everything else.
    Reject {
        /// What is refused.
        predicate: Arc<dyn Fn(&Value) -> bool + Send + Sync>,
        /// `error.code` of the answer.
        code: String,
        /// `error.message` of the answer.
        message: String,
    },
    /// Takes everything, after a while.
    Slow(Duration),
}

impl Behaviour {
    /// Refuses bodies that the predicate finds.
    pub fn reject(
        code: &str,
        message: &str,
        predicate: impl Fn(&Value) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::Reject { predicate: Arc::new(predicate), code: code.to_owned(), message: message.to_owned() }
    }

    fn lasting(&self) -> Lasting {
        match self {
            Self::Outage(lasting) | Self::Throttle { lasting, .. } => *lasting,
            Self::Ok | Self::Reject { .. } | Self::Slow(_) => Lasting::UntilTold,
        }
    }
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("Ok"),
            Self::Outage(lasting) => write!(f, "Outage({lasting:?})"),
            Self::Throttle { retry_after, lasting } => write!(f, "Throttle({retry_after:?}, {lasting:?})"),
            Self::Reject { code, .. } => write!(f, "Reject({code})"),
            Self::Slow(delay) => write!(f, "Slow({delay:?})"),
        }
    }
}

/// A running CRM. `PUT` or `POST /contacts/{id}` and `POST /orders` take a JSON body; without the token they answer
/// 401. The ledger's key is the last segment of the path for contacts.
pub struct Crm {
    server: Server,
    state: Arc<State>,
}

struct State {
    token: String,
    ledger: Ledger,
    behaviour: Mutex<(Behaviour, Since)>,
}

/// What a behaviour has used up of its time.
struct Since {
    set: Instant,
    requests: u64,
}

impl Crm {
    /// Listens on loopback.
    pub async fn start(options: CrmOptions) -> Result<Self, StartError> {
        let failed = |source| StartError { system: "crm", doing: "opening its ledger", source };
        let places = LedgerOptions {
            key: options.ledger.key.clone().or(Some(Place::LastSegment)),
            seq: options.ledger.seq.clone().or(Some(Place::Pointer("/sequence".to_owned()))),
            ..options.ledger
        };
        let state = Arc::new(State {
            token: options.token,
            ledger: Ledger::open(places).map_err(failed)?,
            behaviour: Mutex::new((Behaviour::Ok, Since::now())),
        });
        let server = Server::start("crm", options.port, Arc::clone(&state)).await?;
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

    /// Changes what it does, from the next request on.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.state.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = (behaviour, Since::now());
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
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        if token != Some(self.token.as_str()) {
            return Answer::error(401, "INVALID_TOKEN", "the bearer token is missing or wrong");
        }
        let known = match request.path().split('/').collect::<Vec<_>>()[..] {
            ["", "contacts", id] => !id.is_empty() && [Method::PUT, Method::POST].contains(&request.method),
            ["", "orders"] => request.method == Method::POST,
            _ => false,
        };
        if !known {
            return Answer::error(404, "NOT_FOUND", "this CRM has PUT /contacts/{id} and POST /orders");
        }
        self.behave(self.behaviour(), &request.body)
    }

    /// What holds for this request.
    fn behaviour(&self) -> Behaviour {
        let mut current = self.behaviour.lock().unwrap_or_else(PoisonError::into_inner);
        let (behaviour, since) = &mut *current;
        since.requests += 1;
        let over = match behaviour.lasting() {
            Lasting::UntilTold => false,
            Lasting::Requests(requests) => since.requests > requests,
            Lasting::Time(time) => since.set.elapsed() >= time,
        };
        if over {
            *behaviour = Behaviour::Ok;
        }
        behaviour.clone()
    }

    fn behave(&self, behaviour: Behaviour, body: &[u8]) -> Answer {
        let taken = || Answer::ok().header("content-type", "application/json").body("{\"result\":\"saved\"}");
        match behaviour {
            Behaviour::Ok => taken(),
            Behaviour::Slow(delay) => taken().delay(delay),
            Behaviour::Outage(_) => Answer::error(503, "UNAVAILABLE", "the CRM is down for maintenance"),
            Behaviour::Throttle { retry_after, .. } => {
                Answer::error(429, "RATE_LIMITED", "too many requests").retry_after(retry_after)
            }
            Behaviour::Reject { predicate, code, message } => {
                let body = serde_json::from_slice(body).unwrap_or(Value::Null);
                if predicate(&body) { Answer::error(422, &code, &message) } else { taken() }
            }
        }
    }
}

impl Since {
    fn now() -> Self {
        Self { set: Instant::now(), requests: 0 }
    }
}
