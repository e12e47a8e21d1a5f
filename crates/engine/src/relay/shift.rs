//! One term of office: read, publish, advance, at the same time and in order.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use crossdock_core::{Broker, OutboxPage, OutboxReader, PageMark, RefusedEvent, StoreError};
use futures::{FutureExt, StreamExt, future::BoxFuture, poll, stream::FuturesOrdered};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::limit::within_time;

use super::{
    page::{Outgoing, Sent},
    recovery::Recovery,
    watch::Watch,
};

/// Pages on their way to the broker, and events in them: two full pages, and a third one that is begun. Small pages may be
/// more, so that a slow answer does not hold up what comes in meanwhile.
const PAGES_OUT_MAX: usize = 8;
const EVENTS_OUT_MAX: usize = 2 * OutboxPage::EVENTS_MAX;
/// The waits before an outbox is read again that had nothing more: while events come in, and the longest.
const BUSY_WAIT: Duration = Duration::from_millis(2);
const IDLE_WAIT: Duration = Duration::from_millis(250);
/// How often what is in the broker is made known to the outbox at the most, and at the least.
const ADVANCE_EVERY: Duration = Duration::from_millis(50);
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How long an outbox may take for a page, and for an advance: the lease would be lost after that.
const READ_MAX: Duration = Duration::from_secs(60);
const ADVANCE_MAX: Duration = Duration::from_secs(20);
/// How long what is on its way may take once the hub stops.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Why a term of office ended.
#[derive(Debug)]
pub(super) enum End {
    /// The hub stops.
    Stopped,
    /// The broker did not take everything.
    Broker,
    /// The outbox fails, or has another reader.
    Store(StoreError),
}

/// What a term works with.
pub(super) struct Desk<'a> {
    pub(super) reader: &'a dyn OutboxReader,
    pub(super) broker: &'a Arc<dyn Broker>,
    pub(super) watch: &'a Watch,
    pub(super) stop: &'a CancellationToken,
}

/// A term of office.
pub(super) struct Shift<'a> {
    desk: Desk<'a>,
    recovery: &'a mut Recovery,
    out: FuturesOrdered<BoxFuture<'static, Sent>>,
    /// How many events each page that is out has, in order.
    counts: VecDeque<usize>,
    reading: Option<BoxFuture<'a, Result<OutboxPage, StoreError>>>,
    read_at: Instant,
    pause: Duration,
    advancing: Option<BoxFuture<'a, Result<(), StoreError>>>,
    /// What is in the broker and not made known.
    done: Option<(PageMark, Vec<RefusedEvent>)>,
    said_at: Instant,
    end: Option<End>,
    /// Until when what is out is waited for.
    until: Option<Instant>,
    /// Pages from here on are not advanced.
    broken: bool,
    /// Set as soon as any event fails, also of a page of which the rest is still on its way.
    failing: Arc<AtomicBool>,
}

impl<'a> Shift<'a> {
    pub(super) fn new(desk: Desk<'a>, recovery: &'a mut Recovery) -> Self {
        Self {
            desk,
            recovery,
            out: FuturesOrdered::new(),
            counts: VecDeque::new(),
            reading: None,
            read_at: Instant::now(),
            pause: BUSY_WAIT,
            advancing: None,
            done: None,
            said_at: Instant::now(),
            end: None,
            until: None,
            broken: false,
            failing: Arc::default(),
        }
    }

    /// Works until something ends it; then waits for what is out, and makes known what the broker has. Nothing of this term is
    /// on its way after that.
    pub(super) async fn run(mut self) -> End {
        while self.end.is_none() || self.is_busy() {
            self.start();
            self.step().await;
        }
        if let Some((mark, refused)) = self.done.take()
            && !matches!(self.end, Some(End::Store(_)))
            && let Err(error) = advance(self.desk.reader, mark, refused).await
        {
            self.end = Some(End::Store(error));
        }
        self.end.unwrap_or(End::Stopped)
    }

    fn is_busy(&self) -> bool {
        let patient = self.until.is_none_or(|until| Instant::now() < until);
        // A read ends at once; its page comes again.
        self.reading.is_some() || self.advancing.is_some() || (patient && !self.out.is_empty())
    }

    fn start(&mut self) {
        let (reader, now) = (self.desk.reader, Instant::now());
        if self.end.is_none() && self.reading.is_none() && self.read_at <= now && self.has_room() {
            self.reading = Some(Box::pin(within_time(READ_MAX, "reading the outbox", reader.read())));
        }
        if self.advancing.is_none() && self.advance_at() <= now && self.end.is_none() {
            self.said_at = now;
            self.advancing = Some(match self.done.take() {
                Some((mark, refused)) => Box::pin(advance(reader, mark, refused)),
                None => {
                    Box::pin(within_time(ADVANCE_MAX, "staying the reader of the outbox", reader.renew()))
                }
            });
        }
    }

    fn has_room(&self) -> bool {
        self.counts.len() < PAGES_OUT_MAX && self.counts.iter().sum::<usize>() <= EVENTS_OUT_MAX
    }

    fn advance_at(&self) -> Instant {
        self.said_at + if self.done.is_some() { ADVANCE_EVERY } else { RENEW_EVERY }
    }

    async fn step(&mut self) {
        let mut wake = self.until;
        if self.end.is_none() {
            if self.reading.is_none() && self.has_room() {
                wake = Some(self.read_at);
            }
            if self.advancing.is_none() {
                wake = Some(wake.unwrap_or(self.advance_at()).min(self.advance_at()));
            }
        }
        tokio::select! {
            Some(sent) = self.out.next(), if !self.out.is_empty() => self.sent(sent),
            page = poll_some(&mut self.reading), if self.reading.is_some() => {
                self.reading = None;
                match page {
                    Ok(page) => self.read(page).await,
                    Err(error) => self.ends(End::Store(error)),
                }
            }
            advanced = poll_some(&mut self.advancing), if self.advancing.is_some() => {
                self.advancing = None;
                if let Err(error) = advanced {
                    self.ends(End::Store(error));
                }
            }
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            () = self.desk.stop.cancelled(), if self.end.is_none() => {
                self.until = Some(Instant::now() + STOP_MAX);
                self.ends(End::Stopped);
            }
        }
    }

    /// The first reason counts.
    fn ends(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    async fn read(&mut self, page: OutboxPage) {
        // What has failed in the meantime comes before anything new.
        while let Some(Some(sent)) = self.out.next().now_or_never() {
            self.sent(sent);
        }
        if self.failing.load(Ordering::Acquire) {
            self.ends(End::Broker);
        }
        if self.end.is_some() {
            return;
        }
        self.desk.watch.store_answers();
        let nothing = page.events.is_empty();
        self.pause = if nothing { (self.pause * 2).min(IDLE_WAIT) } else { BUSY_WAIT };
        self.read_at = Instant::now() + if page.more { Duration::ZERO } else { self.pause };
        if nothing && page.malformed.is_empty() {
            self.desk.watch.gets_on();
            return;
        }
        let outgoing = Outgoing::new(page, self.recovery);
        self.counts.push_back(outgoing.count());
        let mut publishing: BoxFuture<'static, Sent> =
            Box::pin(outgoing.publish(self.desk.broker.clone(), self.failing.clone()));
        // Polled for the first time now: that is what the broker's order goes by.
        match poll!(&mut publishing) {
            Poll::Ready(sent) => self.out.push_back(Box::pin(std::future::ready(sent))),
            Poll::Pending => self.out.push_back(publishing),
        }
    }

    fn sent(&mut self, sent: Sent) {
        self.counts.pop_front();
        let Sent { mark, count, taken, failed, error, refused } = sent;
        self.broken |= error.is_some();
        if self.broken {
            self.recovery.note(taken.into_iter().flatten(), failed);
            if let Some(error) = error {
                self.desk.watch.broker_fails(&error);
                self.ends(End::Broker);
            }
            return;
        }
        for event in &refused {
            tracing::error!(
                seq = event.seq,
                reason = event.reason,
                "an event of the outbox is refused for good"
            );
        }
        let (_, all) = self.done.get_or_insert_with(|| (mark, Vec::new()));
        all.extend(refused);
        if let Some((last, _)) = &mut self.done {
            *last = mark;
        }
        self.recovery.settled();
        self.desk.watch.moved(count);
    }
}

async fn advance(
    reader: &dyn OutboxReader,
    mark: PageMark,
    refused: Vec<RefusedEvent>,
) -> Result<(), StoreError> {
    within_time(ADVANCE_MAX, "advancing the outbox", reader.advance(mark, refused)).await
}

async fn poll_some<T>(future: &mut Option<BoxFuture<'_, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
