//! One channel, and the task that publishes on it.

use std::{sync::Arc, task::Context, time::Duration};

use bytes::Bytes;
use crossdock_core::{PublishError, Topic, chain};
use futures::{FutureExt, future::maybe_done, task::noop_waker_ref};
use lapin::{
    Channel, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use tokio::{sync::mpsc, time::timeout};

use super::{
    flight::{Flight, Lost},
    line::{Item, Job, Line},
};
use crate::{
    link::{CALL_MAX, Link, Trouble},
    names::{Names, routing_key},
    record,
    registry::Registry,
    topology::Desk,
};

/// How many messages are handed to the client at a time.
const AT_ONCE: usize = 1_000;
/// not-found: the exchange was deleted.
const NOT_FOUND: u16 = 404;

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

/// A lane.
pub(crate) struct Lane {
    number: usize,
    with: Arc<Surroundings>,
    channel: Option<Channel>,
    /// The broker has refused an event on this channel. A quorum queue that was full may go on refusing what comes from a
    /// channel although there is room again: the next one begins anew.
    refused: bool,
    desk: Desk,
    flight: Flight,
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
        Self { number, with, channel: None, refused: false, desk, flight: Flight::default() }
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
        let Some(topic) = self.flight.first().map(|job| job.topic.clone()) else { return };
        let Some(channel) = &self.channel else { return };
        let exchange = self.with.names.exchange(&topic);
        if let Some(landed) = self.flight.land(channel, &exchange) {
            if landed.unrouted {
                // Nobody listens any more when the broker is being closed.
                let _ = self.with.unrouted.send(topic);
            }
            self.refused |= landed.refused;
            landed.job.answer(landed.answers);
        }
    }

    async fn send(&mut self, mut job: Job) {
        match self.try_send(&mut job).await {
            Ok((bytes, confirms)) => self.flight.add(job, bytes, confirms),
            Err(Unsent::UnknownTopic) => {
                let error = PublishError::UnknownTopic(job.topic.clone());
                job.give_back(&error);
            }
            Err(Unsent::Unavailable(why)) => {
                self.fall(&why, Some((job, PublishError::Unavailable(why.clone()))))
            }
            Err(Unsent::Unknown(why)) => self.fall(&why, Some((job, PublishError::Unknown))),
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
            let writing = write(&channel, &exchange, options, items, &mut confirms);
            match timeout(self.with.limit, writing).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    self.channel = None;
                    return Err(Unsent::Unknown(chain(&error)));
                }
                Err(_) => {
                    self.give_up_connection().await;
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

    async fn lose(&mut self, lost: Lost) {
        match lost {
            Lost::Broken(error) => {
                let trouble = Trouble::from(error);
                if trouble.code() == Some(NOT_FOUND) {
                    let topics = self.flight.jobs().map(|job| &job.topic);
                    topics.for_each(|topic| self.with.registry.forget_exchange(topic));
                }
                self.channel = None;
                self.fall(&chain(&trouble), None);
            }
            Lost::Late => {
                self.give_up_connection().await;
                self.fall("the broker confirms nothing", None);
            }
        }
    }

    /// Gives the connection up, unless the broker has said that it takes nothing: then it would take nothing from the next one.
    async fn give_up_connection(&mut self) {
        let is_blocked = self.with.link.blocked().borrow().is_some();
        if !is_blocked {
            self.channel = None;
            self.with.link.discard().await;
        }
    }

    /// Gives back all that is in flight and all that waits, and the job at hand.
    fn fall(&mut self, why: &str, at_hand: Option<(Job, PublishError)>) {
        let (waited, sent) = (at_hand.as_ref().map(|(job, _)| job), self.flight.jobs());
        self.with.line.break_off(self.number, why, sent.chain(waited));
        self.flight.take().for_each(|job| job.give_back(&PublishError::Unknown));
        if let Some((job, error)) = at_hand {
            job.give_back(&error);
        }
    }
}

/// Hands messages to the client, all of them before it is waited for any: so they are written with few calls of the system.
/// Awaiting each for itself costs three times the processor time.
async fn write(
    channel: &Channel,
    exchange: &ShortString,
    options: BasicPublishOptions,
    items: &[Item],
    confirms: &mut Vec<PublisherConfirm>,
) -> lapin::Result<()> {
    let mut sends = Vec::with_capacity(items.len());
    for item in items {
        let key = ShortString::from(routing_key(item.shard, &item.event.kind));
        let properties = record::properties(&item.event, item.offset);
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
