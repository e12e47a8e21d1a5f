//! Which shards a member takes and which it gives up. Pure: every member sees the same and comes to the same result.

use crossdock_core::{Holdings, WorkerId};

/// What to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Free shards to take.
    pub(crate) take: Vec<String>,
    /// Shards to give up, since they are more than a fair share.
    pub(crate) give: Vec<String>,
    /// How many more are due to us, once others have given them up.
    pub(crate) missing: usize,
}

/// Every member has as many shards as any other, or one more; who has one more goes by the order of their ids.
pub(crate) fn plan(shards: &[String], holdings: &Holdings, me: &WorkerId) -> Plan {
    let workers = holdings.workers.len().max(1);
    let Some(rank) = holdings.workers.iter().position(|worker| worker == me) else { return Plan::default() };
    let quota = shards.len() / workers + usize::from(rank < shards.len() % workers);
    let holder =
        |shard: &String| holdings.leases.iter().find(|lease| lease.name == *shard).map(|lease| &lease.holder);
    let mine: Vec<_> = shards.iter().filter(|shard| holder(shard) == Some(me)).cloned().collect();
    if mine.len() >= quota {
        return Plan { give: mine[quota..].to_vec(), ..Plan::default() };
    }
    let due = quota - mine.len();
    let free: Vec<_> = shards.iter().filter(|shard| holder(shard).is_none()).collect();
    // Members that join at once begin at different places, so that they seldom want the same.
    let begin = if free.is_empty() { 0 } else { rank * quota % free.len() };
    let take: Vec<_> =
        free.iter().cycle().skip(begin).take(free.len().min(due)).map(|shard| (*shard).clone()).collect();
    Plan { missing: due - take.len(), take, give: Vec::new() }
}

#[cfg(test)]
mod tests {
    use crossdock_core::Lease;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn members_come_to_fair_shares_and_then_rest(shards in 0usize..20, workers in 1usize..7, held in prop::collection::vec(0usize..9, 20)) {
            let names: Vec<_> = (0..shards).map(|shard| format!("orders/{shard}")).collect();
            let workers: Vec<WorkerId> = (0..workers).map(|worker| format!("w{worker}")).collect();
            let held = names.iter().zip(held).filter_map(|(name, worker)| {
                Some(Lease { name: name.clone(), holder: workers.get(worker)?.clone(), epoch: 1 })
            });
            let mut holdings = Holdings { workers: workers.clone(), leases: held.collect() };
            for round in 0..4 {
                for worker in &workers {
                    let plan = plan(&names, &holdings, worker);
                    if round == 3 {
                        prop_assert_eq!(&plan, &Plan::default());
                    }
                    holdings.leases.retain(|lease| !plan.give.contains(&lease.name));
                    let taken = plan.take.iter().map(|name| Lease { name: name.clone(), holder: worker.clone(), epoch: 1 });
                    holdings.leases.extend(taken);
                }
            }
            let count = |worker: &WorkerId| holdings.leases.iter().filter(|lease| lease.holder == *worker).count();
            let counts: Vec<_> = workers.iter().map(count).collect();
            prop_assert_eq!(counts.iter().sum::<usize>(), shards);
            prop_assert!(counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0) <= 1);
        }
    }
}
