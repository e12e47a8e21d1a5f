//! What the ledgers of shop and CRM prove. They stand outside the hub, so it cannot talk itself well. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use crossdock_core::{Jitter, RetryPolicy};
use crossdock_sim::{Entry, Sent};
use jiff::Timestamp;

/// How much later than its schedule a try may come: this machine has other things to do, too.
const LATE_MAX: Duration = Duration::from_secs(2);

/// What a look at the ledgers says about a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Too early to say.
    NotYet,
    /// It was kept; this is how.
    Kept(String),
    /// It was broken; this is how.
    Broken(String),
}

/// An order, and the number of an event among its customer's.
type Event = (String, u64);

fn event_of(entry: &Entry) -> Option<Event> {
    Some((entry.key.clone()?, entry.seq?))
}

fn sent_event(sent: &Sent) -> Event {
    (sent.order.clone(), sent.seq)
}

/// How events arrived, compared with how they were sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// Events that must have arrived.
    pub events: usize,
    /// The orders that they are about.
    pub orders: usize,
    /// Those that did not arrive.
    pub missing: usize,
    /// Events that arrived first after a later one of their order.
    pub out_of_order: usize,
    /// Arrivals of what had arrived before.
    pub twice: usize,
}

/// Compares what the hub took from the shop with what a receiver accepted.
pub fn arrival<'a>(sent: impl Iterator<Item = &'a Sent>, entries: &[Entry]) -> Arrival {
    let mut arrival = Arrival::default();
    let (mut arrived, mut highest) = (HashSet::new(), BTreeMap::new());
    for event in entries.iter().filter(|entry| entry.accepted()).filter_map(event_of) {
        let last = highest.entry(event.0.clone()).or_insert(0);
        if event.1 < *last && !arrived.contains(&event) {
            arrival.out_of_order += 1;
        }
        *last = event.1.max(*last);
        arrival.twice += usize::from(!arrived.insert(event));
    }
    let must: Vec<_> = sent.filter(|sent| sent.accepted() && !sent.again).map(sent_event).collect();
    arrival.events = must.len();
    arrival.orders = must.iter().map(|(order, _)| order).collect::<BTreeSet<_>>().len();
    arrival.missing = must.iter().filter(|event| !arrived.contains(*event)).count();
    arrival
}

/// An outage of the CRM: every event of its time arrived, in order, after tries on schedule.
pub fn outage(
    sent: &[Sent],
    entries: &[Entry],
    from: Timestamp,
    until: Timestamp,
    policy: &RetryPolicy,
) -> Verdict {
    let arrival = arrival(sent.iter().filter(|sent| sent.at < until), entries);
    if arrival.out_of_order > 0 {
        return Verdict::Broken(format!("{} events came out of order", arrival.out_of_order));
    }
    if arrival.missing > 0 {
        return Verdict::NotYet;
    }
    let tries = tries_of_refused(entries, 503, from);
    if tries.is_empty() {
        return Verdict::Broken("the outage met no event".to_owned());
    }
    let off = tries.values().filter(|times| !is_on_schedule(times, policy)).count();
    if off > 0 {
        return Verdict::Broken(format!("{off} events were not tried again on schedule"));
    }
    let most = tries.values().map(Vec::len).max().unwrap_or_default();
    let refused: HashSet<_> = tries.into_keys().collect();
    let late = sent.iter().filter(|sent| sent.accepted() && !sent.again && (from..until).contains(&sent.at));
    let behind = late.filter(|sent| !refused.contains(&sent_event(sent))).count();
    Verdict::Kept(format!(
        "the CRM's own ledger has all, in order for each of {} orders\n{} were retried on schedule ({}), \
         {behind} waited behind them",
        arrival.orders,
        refused.len(),
        waits(policy, most),
    ))
}

/// The times of every try of events that were once answered with this status.
fn tries_of_refused(entries: &[Entry], status: u16, from: Timestamp) -> BTreeMap<Event, Vec<Timestamp>> {
    let recent = || entries.iter().filter(|entry| entry.at >= from);
    let refused: HashSet<_> = recent().filter(|entry| entry.status == status).filter_map(event_of).collect();
    let mut tries: BTreeMap<Event, Vec<Timestamp>> = BTreeMap::new();
    for entry in recent() {
        if let Some(event) = event_of(entry).filter(|event| refused.contains(event)) {
            tries.entry(event).or_default().push(entry.at);
        }
    }
    tries
}

fn is_on_schedule(times: &[Timestamp], policy: &RetryPolicy) -> bool {
    let Jitter::Ratio(spread) = policy.jitter else { return true };
    times.windows(2).zip(1..).all(|(pair, tried)| {
        let (gap, planned) = (between(pair[0], pair[1]), policy.wait_after(tried));
        gap >= planned.mul_f64(1.0 - spread) && gap <= planned.mul_f64(1.0 + spread) + LATE_MAX
    })
}

fn waits(policy: &RetryPolicy, tries: usize) -> String {
    let waits = (1..u32::try_from(tries).unwrap_or(u32::MAX)).map(|tried| policy.wait_after(tried));
    waits.map(|wait| format!("{} s", wait.as_secs_f64())).collect::<Vec<_>>().join(", ")
}

/// Copies of webhooks that were accepted before: none reached the CRM.
pub fn duplicates(copies: &[Sent], swallowed: usize, entries: &[Entry]) -> Verdict {
    if copies.is_empty() {
        return Verdict::Broken("the shop had nothing to send again".to_owned());
    }
    let events: BTreeSet<_> = copies.iter().map(sent_event).collect();
    let arrivals = |event: &Event| {
        entries.iter().filter(|entry| entry.accepted() && event_of(entry).as_ref() == Some(event)).count()
    };
    let arrived: Vec<_> = events.iter().map(arrivals).collect();
    if arrived.iter().any(|times| *times > 1) {
        return Verdict::Broken("the CRM got one of them twice".to_owned());
    }
    if swallowed < copies.len() || arrived.contains(&0) {
        return Verdict::NotYet;
    }
    Verdict::Kept(format!("{swallowed} duplicate webhooks swallowed; the CRM has the event once"))
}

/// The number of a try that was answered 429, and of the same event's try that was delivered.
pub type Numbers = (u32, Option<u32>);

/// A pause that the CRM asked for: it was not called meanwhile, and no attempt was counted.
pub fn throttle(entries: &[Entry], from: Timestamp, asked: Duration, numbers: &[Numbers]) -> Verdict {
    let refused = entries.iter().filter(|entry| entry.at >= from && entry.status == 429);
    let Some(last) = refused.max_by_key(|entry| entry.n) else { return Verdict::NotYet };
    let Some(next) = entries.iter().find(|entry| entry.n > last.n) else { return Verdict::NotYet };
    let pause = between(last.at, next.at);
    if pause < asked {
        return Verdict::Broken(format!("it was called again after {:.1} s", pause.as_secs_f64()));
    }
    if numbers.is_empty() || numbers.iter().any(|(_, delivered)| delivered.is_none()) {
        return Verdict::NotYet;
    }
    if numbers.iter().any(|(throttled, delivered)| *delivered != Some(*throttled)) {
        return Verdict::Broken("an attempt was counted".to_owned());
    }
    let events =
        if numbers.len() == 1 { "the event".to_owned() } else { format!("{} events", numbers.len()) };
    Verdict::Kept(format!(
        "Retry-After honoured: no call to the CRM for {:.1} s\nthen {events} arrived, and no attempt was counted",
        pause.as_secs_f64(),
    ))
}

/// The time from one moment to a later one; none if it is not later.
fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crossdock_core::Schedule;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_000_000 + millis).expect("a small number")
    }

    fn sent(key: &str, seq: u64, millis: i64) -> Sent {
        Sent {
            id: format!("{key}-{seq}"),
            topic: "orders/create",
            order: key.to_owned(),
            key: "7001".to_owned(),
            seq,
            status: Some(202),
            tries: 1,
            again: false,
            at: at(millis),
        }
    }

    /// A ledger from (order, sequence, milliseconds, status).
    fn ledger(lines: &[(&str, u64, i64, u16)]) -> Vec<Entry> {
        let entry = |(n, (key, seq, millis, status)): (u64, &(&str, u64, i64, u16))| Entry {
            n,
            at: at(*millis),
            method: "POST".to_owned(),
            path: "/orders".to_owned(),
            webhook_id: None,
            headers: Vec::new(),
            body_sha256: String::new(),
            body_bytes: 0,
            body: None,
            key: Some((*key).to_owned()),
            seq: Some(*seq),
            status: *status,
        };
        (1..).zip(lines).map(entry).collect()
    }

    fn policy() -> RetryPolicy {
        let waits = [1, 2, 4, 8].map(Duration::from_secs).to_vec();
        RetryPolicy { schedule: Schedule::List(waits), jitter: Jitter::Ratio(0.1), ..RetryPolicy::default() }
    }

    #[test]
    fn what_is_missing_late_or_twice_is_counted() {
        let events = [sent("a", 1, 0), sent("a", 2, 0), sent("a", 3, 0), sent("b", 1, 0)];
        let entries = ledger(&[("a", 1, 0, 200), ("a", 3, 1, 200), ("a", 2, 2, 200), ("a", 1, 3, 200)]);
        let arrival = arrival(events.iter(), &entries);
        let expected = Arrival { events: 4, orders: 2, missing: 1, out_of_order: 1, twice: 1 };
        assert_eq!(arrival, expected);
    }

    #[test]
    fn a_refused_webhook_and_a_copy_need_not_arrive() {
        let refused = Sent { status: Some(503), ..sent("a", 1, 0) };
        let copy = Sent { again: true, ..sent("a", 2, 0) };
        assert_eq!(arrival([refused, copy].iter(), &[]).events, 0);
    }

    #[test]
    fn an_outage_is_over_when_everything_of_its_time_has_arrived() {
        let events = [sent("a", 1, 0), sent("a", 2, 500), sent("a", 3, 9000)];
        let mut lines = vec![("a", 1, 10, 503), ("a", 1, 1020, 503), ("a", 1, 3030, 200)];
        let judge = |lines: &[_]| outage(&events, &ledger(lines), at(0), at(2000), &policy());
        assert_eq!(judge(&lines), Verdict::NotYet, "the one behind is still to come");
        lines.push(("a", 2, 3040, 200));
        let Verdict::Kept(how) = judge(&lines) else { panic!("{:?}", judge(&lines)) };
        assert!(how.contains("1 were retried on schedule (1 s, 2 s), 1 waited behind them"), "{how}");
    }

    #[test]
    fn tries_off_their_schedule_break_the_promise() {
        let events = [sent("a", 1, 0)];
        let judge = |lines: &[_]| outage(&events, &ledger(lines), at(0), at(2000), &policy());
        let early = judge(&[("a", 1, 10, 503), ("a", 1, 800, 200)]);
        let late = judge(&[("a", 1, 10, 503), ("a", 1, 4000, 200)]);
        for verdict in [early, late] {
            assert!(matches!(&verdict, Verdict::Broken(how) if how.contains("schedule")), "{verdict:?}");
        }
        let unharmed = judge(&[("a", 1, 10, 200)]);
        assert!(matches!(unharmed, Verdict::Broken(_)), "an outage that met nothing shows nothing");
    }

    #[test]
    fn an_event_that_overtakes_another_breaks_the_promise() {
        let events = [sent("a", 1, 0), sent("a", 2, 0)];
        let entries = ledger(&[("a", 1, 10, 503), ("a", 2, 20, 200), ("a", 1, 1020, 200)]);
        assert!(matches!(outage(&events, &entries, at(0), at(2000), &policy()), Verdict::Broken(_)));
    }

    #[test]
    fn a_duplicate_is_swallowed_when_the_hub_says_so_and_the_crm_has_the_event_once() {
        let copies = [sent("a", 1, 0), sent("a", 1, 0)];
        let once = ledger(&[("a", 1, 0, 200)]);
        assert_eq!(duplicates(&copies, 1, &once), Verdict::NotYet);
        assert_eq!(duplicates(&copies, 2, &[]), Verdict::NotYet);
        assert!(matches!(duplicates(&copies, 2, &once), Verdict::Kept(_)));
        let twice = ledger(&[("a", 1, 0, 200), ("a", 1, 5, 200)]);
        assert!(matches!(duplicates(&copies, 2, &twice), Verdict::Broken(_)));
    }

    #[test]
    fn a_pause_is_kept_when_nothing_came_in_its_time_and_nothing_was_counted() {
        const ASKED: Duration = Duration::from_secs(3);
        let judge = |next: i64, numbers: &[Numbers]| {
            let entries = ledger(&[("a", 1, 0, 429), ("b", 1, 20, 429), ("a", 1, next, 200)]);
            throttle(&entries, at(0), ASKED, numbers)
        };
        assert_eq!(throttle(&[], at(0), ASKED, &[]), Verdict::NotYet);
        assert_eq!(judge(3030, &[(1, None)]), Verdict::NotYet);
        assert!(matches!(judge(3030, &[(1, Some(1))]), Verdict::Kept(_)));
        assert!(matches!(judge(3030, &[(1, Some(2))]), Verdict::Broken(_)), "a counted attempt");
        assert!(matches!(judge(3010, &[(1, Some(1))]), Verdict::Broken(_)), "too early after the last 429");
    }
}
