//! One channel, and the task that publishes on it.

use std::{sync::Arc, task::Context, time::Duration};

use bytes::Bytes;
use crossdock_core::{Partition, PublishError, Topic, chain};
use futures::{FutureExt, future::maybe_done, task::noop_waker_ref};
use lapin::{
    Channel, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use tokio::{sync::mpsc, time::timeout};

use super::{
    flight::{Flight, Landed, Lost, Verdict},
    line::{Item, Job, Line},
    silence::Silence,
};
use crate::{
    link::{CALL_MAX, Link, Trouble},
    names::{Names, key},
    record,
    registry::Registry,
    sequence::{Numbers, Sequence},
    topology::Desk,
};

/// How many messages are handed to the client at a time.
const AT_ONCE: usize = 1_000;
/// not-found: the exchange was deleted.
const NOT_FOUND: u16 = 404;
/// precondition-failed: among other things, an event is too large.
const REFUSED: u16 = 406;
/// How long a channel may take to end.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// What a lane works with.
pub(crate) struct Surroundings {
    pub(crate) line: Arc<Line>,
    pub(crate) link: Arc<Link>,
    pub(crate) names: Names,
    pub(crate) registry: Arc<Registry>,
    /// How long the broker may take.
    pub(crate) limit: Duration,
    /// Who is told of topics whose events find no queue.
    pub(crate) unrouted: mpsc::UnboundedSender<Topic>,
}

impl Surroundings {
    fn verdict(&self, bytes_max: Option<usize>) -> Verdict<'_> {
        Verdict { names: &self.names, registry: &self.registry, bytes_max }
    }
}

/// A lane.
pub(crate) struct Lane {
    number: usize,
    with: Arc<Surroundings>,
    channel: Option<Channel>,
    /// The broker has refused an event on this channel. A quorum queue that was full may go on refusing what comes from a
    /// channel although there is room again: the next one begins anew.
    refused: bool,
    desk: Desk,
    /// Of the channel, until the broker refuses something.
    numbers: Numbers,
    flight: Flight,
    silence: Silence,
}

/// Why a job was not sent.
enum Unsent {
    /// Its topic is not there; others are not touched.
    UnknownTopic,
    /// Nothing can be sent now.
    Unavailable(String),
    /// Some of it may have been sent.
    Unknown(String),
}

impl Lane {
    pub(crate) fn new(number: usize, with: Arc<Surroundings>) -> Self {
        let desk = Desk::new(with.link.clone());
        let (numbers, flight, silence) = (Numbers::new(), Flight::default(), Silence::default());
        Self { number, with, channel: None, refused: false, desk, numbers, flight, silence }
    }

    /// Works until the line is closed and everything is answered.
    pub(crate) async fn run(mut self) {
        let mut open = true;
        while open || !self.flight.is_empty() {
            let (line, limit) = (self.with.line.clone(), self.with.limit);
            let (waits, has_room) = (!self.flight.is_empty(), self.flight.has_room());
            tokio::select! {
                landed = self.flight.landed(limit), if waits => match landed {
                    Ok(()) => self.answer(),
                    Err(lost) => self.lose(lost).await,
                },
                job = line.next(self.number), if open && has_room => match job {
                    Some(job) => self.send(job).await,
                    None => open = false,
                },
            }
        }
    }

    /// Answers for the first job of the flight.
    fn answer(&mut self) {
        let Some(channel) = &self.channel else { return };
        let Some(landed) = self.flight.land(channel, &self.with.verdict(None)) else { return };
        self.silence.ends(&landed);
        self.hand_out(landed);
    }

    fn hand_out(&mut self, landed: Landed) {
        let Landed { job, answers, unrouted, refused } = landed;
        if unrouted {
            // Nobody listens any more when the broker is being closed.
            let _ = self.with.unrouted.send(job.topic.clone());
        }
        self.refused |= refused;
        if unrouted || refused {
            self.numbers = Numbers::new();
        }
        job.answer(answers);
    }

    async fn send(&mut self, mut job: Job) {
        match self.try_send(&mut job).await {
            Ok((bytes, confirms)) => self.flight.add(job, bytes, confirms),
            Err(Unsent::UnknownTopic) => {
                let error = PublishError::UnknownTopic(job.topic.clone());
                job.give_back(&error);
            }
            Err(Unsent::Unavailable(why)) => {
                self.fall(&why, None, Some((job, PublishError::Unavailable(why.clone()))))
            }
            Err(Unsent::Unknown(why)) => self.fall(&why, None, Some((job, PublishError::Unknown))),
        }
    }

    async fn try_send(&mut self, job: &mut Job) -> Result<(usize, Vec<PublisherConfirm>), Unsent> {
        self.unblocked().await?;
        let channel = self.ready().await?;
        self.known(&job.topic).await?;
        let exchange = ShortString::from(self.with.names.exchange(&job.topic));
        // Where no flow reads the topic, its events are nobody's: the broker drops them. Else each must find a queue.
        let mandatory = !self.with.registry.groups_of(&job.topic).is_empty();
        let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
        let (mut bytes, mut confirms) = (0, Vec::with_capacity(job.items.len()));
        for items in job.items.chunks_mut(AT_ONCE) {
            bytes += items.iter().map(|item| item.event.data.len()).sum::<usize>();
            let numbers = self.numbers.of(&job.topic);
            let writing = write(&channel, &exchange, options, items, numbers, &mut confirms);
            match timeout(self.with.limit, writing).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    self.channel = None;
                    return Err(Unsent::Unknown(chain(&error)));
                }
                Err(_) => {
                    self.abandon_channel().await;
                    return Err(Unsent::Unknown("the broker takes nothing from us".to_owned()));
                }
            }
            // The bytes are with the client; what is still needed of an event is its key.
            items.iter_mut().for_each(|item| item.event.data = Bytes::new());
        }
        Ok((bytes, confirms))
    }

    /// Waits while the broker is short of memory or disk.
    async fn unblocked(&self) -> Result<(), Unsent> {
        let mut blocked = self.with.link.blocked();
        let Some(reason) = blocked.borrow().clone() else { return Ok(()) };
        match timeout(self.with.limit, blocked.wait_for(Option::is_none)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Unsent::Unavailable(format!("the broker takes no events: {reason}"))),
        }
    }

    /// The channel, confirms switched on.
    async fn ready(&mut self) -> Result<Channel, Unsent> {
        if self.refused && self.flight.is_empty() {
            self.channel = None;
        }
        if let Some(channel) = self.channel.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        if !self.flight.is_empty() {
            return Err(Unsent::Unavailable("the channel was closed".to_owned()));
        }
        let unavailable = |error: Trouble| Unsent::Unavailable(chain(&error));
        let channel = self.with.link.channel().await.map_err(unavailable)?;
        match timeout(CALL_MAX, channel.confirm_select(ConfirmSelectOptions::default())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(unavailable(error.into())),
            Err(_) => return Err(unavailable(Trouble::Silent)),
        }
        self.channel = Some(channel.clone());
        self.numbers = Numbers::new();
        self.refused = false;
        Ok(channel)
    }

    /// Asks whether a topic is there, once: publishing to one that is not would close the channel.
    async fn known(&mut self, topic: &Topic) -> Result<(), Unsent> {
        if self.with.registry.has_exchange(topic) {
            return Ok(());
        }
        match self.desk.has_exchange(&self.with.names.exchange(topic)).await {
            Ok(true) => {
                self.with.registry.saw_exchange(topic);
                Ok(())
            }
            Ok(false) => Err(Unsent::UnknownTopic),
            Err(error) => Err(Unsent::Unavailable(chain(&error))),
        }
    }

    /// The confirms of the first job do not come.
    async fn lose(&mut self, lost: Lost) {
        match lost {
            Lost::Broken(error) => self.broken(Trouble::from(error)),
            Lost::Late => self.late().await,
        }
    }

    fn broken(&mut self, trouble: Trouble) {
        self.channel = None;
        let why = chain(&trouble);
        if trouble.code() == Some(NOT_FOUND) {
            let topics = self.flight.jobs().map(|job| &job.topic);
            topics.for_each(|topic| self.with.registry.forget_exchange(topic));
        }
        let bytes_max = too_large(&trouble);
        if let Some(bytes_max) = bytes_max {
            self.with.line.limit(bytes_max);
            tracing::warn!(
                bytes_max,
                "the broker takes no larger events, by its `max_message_size`: they are refused, until the hub is started anew"
            );
        } else if trouble.is_of_channel() {
            tracing::warn!(
                error = why,
                "publishing was broken off; what is not confirmed is published once more"
            );
        }
        self.fall(&why, bytes_max, None);
    }

    /// Nothing was confirmed for long. Unless the broker has said that it takes nothing, it does not answer, or some queue does not.
    async fn late(&mut self) {
        let silent = self.flight.missing();
        let is_blocked = self.with.link.blocked().borrow().is_some();
        let answers = !is_blocked && self.with.link.channel().await.is_ok();
        // A connection that is lost takes its channels along, and another one has answered.
        if answers && self.channel.as_ref().is_some_and(|channel| channel.status().connected()) {
            let queues = |shard: &Partition| self.with.registry.queues(&self.with.names, shard);
            self.silence.begins(silent, queues, self.with.link.vhost(), self.with.limit);
        }
        self.abandon_channel().await;
        self.fall("the broker confirms nothing", None, None);
    }

    /// Gives the channel up, unless the broker has said that it takes nothing: then it would take nothing from the next one. One that
    /// waits for a queue hears nothing, not even that it is to end: then it goes with the connection.
    async fn abandon_channel(&mut self) {
        if self.with.link.blocked().borrow().is_some() {
            return;
        }
        if let Some(channel) = self.channel.take()
            && !matches!(timeout(CLOSE_MAX, channel.close(200, "OK".into())).await, Ok(Ok(())))
        {
            self.with.link.renew().await;
        }
    }

    /// Gives back all that is in flight and all that waits, and the job at hand.
    fn fall(&mut self, why: &str, bytes_max: Option<usize>, at_hand: Option<(Job, PublishError)>) {
        let (waited, sent) = (at_hand.as_ref().map(|(job, _)| job), self.flight.jobs());
        self.with.line.break_off(self.number, why, sent.chain(waited));
        for landed in self.flight.give_up(&self.with.verdict(bytes_max)) {
            self.hand_out(landed);
        }
        if let Some((job, error)) = at_hand {
            job.give_back(&error);
        }
    }
}

/// The size above which the broker has refused an event, if that is the trouble. It is told in the text alone:
/// "message size 2 is larger than configured max size 1" (`rabbit_channel:check_msg_size`).
fn too_large(trouble: &Trouble) -> Option<usize> {
    let Trouble::Failed(error) = trouble else { return None };
    let text = error.to_string();
    let (_, limit) = text.split_once("is larger than ").filter(|_| trouble.code() == Some(REFUSED))?;
    let (_, limit) = limit.split_once("max size ")?;
    let digits = limit.find(|c: char| !c.is_ascii_digit()).unwrap_or(limit.len());
    limit[..digits].parse().ok()
}

/// Hands messages to the client, all of them before it is waited for any: so they are written with few calls of the system.
/// Awaiting each for itself costs three times the processor time.
async fn write(
    channel: &Channel,
    exchange: &ShortString,
    options: BasicPublishOptions,
    items: &[Item],
    mut numbers: impl FnMut(u32) -> Sequence,
    confirms: &mut Vec<PublisherConfirm>,
) -> lapin::Result<()> {
    let mut sends = Vec::with_capacity(items.len());
    for item in items {
        let key = ShortString::from(key(item.shard));
        let properties = record::properties(&item.event, item.offset, numbers(item.shard));
        let send = channel.basic_publish(exchange.clone(), key, options, &item.event.data, properties);
        let mut send = Box::pin(maybe_done(send));
        // The first poll puts the frames into the queue of the client.
        let _ = send.poll_unpin(&mut Context::from_waker(noop_waker_ref()));
        sends.push(send);
    }
    for mut send in sends {
        send.as_mut().await;
        let confirm = send.as_mut().take_output().expect("it was awaited");
        confirms.push(confirm?);
    }
    Ok(())
}
