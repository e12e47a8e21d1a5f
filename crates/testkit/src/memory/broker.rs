//! The broker: members of groups, who owns which partition, what comes next.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use async_trait::async_trait;
use crossdock_core::{
    Batch, Broker, BrokerError, Delivery, Event, Group, GroupLag, Offset, Partition, PublishError, Published,
    Revocation, Settle, Signal, Subscription, Topic,
};
use tokio::time::timeout;

use super::{Defect, Memory};

/// How long a member may take to let go.
const LET_GO_MAX: Duration = Duration::from_secs(10);

/// The members of each group: lost with the process. Locked before any member, and a member before the state.
pub(super) type Members = Mutex<BTreeMap<Group, Vec<Arc<Mutex<Member>>>>>;

pub(super) struct Member {
    topics: Vec<Topic>,
    owned: BTreeSet<Partition>,
    /// What is being taken away: still owned until it is let go.
    leaving: BTreeSet<Partition>,
    news: VecDeque<News>,
    /// The next offset to give.
    next: BTreeMap<Partition, Offset>,
    paused: BTreeSet<Partition>,
}

enum News {
    Assigned(Vec<Partition>),
    Revoked(Vec<Partition>),
}

struct Membership {
    memory: Memory,
    group: Group,
    member: Arc<Mutex<Member>>,
}

fn locked(member: &Mutex<Member>) -> MutexGuard<'_, Member> {
    member.lock().expect("no holder of this lock panics")
}

impl Memory {
    /// Spreads the partitions over the members: takes away what one has too many of, gives what nobody has.
    fn rebalance(&self, group: &Group) {
        let groups = self.members();
        let members = groups.get(group).map(Vec::as_slice).unwrap_or_default();
        let topics: BTreeSet<_> = members.iter().flat_map(|member| locked(member).topics.clone()).collect();
        let all = self.lock().log.partitions_of(&topics.into_iter().collect::<Vec<_>>());
        let wanted: BTreeMap<_, _> =
            all.into_iter().enumerate().map(|(n, partition)| (partition, n % members.len())).collect();
        for (n, member) in members.iter().enumerate() {
            take_away(&mut locked(member), |partition| wanted.get(partition) != Some(&n));
        }
        for (n, member) in members.iter().enumerate() {
            let is_free = |partition: &Partition| {
                self.has(Defect::HandOverAtOnce)
                    || members.iter().all(|member| !locked(member).owned.contains(partition))
            };
            let mine = wanted.iter().filter(|(partition, to)| **to == n && is_free(partition));
            let mine: Vec<_> = mine.map(|(partition, _)| partition.clone()).collect();
            self.give(group, &mut locked(member), mine);
        }
        drop(groups);
        self.0.changed.notify_waiters();
    }

    fn check(&self, topics: &[Topic]) -> Result<(), BrokerError> {
        if self.is_closed() {
            return Err(BrokerError::Closed);
        }
        match topics.iter().find(|topic| !self.0.options.topics.contains(topic)) {
            Some(unknown) => Err(BrokerError::UnknownTopic(unknown.clone())),
            None => Ok(()),
        }
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<Group, Vec<Arc<Mutex<Member>>>>> {
        self.0.members.lock().expect("no holder of this lock panics")
    }

    fn give(&self, group: &Group, member: &mut Member, partitions: Vec<Partition>) {
        let new: Vec<_> =
            partitions.into_iter().filter(|partition| !member.owned.contains(partition)).collect();
        if new.is_empty() {
            return;
        }
        let state = self.lock();
        for partition in &new {
            let mark =
                state.log.groups.get(group).and_then(|progress| progress.get(partition)).map(|c| c.mark());
            member.next.insert(partition.clone(), mark.unwrap_or_default());
            member.owned.insert(partition.clone());
        }
        member.news.push_back(News::Assigned(new));
    }
}

fn take_away(member: &mut Member, is_foreign: impl Fn(&Partition) -> bool) {
    let Member { owned, leaving, news, .. } = member;
    let foreign: Vec<_> = owned
        .iter()
        .filter(|partition| is_foreign(partition) && !leaving.contains(*partition))
        .cloned()
        .collect();
    if !foreign.is_empty() {
        leaving.extend(foreign.iter().cloned());
        news.push_back(News::Revoked(foreign));
    }
}

#[async_trait]
impl Broker for Memory {
    async fn publish(&self, topic: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        if self.has(Defect::FirstPublishesLast) && self.lock().log.ends.values().all(|end| *end == 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.take(topic, events)
    }

    async fn begin(&self, group: &Group, topics: &[Topic]) -> Result<(), BrokerError> {
        self.check(topics)?;
        if self.has(Defect::BeginsAgain) {
            self.lock().log.groups.remove(group);
        }
        if !self.has(Defect::BeginsWhenJoined) {
            self.begin_at_end(&mut self.lock().log, group, topics);
        }
        Ok(())
    }

    async fn subscribe(&self, group: &Group, topics: &[Topic]) -> Result<Box<dyn Subscription>, BrokerError> {
        self.check(topics)?;
        self.begin_at_end(&mut self.lock().log, group, topics);
        let member = Arc::new(Mutex::new(Member {
            topics: topics.to_vec(),
            owned: BTreeSet::new(),
            leaving: BTreeSet::new(),
            news: VecDeque::new(),
            next: BTreeMap::new(),
            paused: BTreeSet::new(),
        }));
        self.members().entry(group.clone()).or_default().push(member.clone());
        self.rebalance(group);
        Ok(Box::new(Membership { memory: self.clone(), group: group.clone(), member }))
    }

    async fn lag(&self, group: &Group) -> Result<Vec<GroupLag>, BrokerError> {
        let state = self.lock();
        let progress = state.log.groups.get(group).into_iter().flatten();
        let lag = progress.map(|(partition, completed)| {
            let end = state.log.ends[partition];
            let pending = (completed.mark()..end).filter(|offset| !completed.contains(*offset)).count();
            GroupLag {
                partition: partition.clone(),
                committed: completed.mark(),
                end,
                pending: u64::try_from(pending).expect("a count fits"),
            }
        });
        Ok(lag.collect())
    }
}

#[async_trait]
impl Subscription for Membership {
    async fn next(&mut self) -> Result<Signal, BrokerError> {
        loop {
            let changed = self.memory.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.memory.is_closed() {
                return Err(BrokerError::Closed);
            }
            if let Some(signal) = self.poll() {
                if self.memory.has(Defect::LostOnCancel) {
                    tokio::time::sleep(Duration::from_micros(300)).await;
                }
                return Ok(signal);
            }
            changed.await;
            if self.memory.has(Defect::SlowWake) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    fn pause(&mut self, partition: &Partition) {
        locked(&self.member).paused.insert(partition.clone());
    }

    fn resume(&mut self, partition: &Partition) {
        locked(&self.member).paused.remove(partition);
        self.memory.0.changed.notify_waiters();
    }
}

impl Membership {
    fn poll(&self) -> Option<Signal> {
        let mut member = locked(&self.member);
        match member.news.pop_front() {
            Some(News::Assigned(partitions)) => return Some(Signal::Assigned(partitions)),
            Some(News::Revoked(partitions)) => {
                drop(member);
                return Some(Signal::Revoked(self.revoke(partitions)));
            }
            None => {}
        }
        let state = self.memory.lock();
        let Member { owned, leaving, next, paused, .. } = &mut *member;
        for partition in owned.iter().filter(|partition| !leaving.contains(*partition)) {
            if paused.contains(partition) && !self.memory.has(Defect::PauseIgnored) {
                continue;
            }
            let from = next.get_mut(partition)?;
            let Some(events) = state.log.partitions.get(partition) else { continue };
            let completed = &state.log.groups[&self.group][partition];
            let (mut deliveries, mut weight) = (Vec::new(), 0);
            for (offset, logged) in events.range(*from..) {
                *from = *offset;
                weight += logged.event.weight();
                if !deliveries.is_empty()
                    && weight > Batch::BYTES_MAX
                    && !self.memory.has(Defect::BatchUnbounded)
                {
                    break;
                }
                *from = offset + 1;
                if completed.contains(*offset) {
                    weight -= logged.event.weight();
                    continue;
                }
                let settle = self.settle(partition);
                deliveries.push(Delivery::new(logged.event.clone(), logged.position.clone(), settle));
            }
            if !deliveries.is_empty() {
                return Some(Signal::Batch(Batch { partition: partition.clone(), deliveries }));
            }
        }
        None
    }

    fn settle(&self, partition: &Partition) -> Arc<dyn Settle> {
        let (memory, group) = (Arc::downgrade(&self.memory.0), self.group.clone());
        Arc::new(Progress { memory, group, partition: partition.clone() })
    }

    /// Partitions that go as soon as the member has let go, or after a time-out.
    fn revoke(&self, partitions: Vec<Partition>) -> Revocation {
        let (revocation, let_go) = Revocation::new(partitions.clone());
        let (memory, group, member) = (self.memory.clone(), self.group.clone(), Arc::downgrade(&self.member));
        tokio::spawn(async move {
            // Dropped without a word, or too slow: it goes all the same.
            let _ = timeout(LET_GO_MAX, let_go).await;
            if let Some(member) = member.upgrade() {
                let mut member = locked(&member);
                for partition in &partitions {
                    member.owned.remove(partition);
                    member.leaving.remove(partition);
                    member.next.remove(partition);
                }
            }
            memory.rebalance(&group);
        });
        revocation
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if let Some(members) = self.memory.members().get_mut(&self.group) {
            members.retain(|member| !Arc::ptr_eq(member, &self.member));
        }
        self.memory.rebalance(&self.group);
    }
}

/// Takes the word that deliveries of a partition are finished; a closed memory does not listen any more.
struct Progress {
    memory: Weak<super::Inner>,
    group: Group,
    partition: Partition,
}

impl Settle for Progress {
    fn complete(&self, offset: Offset) {
        let Some(memory) = self.memory.upgrade().map(Memory).filter(|memory| !memory.is_closed()) else {
            return;
        };
        let mut state = memory.lock();
        for (group, progress) in &mut state.log.groups {
            if *group == self.group || memory.has(Defect::GroupsShareProgress) {
                let completed = progress.entry(self.partition.clone()).or_default();
                if memory.has(Defect::GapsSwallowed) {
                    completed.finish_range(0, offset + 1);
                } else {
                    completed.finish(offset);
                }
            }
        }
    }
}
