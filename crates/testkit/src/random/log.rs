//! A random history of a log with two groups.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use crossdock_core::{Delivery, Group, Published};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    HasBroker, HasOutbox, Setup,
    reader::Reader,
    sample::{billing, event, flow, orders, setup_of},
};

/// Operations of one history; each restart reads everything that is open.
const LENGTH: usize = 60;
const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// What one group has seen.
struct Member {
    group: Group,
    reader: Reader,
    /// What is out in this life of the subscription.
    out: Vec<Delivery>,
    given: BTreeSet<String>,
    /// Finished, and remembered whatever happens.
    safe: BTreeSet<String>,
    /// Finished in this process: does not come again while it lives.
    fresh: BTreeSet<String>,
    /// Finished before a crash, which may have forgotten it: may come again or not.
    open: BTreeSet<String>,
}

/// What was taken, by key, in order.
type Taken = BTreeMap<&'static str, Vec<String>>;

struct World<S> {
    subject: S,
    setup: Setup,
    taken: Taken,
    members: Vec<Member>,
    random: StdRng,
    history: String,
    seed: u64,
}

pub(super) async fn history<S: HasBroker + HasOutbox>(seed: u64) {
    let setup = setup_of(&[("billing", &["orders"]), ("audit", &["orders"])], &[]);
    let subject = S::create(&setup).await;
    let mut members = Vec::new();
    for group in [billing(), flow("audit")] {
        let reader = Reader::join(&subject, &setup, &group).await;
        let [given, safe, fresh, open] = [(); 4].map(|()| BTreeSet::new());
        members.push(Member { group, reader, out: Vec::new(), given, safe, fresh, open });
    }
    let random = StdRng::seed_from_u64(seed);
    let mut world =
        World { subject, setup, taken: Taken::new(), members, random, history: String::new(), seed };
    for _ in 0..LENGTH {
        world = world.step().await;
    }
    for n in 0..world.members.len() {
        world.catch_up(n).await;
    }
}

impl<S: HasBroker + HasOutbox> World<S> {
    async fn step(mut self) -> Self {
        let member = self.random.random_range(0..self.members.len());
        match self.random.random_range(0..20) {
            0..9 => self.append().await,
            9..12 => self.catch_up(member).await,
            12..17 => self.finish(member),
            17 => self.leave_and_join(member).await,
            18 => self = self.restart(false).await,
            _ => self = self.restart(true).await,
        }
        self
    }

    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        writeln!(self.history, "{what}").expect("a string takes everything");
    }

    /// A call with events of some keys; one in five was sent before.
    async fn append(&mut self) {
        let (mut call, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..self.random.random_range(1..30) {
            let key = KEYS[self.random.random_range(0..KEYS.len())];
            let taken = self.taken.entry(key).or_default();
            let again = !taken.is_empty() && self.random.random_bool(0.2);
            let number = if again { self.random.random_range(0..taken.len()) } else { taken.len() };
            let id = format!("{key}-{number}");
            if !again {
                taken.push(id.clone());
            }
            call.push(event(&id, key));
            expected.push(again);
        }
        self.note(format_args!("append {} events", call.len()));
        let answers = self.subject.outbox().append(&orders(), call).await;
        let duplicates: Vec<_> = answers
            .into_iter()
            .map(|answer| match answer.expect("the event is taken") {
                Published::New(_) => false,
                Published::Duplicate => true,
            })
            .collect();
        assert_eq!(duplicates, expected, "{self}");
    }

    /// Reads everything that is open, and checks that it is everything, once, in order.
    async fn catch_up(&mut self, n: usize) {
        self.note(format_args!("catch up {n}"));
        let text = self.to_string();
        let member = &mut self.members[n];
        let broker = self.subject.broker();
        for delivery in member.reader.rest(broker.as_ref(), &orders(), &KEYS).await {
            let id = delivery.event.id.clone();
            if id.starts_with("mark-") {
                // Of the other group's catching up.
                delivery.complete();
                continue;
            }
            assert!(member.given.insert(id.clone()), "{id} came twice in one life; {text}");
            let finished = member.safe.contains(&id) || member.fresh.contains(&id);
            assert!(!finished, "{id} was finished; {text}");
            member.open.remove(&id);
            member.out.push(delivery);
        }
        for (key, taken) in &self.taken {
            let known = [&member.given, &member.safe, &member.fresh, &member.open];
            let missing: Vec<_> =
                taken.iter().filter(|id| !known.iter().any(|known| known.contains(*id))).collect();
            assert!(missing.is_empty(), "{missing:?} did not come; {text}");
            let out = member.out.iter().filter(|delivery| delivery.event.key.as_deref() == Some(key));
            let numbers: Vec<usize> =
                out.map(|delivery| delivery.event.id[2..].parse().expect("key-number")).collect();
            assert!(numbers.is_sorted(), "the order of {key}: {numbers:?}; {text}");
        }
    }

    fn finish(&mut self, n: usize) {
        let (member, random) = (&mut self.members[n], &mut self.random);
        let chance = [0.1, 0.5, 0.9][random.random_range(0..3)];
        let out = std::mem::take(&mut member.out);
        for delivery in out {
            if random.random_bool(chance) {
                member.fresh.insert(delivery.event.id.clone());
                delivery.complete();
            } else {
                member.out.push(delivery);
            }
        }
        self.note(format_args!("finish some of {n}"));
    }

    async fn leave_and_join(&mut self, n: usize) {
        self.note(format_args!("leave and join {n}"));
        let (subject, setup) = (&self.subject, &self.setup);
        let member = &mut self.members[n];
        member.leave();
        if !S::KEEPS_GAPS {
            member.open.append(&mut member.fresh);
        }
        let group = member.group.clone();
        member.reader = Reader::join(subject, setup, &group).await;
    }

    async fn restart(mut self, crash: bool) -> Self {
        self.note(format_args!("{}", if crash { "crash" } else { "reopen" }));
        for member in &mut self.members {
            member.leave();
            let finished = if S::KEEPS_GAPS && !crash { &mut member.safe } else { &mut member.open };
            finished.append(&mut member.fresh);
        }
        let subject = self.subject;
        self.subject =
            if crash { subject.crash(&self.setup).await } else { subject.reopen(&self.setup).await };
        for member in &mut self.members {
            let group = member.group.clone();
            member.reader = Reader::join(&self.subject, &self.setup, &group).await;
        }
        self
    }
}

impl Member {
    /// The subscription is gone: what is out comes again.
    fn leave(&mut self) {
        self.reader.subscription = Box::new(Nobody);
        self.out.clear();
        self.given.clear();
    }
}

impl<S> std::fmt::Display for World<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CROSSDOCK_SEED={}; the history was:\n{}", self.seed, self.history)
    }
}

/// Stands where a subscription was.
struct Nobody;

#[async_trait::async_trait]
impl crossdock_core::Subscription for Nobody {
    async fn next(&mut self) -> Result<crossdock_core::Signal, crossdock_core::BrokerError> {
        Err(crossdock_core::BrokerError::Closed)
    }
    fn pause(&mut self, _: &crossdock_core::Partition) {}
    fn resume(&mut self, _: &crossdock_core::Partition) {}
}
