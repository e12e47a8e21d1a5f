//! A connection that is made again when it is lost. There are two, one for publishing and one for all else: a broker that is
//! short of memory or disk stops reading from whoever publishes, and acknowledgements must not wait behind that.
//!
//! Nothing is recovered by the client library: channels die with their connection, and whoever used one asks for another one.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt};
use lapin::{Channel, Connection, ErrorKind, Event};
use tokio::{
    runtime::Handle,
    sync::{OnceCell, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    RabbitOptions,
    dial::{Refusal, RefusalKind, dial, version},
};

/// How long the broker may take for one call.
pub(crate) const CALL_MAX: Duration = Duration::from_secs(10);
/// The first and the longest wait between two tries to connect.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// What a frame holds unless the broker says less.
const FRAME_BYTES: usize = 131_072;

/// Why a call to the broker failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Failed(#[from] lapin::Error),
    #[error("the broker did not answer within {CALL_MAX:?}")]
    Silent,
}

impl Trouble {
    /// Whether it ended a channel, and the connection goes on.
    pub(crate) fn is_of_channel(&self) -> bool {
        matches!(self, Self::Failed(error) if error.is_amqp_soft_error())
    }

    /// The code with which the broker refused the call.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Failed(error) => match error.kind() {
                ErrorKind::ProtocolError(refused) => Some(refused.get_id()),
                _ => None,
            },
            _ => None,
        }
    }
}

/// A connection that is made again.
pub(crate) struct Link {
    purpose: &'static str,
    options: Arc<RabbitOptions>,
    /// Where the tasks of the adapter run, whoever calls.
    runtime: Handle,
    /// Whoever uses it says what is wrong.
    is_quiet: bool,
    attempts: tokio::sync::Mutex<Attempts>,
    /// Why the broker takes nothing from us.
    blocked: watch::Sender<Option<String>>,
    /// What was told last of it; none while it answers.
    told: Mutex<Option<RefusalKind>>,
    frame_bytes: AtomicUsize,
    /// The version of the broker, if it tells.
    version: OnceCell<Option<(u32, u32)>>,
}

#[derive(Default)]
struct Attempts {
    live: Option<Live>,
    /// The last failure, until when it counts, and the wait after the next one.
    failed: Option<(Refusal, Instant, Duration)>,
    closed: bool,
}

/// A connection, and what follows it: that ends with this, so that a connection which is given up says nothing any more.
struct Live {
    connection: Arc<Connection>,
    attended: DropGuard,
}

impl Link {
    pub(crate) fn new(purpose: &'static str, options: Arc<RabbitOptions>, runtime: Handle) -> Arc<Self> {
        Self::with(purpose, options, runtime, false)
    }

    /// One more to the same broker, which leaves it to others to say that it is lost.
    pub(crate) fn another(&self, purpose: &'static str) -> Arc<Self> {
        Self::with(purpose, self.options.clone(), self.runtime.clone(), true)
    }

    fn with(
        purpose: &'static str,
        options: Arc<RabbitOptions>,
        runtime: Handle,
        is_quiet: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            purpose,
            options,
            runtime,
            is_quiet,
            attempts: tokio::sync::Mutex::default(),
            blocked: watch::Sender::new(None),
            told: Mutex::new(None),
            frame_bytes: AtomicUsize::new(FRAME_BYTES),
            version: OnceCell::new(),
        })
    }

    /// One that begins with a connection that there is already.
    pub(crate) async fn over(
        connection: Connection,
        purpose: &'static str,
        options: Arc<RabbitOptions>,
        runtime: Handle,
    ) -> Arc<Self> {
        let link = Self::new(purpose, options, runtime);
        let live = link.found(Arc::new(connection));
        link.attempts.lock().await.live = Some(live);
        link
    }

    /// The connection; made anew if it is lost. While the last failure is fresh it is answered instead of another try.
    pub(crate) async fn connection(self: &Arc<Self>) -> Result<Arc<Connection>, Trouble> {
        let mut attempts = self.attempts.lock().await;
        if attempts.closed {
            return Err(lapin::Error::from(ErrorKind::InvalidConnectionState(
                lapin::ConnectionState::Closed,
            ))
            .into());
        }
        if let Some(Live { connection, .. }) = &attempts.live {
            if connection.status().connected() {
                return Ok(connection.clone());
            }
            self.lost(RefusalKind::Unreachable, "the connection is lost");
            attempts.live = None;
        }
        if let Some((refusal, until, _)) = &attempts.failed
            && Instant::now() < *until
        {
            return Err(refusal.clone().into());
        }
        let (options, purpose) = (self.options.clone(), self.purpose);
        let dialled = self.runtime.spawn(async move { dial(&options, purpose).await }).await;
        match dialled.unwrap_or_else(|error| Err(Refusal::internal(&error))) {
            Ok(connection) => {
                let connection = Arc::new(connection);
                let live = Some(self.found(connection.clone()));
                *attempts = Attempts { live, failed: None, closed: false };
                Ok(connection)
            }
            Err(refusal) => {
                self.lost(refusal.kind, &refusal.text);
                let wait = attempts.failed.as_ref().map_or(AGAIN, |(.., wait)| *wait);
                let next = (wait * 2).min(AGAIN_MAX);
                attempts.failed = Some((refusal.clone(), Instant::now() + wait, next));
                Err(refusal.into())
            }
        }
    }

    /// A new channel.
    pub(crate) async fn channel(self: &Arc<Self>) -> Result<Channel, Trouble> {
        let connection = self.connection().await?;
        match timeout(CALL_MAX, connection.create_channel()).await {
            Ok(channel) => Ok(channel?),
            Err(_) => {
                self.discard().await;
                Err(Trouble::Silent)
            }
        }
    }

    /// The version of the broker, major and minor; none if it does not tell.
    pub(crate) async fn version(&self) -> Result<Option<(u32, u32)>, Trouble> {
        let ask = async || {
            let options = self.options.clone();
            let asked = self.runtime.spawn(async move { version(&options).await }).await;
            Ok(asked.unwrap_or_else(|error| Err(Refusal::internal(&error)))?)
        };
        self.version.get_or_try_init(ask).await.copied()
    }

    /// Whether a queue can say that it has no delivery limit: -1 is none from version 4 on. Before, it is one that drops an event
    /// when it is delivered a second time.
    pub(crate) async fn knows_unlimited(&self) -> Result<bool, Trouble> {
        Ok(self.version().await?.is_some_and(|(major, _)| major >= 4))
    }

    /// Gives the connection up: it does not answer.
    pub(crate) async fn discard(self: &Arc<Self>) {
        if self.renew().await {
            self.lost(RefusalKind::Unreachable, "the broker does not answer");
        }
    }

    /// Gives the connection up, if there is one; who asks next gets a new one.
    pub(crate) async fn renew(&self) -> bool {
        let live = self.attempts.lock().await.live.take();
        let was_there = live.is_some();
        if let Some(live) = live {
            self.runtime.spawn(hang_up(live));
        }
        was_there
    }

    /// Makes no connection any more, and ends the one there is.
    pub(crate) async fn close(&self) {
        let live = {
            let mut attempts = self.attempts.lock().await;
            attempts.closed = true;
            attempts.live.take()
        };
        if let Some(live) = live {
            hang_up(live).await;
        }
    }

    /// The virtual host.
    pub(crate) fn vhost(&self) -> &str {
        &self.options.vhost
    }

    /// Why the broker takes nothing from us, if it does not.
    pub(crate) fn blocked(&self) -> watch::Receiver<Option<String>> {
        self.blocked.subscribe()
    }

    /// How much the attributes of an event may take.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.frame_bytes.load(Ordering::Relaxed)
    }

    fn found(self: &Arc<Self>, connection: Arc<Connection>) -> Live {
        let frame = usize::try_from(connection.configuration().frame_max()).unwrap_or(FRAME_BYTES);
        self.frame_bytes.store(frame, Ordering::Relaxed);
        self.blocked.send_replace(None);
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (purpose, servers) = (self.purpose, self.options.servers());
        match told {
            Some(_) if !self.is_quiet => tracing::info!(purpose, servers, "the broker answers again"),
            _ => tracing::debug!(purpose, servers, "connected to the broker"),
        }
        let given_up = CancellationToken::new();
        let events = connection.events_listener();
        let attending = attend(Arc::downgrade(self), Arc::downgrade(&connection), events, given_up.clone());
        self.runtime.spawn(given_up.clone().run_until_cancelled_owned(attending));
        Live { connection, attended: given_up.drop_guard() }
    }

    /// Says so, once for each kind of reason.
    fn lost(&self, kind: RefusalKind, why: &str) {
        self.blocked.send_replace(None);
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).replace(kind);
        let (purpose, servers) = (self.purpose, self.options.servers());
        if told == Some(kind) || self.is_quiet {
            tracing::debug!(purpose, servers, error = why, "the broker is still not available");
        } else {
            tracing::warn!(
                purpose,
                servers,
                error = why,
                "the broker is not available; it is tried again until it is"
            );
        }
    }
}

impl Refusal {
    fn internal(error: &dyn std::error::Error) -> Self {
        let text = format!("connecting ended by itself: {error}");
        Self { kind: RefusalKind::Unreachable, text }
    }
}

/// Ends a connection in order, if the broker has an ear for it. That it ends is nothing to be told.
async fn hang_up(Live { connection, attended }: Live) {
    drop(attended);
    // Dropping it ends it too, only later.
    let _ = timeout(Duration::from_secs(2), connection.close(200, "OK".into())).await;
}

/// Follows what the broker says about a connection, until there is none or it is given up.
async fn attend(
    link: Weak<Link>,
    connection: Weak<Connection>,
    events: impl Stream<Item = Event>,
    given_up: CancellationToken,
) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let Some(link) = link.upgrade() else { return };
        let purpose = link.purpose;
        match event {
            Event::ConnectionBlocked(reason) => {
                tracing::warn!(purpose, reason, "the broker takes no events: it is short of memory or disk");
                link.blocked.send_replace(Some(reason));
            }
            Event::ConnectionUnblocked => {
                tracing::info!(purpose, "the broker takes events again");
                link.blocked.send_replace(None);
            }
            // Channels tell their errors here too.
            Event::Error(error) if !connection.upgrade().is_some_and(|there| there.status().connected()) => {
                // It may have been given up while this ran.
                if !given_up.is_cancelled() {
                    link.lost(RefusalKind::Unreachable, &crossdock_core::chain(&error));
                }
                return;
            }
            _ => {}
        }
    }
}
