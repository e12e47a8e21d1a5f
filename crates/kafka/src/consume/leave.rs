//! Leaving a group in good order.
//!
//! First everything that is finished is committed, as a member like any other, however long a rebalance that is under way takes;
//! then the member says that it leaves. Closing a consumer of librdkafka does neither for certain: commits that wait behind a
//! rebalance are refused once it is over, and a member without partitions goes without a word (seen with 2.12.1), so that the
//! others wait for it until its session is over.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Member, Shared, rebalance::MemberContext, shared::End};

/// How long it may take, unless somebody is in a hurry: longer than a member that was killed is waited for.
const LEAVE_MAX: Duration = Duration::from_secs(60);
/// How long it is tried while the cluster does not answer.
const AWAY_MAX: Duration = Duration::from_secs(3);
/// How long the coordinator may take to answer a member that it keeps waiting for nothing.
const AT_ONCE: Duration = Duration::from_millis(250);
/// How often in a row it must have done so until the group is at rest.
const AT_REST: usize = 2;

/// A member on its way out.
pub(super) struct Leaving<'a> {
    member: &'a Member,
    consumer: &'a BaseConsumer<MemberContext>,
    shared: &'a Shared,
    began: Instant,
}

impl<'a> Leaving<'a> {
    pub(super) fn new(
        member: &'a Member,
        consumer: &'a BaseConsumer<MemberContext>,
        shared: &'a Shared,
    ) -> Self {
        Self { member, consumer, shared, began: Instant::now() }
    }

    /// Lets the engine go of everything, commits, and leaves. Blocks until it is done, or for as long as it may.
    pub(super) fn run(self) {
        self.context().let_all_go();
        if self.shared.ending() == Some(End::Severed) {
            return;
        }
        self.settle();
        // A member with a name of its own is expected back: its partitions stay where they are.
        if self.member.options.instance.is_none() {
            self.say_so();
        }
    }

    fn context(&self) -> &MemberContext {
        self.consumer.context()
    }

    /// Commits what is finished, until the broker has it all.
    fn settle(&self) {
        let (context, mut is_over) = (self.context(), false);
        loop {
            let mut ledgers = context.leaving();
            ledgers.retain(|ledger| ledger.is_unsaved());
            match (ledgers.len(), context.commits.is_idle()) {
                (0, true) => return,
                _ if is_over => {
                    let group = self.member.group.as_str();
                    tracing::warn!(
                        target: "crossdock_kafka", group,
                        "the group is left before what is finished was committed: the last events of its partitions come again"
                    );
                    return;
                }
                (_, true) => context.commits.ask(ledgers),
                (_, false) => {}
            }
            self.member.poll(self.consumer, self.shared);
            is_over = self.is_over();
        }
    }

    /// Tells the group. While a rebalance is under way, librdkafka keeps that for later, so this waits until it is over.
    fn say_so(&self) {
        self.consumer.unsubscribe();
        let mut answered = 0;
        while answered < AT_REST {
            if self.is_over() {
                let group = self.member.group.as_str();
                tracing::warn!(
                    target: "crossdock_kafka", group,
                    "the group is left in the middle of a rebalance: the others may wait until the session is over"
                );
                return;
            }
            let before = self.context().rebalances();
            self.member.poll(self.consumer, self.shared);
            let at_rest = self.is_answered_at_once() && self.context().rebalances() == before;
            answered = if at_rest { answered + 1 } else { 0 };
        }
    }

    /// Whether the coordinator answers, which it does in order: not while a rebalance keeps this member waiting.
    fn is_answered_at_once(&self) -> bool {
        let any = self.member.topics.list(self.member.partitions.get(..1).unwrap_or_default());
        self.consumer.committed_offsets(any, AT_ONCE).is_ok()
    }

    fn is_over(&self) -> bool {
        let is_late = self.shared.leaves_by().is_some_and(|until| Instant::now() >= until);
        let gone = self.began.elapsed();
        is_late || gone >= LEAVE_MAX || (gone >= AWAY_MAX && self.member.context.health.is_away())
    }
}
