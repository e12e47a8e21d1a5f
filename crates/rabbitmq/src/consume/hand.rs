//! What a worker has in hand of one shard: what was received, what is out, what is finished, what is to be acknowledged.
//!
//! Tags belong to a channel and die with it; offsets belong to events. A life of the channel is a `session`: in each the tags
//! begin at 1, and what was out before is recognised when it comes again.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crossdock_core::{Batch, Completed, Delivery, Event, Offset, Partition, Position, Settle};
use tokio::sync::Notify;

use crate::{record::Read, sequence::Seen};

/// How many deliveries a batch has at most.
const BATCH_MAX: usize = 1_000;
/// So many finished deliveries are acknowledged without waiting for the next moment to do so.
const ACK_AT: usize = 100;

/// One shard, owned.
pub(crate) struct Hand {
    pub(crate) partition: Partition,
    state: Mutex<State>,
    /// Many were finished.
    pub(crate) many_finished: Notify,
}

struct State {
    /// Received and not given out.
    buffer: VecDeque<Received>,
    /// Received and not finished.
    open: HashMap<Offset, Place>,
    /// The tags of this session that are not acknowledged.
    tags: BTreeMap<u64, Offset>,
    /// The tags of this session whose deliveries are finished.
    finished: Completed,
    /// Everything up to this tag is acknowledged, and these above it.
    acked: u64,
    acked_above: HashSet<u64>,
    /// Finished since the last acknowledgement.
    fresh: usize,
    /// Finished offsets whose acknowledgement may be lost.
    recent: Recent,
    /// What of the publishers' numbers has come.
    seen: Seen,
    /// The offset behind the highest that was received.
    end: Offset,
    /// Nothing counts any more.
    is_over: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the buffer.
    Here,
    /// Given out, with the tag in this session; none until it has come again.
    Out(Option<u64>),
}

struct Received {
    event: Arc<Event>,
    offset: Offset,
    tag: u64,
    weight: usize,
}

/// A message with what the broker says about it.
pub(crate) struct Arrival {
    pub(crate) tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) read: Read,
}

/// What messages that came are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// There is something to give out.
    pub(crate) is_full: bool,
    /// Gaps before messages: how many are missing, and the offset of the message behind them.
    pub(crate) missing: Vec<(u64, Offset)>,
}

/// An acknowledgement to be sent: of one tag, or of all up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) tag: u64,
    pub(crate) multiple: bool,
}

impl Hand {
    /// Nothing in hand. The broker has at most `prefetch` deliveries out.
    pub(crate) fn new(partition: Partition, prefetch: u16) -> Arc<Self> {
        let state = State {
            buffer: VecDeque::new(),
            open: HashMap::new(),
            tags: BTreeMap::new(),
            finished: Completed::from(1),
            acked: 0,
            acked_above: HashSet::new(),
            fresh: 0,
            recent: Recent::new(usize::from(prefetch) * 2),
            seen: Seen::default(),
            end: 0,
            is_over: false,
        };
        Arc::new(Self { partition, state: Mutex::new(state), many_finished: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new channel: tags begin anew. What was received and not given out comes again, so it is forgotten.
    pub(crate) fn begin_session(&self) {
        let mut state = self.state();
        state.buffer.clear();
        state.open.retain(|_, place| *place != Place::Here);
        state.open.values_mut().for_each(|place| *place = Place::Out(None));
        // Finished, and not acknowledged any more.
        let lost: Vec<_> = {
            let State { tags, finished, .. } = &*state;
            tags.iter().filter(|(tag, _)| finished.contains(**tag)).map(|(_, offset)| *offset).collect()
        };
        lost.into_iter().for_each(|offset| state.recent.add(offset));
        state.tags.clear();
        state.finished = Completed::from(1);
        (state.acked, state.fresh) = (0, 0);
        state.acked_above.clear();
    }

    /// Takes messages in.
    pub(crate) fn receive(&self, arrivals: Vec<Arrival>) -> Receipt {
        let (mut state, mut missing) = (self.state(), Vec::new());
        for arrival in arrivals {
            let Arrival { read: Read { sequence, offset, .. }, redelivered, .. } = &arrival;
            let gap = sequence.map_or(0, |sequence| state.seen.note(sequence, *redelivered));
            missing.extend(offset.filter(|_| gap > 0).map(|offset| (gap, offset)));
            state.receive(arrival);
        }
        Receipt { is_full: !state.buffer.is_empty(), missing }
    }

    /// The next deliveries, if there are any.
    pub(crate) fn give(self: &Arc<Self>) -> Option<Batch> {
        let mut state = self.state();
        let (mut deliveries, mut bytes) = (Vec::new(), 0);
        while let Some(next) = state.buffer.front()
            && (deliveries.is_empty() || bytes + next.weight <= Batch::BYTES_MAX)
            && deliveries.len() < BATCH_MAX
        {
            let received = state.buffer.pop_front()?;
            bytes += received.weight;
            state.open.insert(received.offset, Place::Out(Some(received.tag)));
            let Partition { topic, number } = self.partition.clone();
            let position = Position { topic, partition: number, offset: received.offset };
            deliveries.push(Delivery::new(received.event, position, self.clone()));
        }
        (!deliveries.is_empty()).then(|| Batch { partition: self.partition.clone(), deliveries })
    }

    /// What is to be acknowledged now; with `all` also what is finished above something that is not.
    pub(crate) fn acks(&self, all: bool) -> Vec<Ack> {
        let mut state = self.state();
        state.fresh = 0;
        let mut acks: Vec<_> = state.ack_contiguous().into_iter().collect();
        if all {
            acks.extend(state.ack_above());
        }
        acks
    }

    /// Nothing counts any more: the shard is somebody else's.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.is_over = true;
        state.buffer.clear();
        state.open.clear();
    }

    /// How many deliveries the broker waits for.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.state().tags.len()
    }

    /// The lowest offset that is not finished, the one behind the highest, and how many are not finished.
    pub(crate) fn reach(&self) -> (Option<Offset>, Offset, u64) {
        let state = self.state();
        (state.open.keys().copied().min(), state.end, state.open.len() as u64)
    }
}

impl Settle for Hand {
    fn complete(&self, offset: Offset) {
        let mut state = self.state();
        if state.is_over {
            return;
        }
        let Some(Place::Out(tag)) = state.open.get(&offset).copied() else { return };
        state.open.remove(&offset);
        match tag {
            Some(tag) => {
                state.finished.finish(tag);
                state.fresh += 1;
                if state.fresh == ACK_AT {
                    self.many_finished.notify_one();
                }
            }
            // The channel is gone; the event is acknowledged when it comes again.
            None => state.recent.add(offset),
        }
    }
}

impl State {
    fn receive(&mut self, arrival: Arrival) {
        let Arrival { tag, redelivered, read } = arrival;
        let mut offset = read.offset.unwrap_or(read.fallback);
        while let Some(place) = self.open.get_mut(&offset) {
            if *place == Place::Out(None) {
                // It is out already: from now on under this tag.
                *place = Place::Out(Some(tag));
                self.tags.insert(tag, offset);
                return;
            }
            // Another message with the same offset, which only foreign ones can have.
            offset += 1;
        }
        self.tags.insert(tag, offset);
        if redelivered && self.recent.has(offset) {
            self.finished.finish(tag);
            self.fresh += 1;
            return;
        }
        self.open.insert(offset, Place::Here);
        self.end = self.end.max(offset + 1);
        let weight = read.event.weight();
        self.buffer.push_back(Received { event: Arc::new(read.event), offset, tag, weight });
    }

    /// One acknowledgement for everything that is finished without a gap. It must name a tag that was not acknowledged alone.
    fn ack_contiguous(&mut self) -> Option<Ack> {
        let mark = self.finished.mark() - 1;
        let last = (self.acked + 1..=mark).rev().find(|tag| !self.acked_above.contains(tag));
        self.acked = self.acked.max(mark);
        self.acked_above.retain(|tag| *tag > mark);
        let above = self.tags.split_off(&(mark + 1));
        let done = std::mem::replace(&mut self.tags, above);
        done.into_values().for_each(|offset| self.recent.add(offset));
        last.map(|tag| Ack { tag, multiple: true })
    }

    fn ack_above(&mut self) -> Vec<Ack> {
        let ranges: Vec<_> = self.finished.ranges().collect();
        let mut acks = Vec::new();
        for tag in ranges.into_iter().flat_map(|(start, end)| start..end) {
            if self.acked_above.insert(tag) {
                acks.push(Ack { tag, multiple: false });
                if let Some(offset) = self.tags.remove(&tag) {
                    self.recent.add(offset);
                }
            }
        }
        acks
    }
}

/// The offsets that were finished last. The broker has at most `prefetch` deliveries out, and acknowledgements reach it in
/// order: what it can give again is among the last so many that were acknowledged.
struct Recent {
    max: usize,
    /// How often an offset was added, counted over all.
    count: u64,
    order: VecDeque<(Offset, u64)>,
    last: HashMap<Offset, u64>,
}

impl Recent {
    fn new(max: usize) -> Self {
        Self { max, count: 0, order: VecDeque::new(), last: HashMap::new() }
    }

    fn add(&mut self, offset: Offset) {
        self.count += 1;
        self.last.insert(offset, self.count);
        self.order.push_back((offset, self.count));
        while self.order.len() > self.max
            && let Some((oldest, count)) = self.order.pop_front()
        {
            if self.last.get(&oldest) == Some(&count) {
                self.last.remove(&oldest);
            }
        }
    }

    fn has(&self, offset: Offset) -> bool {
        self.last.contains_key(&offset)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use crossdock_core::Topic;

    use super::*;

    fn hand() -> Arc<Hand> {
        Hand::new(Partition { topic: Topic::new("orders").expect("a name"), number: 0 }, 10)
    }

    fn arrival(tag: u64, offset: Offset, redelivered: bool) -> Arrival {
        let event = Event {
            id: offset.to_string(),
            source: "/s".to_owned(),
            kind: "t".to_owned(),
            subject: None,
            time: None,
            content_type: None,
            schema: None,
            key: None,
            extensions: Vec::new(),
            data: Bytes::new(),
        };
        Arrival { tag, redelivered, read: Read { event, offset: Some(offset), fallback: 0, sequence: None } }
    }

    fn given(hand: &Arc<Hand>) -> Vec<Delivery> {
        hand.give().map(|batch| batch.deliveries).unwrap_or_default()
    }

    fn ack(tag: u64, multiple: bool) -> Ack {
        Ack { tag, multiple }
    }

    #[test]
    fn gaps_are_acknowledged_one_by_one_and_the_rest_together() {
        let hand = hand();
        hand.receive((1..=5).map(|tag| arrival(tag, tag * 10, false)).collect());
        let mut out = given(&hand);
        out.pop().expect("the fifth").complete();
        out.remove(1).complete();
        assert_eq!(hand.acks(false), []);
        assert_eq!(hand.acks(true), [ack(2, false), ack(5, false)]);
        out.remove(0).complete();
        assert_eq!(hand.acks(true), [ack(1, true)]);
        out.into_iter().for_each(Delivery::complete);
        // The fifth was acknowledged alone, and naming it again would close the channel.
        assert_eq!(hand.acks(true), [ack(4, true)]);
        assert_eq!((hand.unacknowledged(), hand.reach()), (0, (None, 51, 0)));
    }

    #[test]
    fn what_comes_again_on_a_new_channel_is_not_given_twice() {
        let hand = hand();
        hand.receive((1..=4).map(|tag| arrival(tag, tag * 10, false)).collect());
        let mut out = given(&hand);
        hand.receive(vec![arrival(5, 50, false)]);
        out.remove(0).complete();
        hand.begin_session();
        // Finished while there was no channel.
        out.remove(0).complete();
        hand.receive((1..=5).map(|tag| arrival(tag, tag * 10, true)).collect());
        assert_eq!(given(&hand).iter().map(|delivery| delivery.position.offset).collect::<Vec<_>>(), [50]);
        assert_eq!(hand.acks(true), [ack(2, true)]);
        out.into_iter().for_each(Delivery::complete);
        assert_eq!(hand.acks(true), [ack(4, true)]);
    }

    #[test]
    fn messages_that_are_alike_are_all_given() {
        let hand = hand();
        hand.receive(vec![arrival(1, 7, false), arrival(2, 7, false)]);
        let out = given(&hand);
        assert_eq!(out.iter().map(|delivery| delivery.position.offset).collect::<Vec<_>>(), [7, 8]);
        out.into_iter().for_each(Delivery::complete);
        hand.acks(true);
        // A third one is no redelivery of a finished one.
        hand.receive(vec![arrival(3, 7, false)]);
        assert_eq!(given(&hand).len(), 1);
    }

    #[test]
    fn a_delivery_that_is_finished_after_the_end_is_dropped() {
        let hand = hand();
        hand.receive(vec![arrival(1, 10, false)]);
        let out = given(&hand);
        hand.end();
        out.into_iter().for_each(Delivery::complete);
        assert_eq!(hand.acks(true), []);
    }
}
