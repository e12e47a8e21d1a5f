//! One owned shard: its channel and consumer, made again whenever they end, and its acknowledgements.

use std::{sync::Arc, task::Context, time::Duration};

use crossdock_core::{Group, chain};
use futures::{FutureExt, StreamExt, future::maybe_done, task::noop_waker_ref};
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Hand, Shared,
    hand::{Ack, Arrival, Receipt},
};
use crate::{
    link::{CALL_MAX, Link, Trouble},
    names::{Names, key},
    record, stamp,
    topology::Desk,
};

/// How often what is finished is acknowledged, if not enough of it comes together before.
const ACK_EVERY: Duration = Duration::from_millis(50);
/// Every so many times also what is finished above something that is not: each of those is a frame of its own.
const ALL_EVERY: u32 = 4;
/// How many messages are taken in at a time.
const AT_ONCE: usize = 500;
/// After how long without a message it is looked whether there is none.
const QUIET: Duration = Duration::from_secs(10);
/// The first and the longest wait before the consumer is made again.
const AGAIN: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// How long a channel that is given up may take to end.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// internal-error: a process of the broker has crashed, which ends the connection.
const INTERNAL_ERROR: u16 = 541;

/// What shards work with.
pub(crate) struct ShardWith {
    pub(crate) link: Arc<Link>,
    pub(crate) names: Names,
    pub(crate) prefetch: u16,
}

/// A shard.
pub(crate) struct Shard {
    hand: Arc<Hand>,
    shared: Arc<Shared>,
    with: Arc<ShardWith>,
    queue: String,
    exchange: String,
    desk: Desk,
    /// A connection of its own: to open the consumer ended the one that all share, and would again.
    alone: Option<Arc<Link>>,
}

/// Why a session ended.
enum Ended {
    /// The connection is gone, which has its own line in the log.
    WithConnection(String),
    /// Only the consumer or its channel.
    Alone(String),
}

impl From<Trouble> for Ended {
    fn from(trouble: Trouble) -> Self {
        let why = chain(&trouble);
        match trouble {
            // A queue without a leader does not answer, though the broker does.
            Trouble::Silent => Self::Alone(why),
            trouble if trouble.is_of_channel() => Self::Alone(why),
            _ => Self::WithConnection(why),
        }
    }
}

impl Shard {
    pub(crate) fn new(hand: Arc<Hand>, group: &Group, shared: Arc<Shared>, with: Arc<ShardWith>) -> Self {
        let queue = with.names.queue(group, &hand.partition);
        let exchange = with.names.exchange(&hand.partition.topic);
        let desk = Desk::new(with.link.clone());
        Self { hand, shared, with, queue, exchange, desk, alone: None }
    }

    /// Consumes until it is told to stop; then everything that is finished is acknowledged.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let (mut wait, mut told) = (AGAIN, false);
        while !stop.is_cancelled() {
            let began = Instant::now();
            let Err(ended) = self.session(&stop, &mut told).await else { break };
            match ended {
                Ended::Alone(why) if !told => {
                    let queue = &self.queue;
                    tracing::warn!(
                        queue,
                        error = why,
                        "the consumer ended; it is made again, and what was out comes again"
                    );
                    told = true;
                }
                Ended::Alone(why) | Ended::WithConnection(why) => {
                    tracing::debug!(queue = self.queue, error = why, "the consumer ended");
                }
            }
            if began.elapsed() > AGAIN_MAX {
                wait = AGAIN;
            }
            tokio::select! { () = sleep(wait) => {}, () = stop.cancelled() => {} }
            wait = (wait * 2).min(AGAIN_MAX);
        }
        self.rejoin().await;
        self.hand.end();
    }

    /// From a new channel to its end.
    async fn session(&mut self, stop: &CancellationToken, told: &mut bool) -> Result<(), Ended> {
        let opened = self.open(stop).await.map_err(|trouble| self.avoid(trouble))?;
        let Some((channel, mut consumer)) = opened else { return Ok(()) };
        if std::mem::take(told) {
            tracing::info!(queue = self.queue, "the queue is consumed again");
        }
        let mut ended = self.consume(&channel, &mut consumer, stop).await;
        if ended.is_ok() {
            // Acknowledgements have no answer; the end of the channel, which comes behind them, has.
            ended = self.acknowledge(&channel, true).await;
        }
        let _ = timeout(CALL_MAX, channel.close(200, "OK".into())).await;
        // Not before: the client cancels a consumer that is dropped, and the broker then gives what comes next to the next
        // consumer while what was out has not come back. With its channel a consumer ends together with what it had.
        drop(consumer);
        self.rejoin().await;
        ended
    }

    /// RabbitMQ ends the whole connection of who consumes from a queue without a leader (seen with 3.10.8). The other shards of this
    /// worker are to go on, so the next try has a connection of its own.
    fn avoid(&mut self, trouble: Trouble) -> Ended {
        if trouble.code() != Some(INTERNAL_ERROR) {
            return trouble.into();
        }
        let (why, link) = (chain(&trouble), &self.with.link);
        self.alone.get_or_insert_with(|| link.another("consuming from one queue"));
        Ended::Alone(format!(
            "{why}; most likely it has no leader, as `rabbitmq-diagnostics list_unresponsive_queues` tells"
        ))
    }

    /// Goes back to the connection that all share.
    async fn rejoin(&mut self) {
        if let Some(alone) = self.alone.take() {
            alone.close().await;
        }
    }

    /// None if it is told to stop before.
    async fn open(&mut self, stop: &CancellationToken) -> Result<Option<(Channel, Consumer)>, Trouble> {
        let channel =
            tokio::select! { channel = self.channel() => channel?, () = stop.cancelled() => return Ok(None) };
        let opening = async {
            channel.basic_qos(self.with.prefetch, BasicQosOptions::default()).await?;
            self.hand.begin_session();
            let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
            channel.basic_consume(self.queue.as_str().into(), "".into(), options, arguments).await
        };
        let given_up = tokio::select! {
            opened = timeout(CALL_MAX, opening) => match opened {
                Ok(consumer) => return Ok(Some((channel, consumer?))),
                Err(_) => Err(Trouble::Silent),
            },
            () = stop.cancelled() => Ok(None),
        };
        // What was asked for is done one day, and would leave a consumer that nobody reads, with all that waits: the client ends a
        // channel by itself only once it has its answer. The broker does this one when it has done the other.
        let _ = timeout(CLOSE_MAX, channel.close(200, "OK".into())).await;
        given_up
    }

    async fn channel(&mut self) -> Result<Channel, Trouble> {
        self.find_queue().await?;
        self.alone.as_ref().unwrap_or(&self.with.link).channel().await
    }

    /// The queue was there when the group was joined. If it is not, what was in it is lost, and somebody must know.
    async fn find_queue(&mut self) -> Result<(), Trouble> {
        let Self { desk, queue, exchange, hand, .. } = self;
        if desk.queue(queue).await?.is_none() {
            tracing::error!(
                queue, topic = %hand.partition.topic,
                "the queue is gone, and so are the events that were in it: it is made anew; publish them once more with \
                 `crossdock outbox rewind`"
            );
            desk.make_queue(queue).await?;
        }
        desk.bind(queue, exchange, &key(hand.partition.number)).await
    }

    async fn consume(
        &mut self,
        channel: &Channel,
        consumer: &mut Consumer,
        stop: &CancellationToken,
    ) -> Result<(), Ended> {
        let hand = self.hand.clone();
        let mut ticks = interval(ACK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut count, mut quiet) = (0u32, Quiet::new());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = hand.many_finished.notified() => self.acknowledge(channel, false).await?,
                _ = ticks.tick() => {
                    count = count.wrapping_add(1);
                    self.acknowledge(channel, count.is_multiple_of(ALL_EVERY)).await?;
                    if quiet.is_due() {
                        self.look(&mut quiet).await?;
                    }
                }
                next = consumer.next() => {
                    self.receive(next, consumer)?;
                    quiet = Quiet::new();
                }
            }
        }
    }

    /// Takes in what has come.
    fn receive(&self, next: Option<lapin::Result<Delivery>>, consumer: &mut Consumer) -> Result<(), Ended> {
        let (mut next, mut arrivals) = (Some(next), Vec::new());
        let mut ended = Ok(());
        while let Some(came) = next {
            match came {
                Some(Ok(delivery)) => arrivals.push(Arrival {
                    tag: delivery.delivery_tag,
                    redelivered: delivery.redelivered,
                    read: record::read(delivery),
                }),
                Some(Err(error)) => ended = Err(Ended::from(Trouble::from(error))),
                None => ended = Err(Ended::Alone("the broker has cancelled it".to_owned())),
            }
            if ended.is_err() || arrivals.len() >= AT_ONCE {
                break;
            }
            next = consumer.next().now_or_never();
        }
        let Receipt { is_full, missing } = self.hand.receive(arrivals);
        for (count, offset) in missing {
            tracing::error!(
                queue = self.queue, count, published_before = %stamp::time(offset),
                "events are missing from the queue that the broker had confirmed: it was purged, or unbound for a while, or a \
                 policy limits it. `crossdock outbox rewind` publishes them once more"
            );
        }
        if is_full {
            self.shared.wake();
        }
        ended
    }

    async fn acknowledge(&self, channel: &Channel, all: bool) -> Result<(), Ended> {
        let acks = self.hand.acks(all);
        if acks.is_empty() {
            return Ok(());
        }
        match timeout(CALL_MAX, write(channel, acks)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Trouble::from(error).into()),
            Err(_) => Err(Trouble::Silent.into()),
        }
    }

    /// Nothing has come for a while: either there is nothing, or the consumer is dead without having been told so, as when its
    /// queue was deleted and made anew.
    async fn look(&mut self, quiet: &mut Quiet) -> Result<(), Ended> {
        let waits_for_us = self.hand.unacknowledged() > 0;
        let Some(queue) = self.desk.queue(&self.queue).await? else {
            return Err(Ended::Alone("the queue is gone".to_owned()));
        };
        if queue.consumers == 0 {
            return Err(Ended::Alone("the broker does not know it any more".to_owned()));
        }
        // Where other flows have queues, an event for one that somebody has unbound finds those, and nobody is told.
        let key = key(self.hand.partition.number);
        self.desk.bind(&self.queue, &self.exchange, &key).await?;
        let is_stuck = queue.ready > 0 && !waits_for_us;
        if is_stuck && quiet.looked {
            return Err(Ended::Alone("events wait in the queue and none come".to_owned()));
        }
        *quiet = Quiet { looked: is_stuck, ..Quiet::new() };
        Ok(())
    }
}

/// How long nothing has come.
struct Quiet {
    since: Instant,
    /// It was looked once, and there was something.
    looked: bool,
}

impl Quiet {
    fn new() -> Self {
        Self { since: Instant::now(), looked: false }
    }

    fn is_due(&self) -> bool {
        self.since.elapsed() > QUIET
    }
}

/// Hands all acknowledgements to the client before it is waited for any.
async fn write(channel: &Channel, acks: Vec<Ack>) -> lapin::Result<()> {
    let mut sends = Vec::with_capacity(acks.len());
    for Ack { tag, multiple } in acks {
        let mut send = Box::pin(maybe_done(channel.basic_ack(tag, BasicAckOptions { multiple })));
        // The first poll puts the frame into the queue of the client.
        let _ = send.poll_unpin(&mut Context::from_waker(noop_waker_ref()));
        sends.push(send);
    }
    for mut send in sends {
        send.as_mut().await;
        send.as_mut().take_output().expect("it was awaited")?;
    }
    Ok(())
}
