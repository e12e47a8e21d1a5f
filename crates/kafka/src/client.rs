//! What every client of librdkafka has: its configuration, its log, its token.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use rdkafka::{
    ClientConfig, ClientContext,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    producer::ProducerContext,
    util::get_rdkafka_version,
};

use crate::{KafkaOptions, options, token};

/// The oldest librdkafka that loses nothing by what we know: before 1.9.0 events could be acknowledged and thrown away, before
/// 2.3.0 a producer could stay dead (reference: librdkafka's changelog).
const LIBRDKAFKA_MIN: i32 = 0x0203_0000;

/// The version of librdkafka that runs here, for the log; an error if it is one that loses events.
pub(crate) fn librdkafka() -> Result<String, String> {
    let (number, name) = get_rdkafka_version();
    if number < LIBRDKAFKA_MIN {
        return Err(format!("librdkafka {name} is too old: 2.3.0 or newer is needed"));
    }
    Ok(name)
}

/// What all clients are configured with, TLS and login apart.
pub(crate) fn base(options: &KafkaOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &options.servers)
        .set("client.id", "crossdock")
        // Ours to decide: provisioning makes topics, asking for one does not.
        .set("allow.auto.create.topics", "false")
        .set("message.max.bytes", options.record_bytes_max().to_string())
        // A broker that came back is found within a second.
        .set("reconnect.backoff.max.ms", "1000")
        .set("log.connection.close", "false")
        .set("enable.metrics.push", "false");
    config.set_log_level(RDKafkaLogLevel::Info);
    config
}

/// The configuration of a client: the base, what `own` sets, and what people pass on, in this order, so that people win where
/// they may have a say.
pub(crate) fn config(options: &KafkaOptions, own: &[(&str, String)]) -> ClientConfig {
    let mut config = base(options);
    options::secure(&mut config, options.tls.as_ref(), options.sasl.as_ref());
    for (name, value) in own {
        config.set(*name, value);
    }
    for (name, value) in &options.passed {
        config.set(name, value);
    }
    config
}

/// What a client said about why it cannot work.
#[derive(Debug, Clone)]
pub(crate) struct Reason {
    pub(crate) why: Why,
    pub(crate) text: String,
}

/// What kind of reason it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Tls,
    Login,
    Token,
    Name,
    /// The right to use a consumer group.
    Group,
    Other,
}

impl Why {
    fn of(code: Option<RDKafkaErrorCode>) -> Self {
        match code {
            Some(RDKafkaErrorCode::SSL) => Self::Tls,
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
                Self::Login
            }
            Some(RDKafkaErrorCode::Resolve) => Self::Name,
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => Self::Group,
            _ => Self::Other,
        }
    }

    /// Whether asking again within seconds is no use.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Tls | Self::Login | Self::Token)
    }
}

/// Whether the cluster answers, as all clients of one [`crate::Kafka`] see it. One log line for each change.
#[derive(Default)]
pub(crate) struct Health {
    quiet: bool,
    away: AtomicBool,
    reason: Mutex<Option<Reason>>,
}

impl Health {
    /// Logs nothing: for a look at the cluster, whose findings say it all.
    pub(crate) fn quiet() -> Self {
        Self { quiet: true, ..Self::default() }
    }

    /// Something went wrong that a client tells of by itself.
    fn failed(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        let mut last = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        // That all are down says nothing about why, and a login without a token not where the token is; what was said before
        // does.
        let known = last.as_ref().map(|last| last.why);
        let tells = match Why::of(code) {
            _ if code == Some(RDKafkaErrorCode::AllBrokersDown) => known.is_none(),
            Why::Login => known != Some(Why::Token),
            _ => true,
        };
        if tells {
            *last = Some(Reason { why: Why::of(code), text: reason.to_owned() });
        }
        let gone = matches!(
            code,
            Some(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL)
        );
        if gone && !self.quiet && !self.away.swap(true, Ordering::Relaxed) {
            let reason = last.as_ref().map(|reason| reason.text.as_str());
            tracing::warn!(target: "crossdock_kafka", reason, "kafka does not answer; trying again");
        }
    }

    /// The cluster has answered.
    pub(crate) fn answered(&self) {
        if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::Relaxed) {
            self.reason.lock().unwrap_or_else(PoisonError::into_inner).take();
            tracing::info!(target: "crossdock_kafka", "kafka answers again");
        }
    }

    /// Whether it does not answer.
    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// The last thing that a client said about why it cannot work.
    pub(crate) fn reason(&self) -> Option<Reason> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes what a client says by itself.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) health: Arc<Health>,
    token: Option<Arc<options::TokenEndpoint>>,
}

impl Context {
    pub(crate) fn new(options: &KafkaOptions, health: Arc<Health>) -> Self {
        let token = options.sasl.as_ref().and_then(|sasl| sasl.token.clone()).map(Arc::new);
        Self { health, token }
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Its warnings repeat with every try to connect; what has changed is told by `Health`.
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "crossdock_kafka", facility, "{message}");
            }
            _ => tracing::debug!(target: "crossdock_kafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "crossdock_kafka", %error, "{reason}");
        self.health.failed(&error, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let endpoint = self.token.as_ref().ok_or("this login has no token")?;
        token::fetch(endpoint).map_err(|error| {
            let text = crossdock_core::chain(&error);
            let reason = Reason { why: Why::Token, text: text.clone() };
            *self.health.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
            tracing::warn!(target: "crossdock_kafka", reason = text, "no token for kafka");
            text.into()
        })
    }
}

impl rdkafka::consumer::ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &rdkafka::producer::DeliveryResult<'_>, _: ()) {}
}
