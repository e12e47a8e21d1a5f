//! What was sent and is not confirmed yet.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use crossdock_core::{Partition, Position, PublishError, Published};
use futures::{FutureExt, task::noop_waker_ref};
use lapin::{Channel, Confirmation, PublisherConfirm, message::BasicReturnMessage, types::AMQPValue};
use tokio::time::{Instant, timeout_at};

use super::line::{Answer, Item, Job};
use crate::{
    names::{Names, key},
    record::OFFSET,
    registry::Registry,
};

/// How many events of a lane may be unconfirmed before the next call has to wait, and how large they may be.
const EVENTS_MAX: usize = 4_096;
const BYTES_MAX: usize = 16 << 20;

/// Jobs in the order in which they were sent.
#[derive(Default)]
pub(crate) struct Flight {
    jobs: VecDeque<Flying>,
    events: usize,
    bytes: usize,
    /// When something was confirmed last, or the first one sent.
    moved: Option<Instant>,
    /// What no queue was found for.
    returned: HashSet<Returned>,
}

/// A job that was sent.
struct Flying {
    job: Job,
    bytes: usize,
    confirms: Vec<Confirm>,
    /// The first one that may be missing.
    at: usize,
}

enum Confirm {
    Missing(PublisherConfirm),
    Taken,
    Refused,
    /// Whatever was said, it is not known: something came back; or no confirms were asked for, which cannot be, as they are
    /// switched on before anything is sent.
    Doubtful,
    Lost(lapin::Error),
}

/// What answers are made of.
pub(crate) struct Verdict<'v> {
    pub(crate) names: &'v Names,
    pub(crate) registry: &'v Registry,
    /// Larger events are why the channel is gone.
    pub(crate) bytes_max: Option<usize>,
}

/// A job with its answers.
pub(crate) struct Landed {
    pub(crate) job: Job,
    pub(crate) answers: Vec<(usize, Answer)>,
    /// Some event found no queue.
    pub(crate) unrouted: bool,
    /// The broker has refused some event.
    pub(crate) refused: bool,
}

/// Names a message that came back: its exchange, its shard, its offset.
type Returned = (String, String, i64);

/// The confirms do not come.
pub(crate) enum Lost {
    Broken(lapin::Error),
    Late,
}

impl Flight {
    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.events < EVENTS_MAX && self.bytes < BYTES_MAX
    }

    /// A job was sent; there is a confirm for each of its items.
    pub(crate) fn add(&mut self, job: Job, bytes: usize, confirms: Vec<PublisherConfirm>) {
        self.events += confirms.len();
        self.bytes += bytes;
        if self.jobs.is_empty() {
            self.moved = Some(Instant::now());
        }
        let confirms = confirms.into_iter().map(Confirm::Missing).collect();
        self.jobs.push_back(Flying { job, bytes, confirms, at: 0 });
    }

    /// Waits until the first job is confirmed; gives up when nothing was confirmed for the limit. Cancellation is safe.
    pub(crate) async fn landed(&mut self, limit: Duration) -> Result<(), Lost> {
        loop {
            let Some(flying) = self.jobs.front_mut() else { return Ok(()) };
            let until = self.moved.unwrap_or_else(Instant::now) + limit;
            let before = flying.at;
            let returned = &mut self.returned;
            let waiting = timeout_at(until, poll_fn(|context| flying.poll(context, before, returned)));
            match waiting.await {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) => self.moved = Some(Instant::now()),
                Ok(Err(error)) => return Err(Lost::Broken(error)),
                Err(_) => return Err(Lost::Late),
            }
        }
    }

    /// Takes the first job, which has landed, with its answers.
    ///
    /// The client library hands a returned message to whichever confirm comes next, of this job or of a later one. When all of a
    /// job and before it are confirmed, all that came back of it has been handed out; so what is there of later confirms is
    /// looked at too. A group of confirms is handed out under one lock: taking it once is to wait for the end of the group.
    pub(crate) fn land(&mut self, channel: &Channel, verdict: &Verdict<'_>) -> Option<Landed> {
        // What is returned here are messages of confirms that were dropped, which none of ours is.
        let _ = channel.wait_for_confirms().now_or_never();
        for flying in self.jobs.iter_mut().skip(1) {
            flying.glance(&mut self.returned);
        }
        let flying = self.jobs.pop_front()?;
        self.events -= flying.confirms.len();
        self.bytes -= flying.bytes;
        Some(flying.judge(verdict, &mut self.returned, &mut HashSet::new()))
    }

    /// Gives all of them up. What was confirmed counts all the same, but for what stands behind an event of its key that was not:
    /// else one queue that does not answer would have the others filled with the same events again and again.
    ///
    /// Once anything came back, nothing counts: what came back may have been handed out with the confirm of another event, and
    /// for one behind it nothing may have been handed out at all.
    pub(crate) fn give_up(&mut self, verdict: &Verdict<'_>) -> Vec<Landed> {
        let Self { mut jobs, mut returned, .. } = std::mem::take(self);
        jobs.iter_mut().for_each(|flying| flying.glance(&mut returned));
        if !returned.is_empty() {
            let confirms = jobs.iter_mut().flat_map(|flying| &mut flying.confirms);
            confirms.for_each(|confirm| *confirm = Confirm::Doubtful);
        }
        let mut behind = HashSet::new();
        jobs.into_iter().map(|flying| flying.judge(verdict, &mut returned, &mut behind)).collect()
    }

    /// The shards of which something is not confirmed.
    pub(crate) fn missing(&mut self) -> BTreeSet<Partition> {
        self.jobs.iter_mut().for_each(|flying| flying.glance(&mut self.returned));
        let missing = self.jobs.iter().flat_map(|flying| {
            let items = flying.job.items.iter().zip(&flying.confirms);
            let missing = items.filter(|(_, confirm)| matches!(confirm, Confirm::Missing(_)));
            missing.map(|(item, _)| Partition { topic: flying.job.topic.clone(), number: item.shard })
        });
        missing.collect()
    }

    pub(crate) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().map(|flying| &flying.job)
    }
}

impl Flying {
    /// Ready with true when all is confirmed, with false when something was since `before`.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        before: usize,
        returned: &mut HashSet<Returned>,
    ) -> Poll<Result<bool, lapin::Error>> {
        while let Some(confirm) = self.confirms.get_mut(self.at) {
            if confirm.poll(context, returned).is_pending() {
                return if self.at > before { Poll::Ready(Ok(false)) } else { Poll::Pending };
            }
            if let Confirm::Lost(error) = confirm {
                return Poll::Ready(Err(error.clone()));
            }
            self.at += 1;
        }
        Poll::Ready(Ok(true))
    }

    /// Looks at what is confirmed without waiting.
    fn glance(&mut self, returned: &mut HashSet<Returned>) {
        let mut context = Context::from_waker(noop_waker_ref());
        for confirm in &mut self.confirms[self.at..] {
            // What is missing stays missing.
            let _ = confirm.poll(&mut context, returned);
        }
    }

    /// One answer for each event. Behind an event that may be taken later nothing of its key counts as taken.
    fn judge(
        self,
        verdict: &Verdict<'_>,
        returned: &mut HashSet<Returned>,
        behind: &mut HashSet<String>,
    ) -> Landed {
        let exchange = verdict.names.exchange(&self.job.topic);
        let (mut answers, mut unrouted, mut refused) =
            (Vec::with_capacity(self.confirms.len()), false, false);
        for (item, confirm) in self.job.items.iter().zip(&self.confirms) {
            let came_back = !returned.is_empty() && returned.remove(&item.returned(&exchange));
            unrouted |= came_back;
            refused |= matches!(confirm, Confirm::Refused);
            let answer = match (confirm, verdict.bytes_max) {
                (Confirm::Taken, _) if came_back => Err(PublishError::Unavailable(UNROUTED.to_owned())),
                (Confirm::Taken, _) => Ok(Published::New(Some(Position {
                    topic: self.job.topic.clone(),
                    partition: item.shard,
                    offset: item.offset,
                }))),
                (Confirm::Refused, _) => {
                    let shard = Partition { topic: self.job.topic.clone(), number: item.shard };
                    Err(PublishError::Unavailable(refusal(&verdict.registry.queues(verdict.names, &shard))))
                }
                (_, Some(bytes_max)) if item.bytes > bytes_max => {
                    Err(PublishError::TooLarge { bytes: item.bytes, bytes_max })
                }
                _ => Err(PublishError::Unknown),
            };
            answers.push((item.index, settled(answer, item.event.key.as_deref(), behind)));
        }
        Landed { job: self.job, answers, unrouted, refused }
    }
}

/// The answer, unless the key has one before it that may be taken later.
fn settled(answer: Answer, key: Option<&str>, behind: &mut HashSet<String>) -> Answer {
    match answer {
        Ok(_) if key.is_some_and(|key| behind.contains(key)) => Err(PublishError::Unknown),
        Err(error @ (PublishError::Unavailable(_) | PublishError::Unknown)) => {
            behind.extend(key.map(str::to_owned));
            Err(error)
        }
        answer => answer,
    }
}

/// Why an event that found no queue was not taken.
const UNROUTED: &str = "no queue of any flow is bound to its exchange";

fn refusal(queues: &[String]) -> String {
    format!(
        "the broker refused it: {} is full or has no leader, as `rabbitmqctl list_queues name messages policy` and \
         `rabbitmq-diagnostics list_unresponsive_queues` tell",
        queues.join(" or ")
    )
}

impl Item {
    fn returned(&self, exchange: &str) -> Returned {
        let offset = i64::try_from(self.offset).unwrap_or(i64::MAX);
        (exchange.to_owned(), key(self.shard), offset)
    }
}

impl Confirm {
    fn poll(&mut self, context: &mut Context<'_>, returned: &mut HashSet<Returned>) -> Poll<()> {
        let Self::Missing(confirm) = self else { return Poll::Ready(()) };
        match confirm.poll_unpin(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(confirmation)) => {
                *self = match &confirmation {
                    Confirmation::Ack(_) => Self::Taken,
                    Confirmation::Nack(_) => Self::Refused,
                    Confirmation::NotRequested => Self::Doubtful,
                };
                returned.extend(confirmation.take_message().as_ref().and_then(name));
                Poll::Ready(())
            }
            Poll::Ready(Err(error)) => {
                *self = Self::Lost(error);
                Poll::Ready(())
            }
        }
    }
}

fn name(message: &BasicReturnMessage) -> Option<Returned> {
    let offset = match message.properties.headers().as_ref()?.inner().get(OFFSET)? {
        AMQPValue::LongLongInt(offset) => *offset,
        _ => return None,
    };
    Some((message.exchange.as_str().to_owned(), message.routing_key.as_str().to_owned(), offset))
}
