//! Where events get their offsets and wait for their lane, and where the order after a failure is kept.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use crossdock_core::{Event, Offset, Partition, PublishError, Published, Topic, hash_key, partition_of};
use tokio::sync::{Notify, oneshot};

use crate::{
    record,
    stamp::{self, Stamps},
};

/// How many channels there are. The client writes through one socket whatever their number; the broker works on as many at a
/// time as it has cores.
pub(crate) const LANES: usize = 4;

pub(crate) type Answer = Result<Published, PublishError>;

/// An event with its place.
pub(crate) struct Item {
    /// Which one of the call.
    pub(crate) index: usize,
    /// Without its data once that was handed to the client.
    pub(crate) event: Event,
    /// The size of its data.
    pub(crate) bytes: usize,
    pub(crate) shard: u32,
    pub(crate) offset: Offset,
}

/// The events of one call that take one lane.
pub(crate) struct Job {
    pub(crate) topic: Topic,
    pub(crate) items: Vec<Item>,
    pub(crate) reply: oneshot::Sender<Vec<(usize, Answer)>>,
    pub(crate) ticket: Arc<Ticket>,
}

/// Whether the caller has its answers, and whether the lane waits for that. Changed under the lock of the line alone.
#[derive(Default)]
pub(crate) struct Ticket {
    collected: AtomicBool,
    owed: AtomicBool,
}

/// How large an event may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) event_bytes: usize,
    pub(crate) frame_bytes: usize,
}

/// The queues of all lanes.
pub(crate) struct Line {
    state: Mutex<State>,
    ready: [Notify; LANES],
    /// The largest event that the broker takes, as far as it has said so.
    bytes_max: AtomicUsize,
}

struct State {
    stamps: Stamps,
    lanes: [Waiting; LANES],
    /// Events without a key go round.
    turn: u32,
    closed: bool,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Callers that have not collected what was given back to them, and why it was.
    owed: usize,
    why: String,
}

/// A call on its way through one lane.
struct Leg<'l> {
    line: &'l Line,
    lane: usize,
    ticket: Arc<Ticket>,
    reply: oneshot::Receiver<Vec<(usize, Answer)>>,
}

impl Drop for Leg<'_> {
    fn drop(&mut self) {
        let mut state = self.line.state();
        self.ticket.collected.store(true, Ordering::Relaxed);
        if self.ticket.owed.load(Ordering::Relaxed) {
            state.lanes[self.lane].owed -= 1;
        }
    }
}

impl Line {
    pub(crate) fn new() -> Self {
        let state =
            State { stamps: Stamps::new(), lanes: Default::default(), turn: rand::random(), closed: false };
        Self { state: Mutex::new(state), ready: Default::default(), bytes_max: AtomicUsize::new(usize::MAX) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues the events, at once when first polled, and waits for their answers. Dropped, it leaves open what became of them.
    pub(crate) async fn publish(
        &self,
        topic: &Topic,
        shards: u32,
        limits: Limits,
        events: Vec<Event>,
    ) -> Vec<Answer> {
        let mut answers: Vec<Answer> = vec![Err(PublishError::Unknown); events.len()];
        let mut legs = self.queue(topic, shards, limits, events, &mut answers);
        for leg in &mut legs {
            // A lane that ends without an answer leaves it open, as it was written above.
            for (index, answer) in (&mut leg.reply).await.unwrap_or_default() {
                answers[index] = answer;
            }
        }
        answers
    }

    fn queue(
        &self,
        topic: &Topic,
        shards: u32,
        limits: Limits,
        events: Vec<Event>,
        answers: &mut [Answer],
    ) -> Vec<Leg<'_>> {
        let limits =
            Limits { event_bytes: limits.event_bytes.min(self.bytes_max.load(Ordering::Relaxed)), ..limits };
        let first_lane = hash_key(topic.as_str()) % LANES as u64;
        let mut items: [Vec<Item>; LANES] = Default::default();
        let mut state = self.state();
        let now = stamp::now();
        let mut partition = Partition { topic: topic.clone(), number: 0 };
        for (index, event) in events.into_iter().enumerate() {
            if let Err(error) = fits(&event, limits) {
                answers[index] = Err(error);
                continue;
            }
            partition.number = match &event.key {
                Some(key) => partition_of(key, shards),
                None => {
                    state.turn = state.turn.wrapping_add(1);
                    state.turn % shards.max(1)
                }
            };
            let (shard, offset) = (partition.number, state.stamps.next(&partition, now));
            let lane = (first_lane + u64::from(shard)) % LANES as u64;
            let bytes = event.data.len();
            items[lane as usize].push(Item { index, event, bytes, shard, offset });
        }
        let legs = items.into_iter().enumerate().filter(|(_, items)| !items.is_empty());
        legs.map(|(lane, items)| self.add(&mut state, lane, topic, items)).collect()
    }

    /// Puts a job into its lane, or gives it back at once.
    fn add<'l>(&'l self, state: &mut State, lane: usize, topic: &Topic, items: Vec<Item>) -> Leg<'l> {
        let (reply, answers) = oneshot::channel();
        let ticket = Arc::new(Ticket::default());
        let job = Job { topic: topic.clone(), items, reply, ticket: ticket.clone() };
        let closed = state.closed;
        let waiting = &mut state.lanes[lane];
        if closed {
            job.give_back(&PublishError::Unavailable("the broker is closed".to_owned()));
        } else if waiting.owed > 0 {
            waiting.owe(&job);
            job.give_back(&PublishError::Unavailable(waiting.why.clone()));
        } else {
            waiting.jobs.push_back(job);
            self.ready[lane].notify_one();
        }
        Leg { line: self, lane, ticket, reply: answers }
    }

    /// The next job of a lane; none when there is none and none will come. Cancellation is safe.
    pub(crate) async fn next(&self, lane: usize) -> Option<Job> {
        loop {
            {
                let mut state = self.state();
                if let Some(job) = state.lanes[lane].jobs.pop_front() {
                    return Some(job);
                }
                if state.closed {
                    return None;
                }
            }
            self.ready[lane].notified().await;
        }
    }

    /// Closes a lane until every caller has its answers, and gives back what waits in it. `sent` are jobs that fail with it;
    /// they are answered after this.
    pub(crate) fn break_off<'j>(&self, lane: usize, why: &str, sent: impl Iterator<Item = &'j Job>) {
        let jobs = {
            let mut state = self.state();
            let waiting = &mut state.lanes[lane];
            waiting.why = why.to_owned();
            sent.for_each(|job| waiting.owe(job));
            let jobs = std::mem::take(&mut waiting.jobs);
            jobs.iter().for_each(|job| waiting.owe(job));
            jobs
        };
        let error = PublishError::Unavailable(why.to_owned());
        jobs.into_iter().for_each(|job| job.give_back(&error));
    }

    /// Takes no job any more; those that wait are still done.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.ready.iter().for_each(Notify::notify_one);
    }

    /// The broker has refused an event since it is larger than this.
    pub(crate) fn limit(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// What the next offset of a shard is not below.
    pub(crate) fn end(&self, partition: &Partition) -> Offset {
        self.state().stamps.end(partition)
    }
}

impl Waiting {
    fn owe(&mut self, job: &Job) {
        let ticket = &job.ticket;
        if !ticket.collected.load(Ordering::Relaxed) && !ticket.owed.swap(true, Ordering::Relaxed) {
            self.owed += 1;
        }
    }
}

impl Job {
    /// Answers for every event with the same refusal.
    pub(crate) fn give_back(self, error: &PublishError) {
        let answers = self.items.iter().map(|item| (item.index, Err(error.clone()))).collect();
        self.answer(answers);
    }

    pub(crate) fn answer(self, answers: Vec<(usize, Answer)>) {
        // A caller that is gone wants no answer.
        let _ = self.reply.send(answers);
    }
}

fn fits(event: &Event, limits: Limits) -> Result<(), PublishError> {
    let (data, header) = (event.data.len(), record::header_bytes(event));
    match () {
        () if data > limits.event_bytes => {
            Err(PublishError::TooLarge { bytes: data, bytes_max: limits.event_bytes })
        }
        () if header > limits.frame_bytes => {
            Err(PublishError::TooLarge { bytes: header, bytes_max: limits.frame_bytes })
        }
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::FutureExt;

    use super::*;

    const LIMITS: Limits = Limits { event_bytes: 10, frame_bytes: 10_000 };

    fn event(key: &str, data: usize) -> Event {
        Event {
            id: "1".to_owned(),
            source: "/s".to_owned(),
            kind: "t".to_owned(),
            subject: None,
            time: None,
            content_type: None,
            schema: None,
            key: Some(key.to_owned()),
            extensions: Vec::new(),
            data: Bytes::from(vec![0; data]),
        }
    }

    fn topic() -> Topic {
        Topic::new("orders").expect("a name")
    }

    #[test]
    fn nothing_overtakes_what_was_given_back_and_not_seen_yet() {
        let (line, topic) = (Line::new(), topic());
        let mut first = Box::pin(line.publish(&topic, 1, LIMITS, vec![event("a", 1)]));
        let mut second = Box::pin(line.publish(&topic, 1, LIMITS, vec![event("a", 1)]));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        let (lane, sent) =
            (0..LANES).find_map(|lane| Some((lane, line.next(lane).now_or_never()??))).expect("a job");
        line.break_off(lane, "broken", std::iter::once(&sent));
        sent.give_back(&PublishError::Unknown);
        let refused = line.publish(&topic, 1, LIMITS, vec![event("b", 1)]).now_or_never();
        assert_eq!(refused.expect("at once"), [Err(PublishError::Unavailable("broken".to_owned()))]);
        assert_eq!(first.now_or_never().expect("it is answered"), [Err(PublishError::Unknown)]);
        drop(second);
        let mut later = Box::pin(line.publish(&topic, 1, LIMITS, vec![event("a", 1)]));
        assert!((&mut later).now_or_never().is_none(), "it is taken now");
    }

    #[test]
    fn what_is_too_large_is_refused_alone() {
        let (line, topic) = (Line::new(), topic());
        let mut large = event("a", 1);
        large.subject = Some("x".repeat(9_000));
        let answers = line.publish(&topic, 1, LIMITS, vec![event("a", 11), large]).now_or_never();
        let answers = answers.expect("nothing is left to wait for");
        assert_eq!(answers[0], Err(PublishError::TooLarge { bytes: 11, bytes_max: 10 }));
        assert!(matches!(answers[1], Err(PublishError::TooLarge { bytes_max: 10_000, .. })), "{answers:?}");
    }
}
