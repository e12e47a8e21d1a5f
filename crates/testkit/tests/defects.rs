//! The suites notice: a model with one broken promise fails the case that holds it, and where it shows in histories, those.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use async_trait::async_trait;
use crossdock_core::{
    Broker, Checkpoints, Connections, DeadLetters, Event, EventLog, HeldEvents, Leases, Outbox, Replays,
    Settlements, Topic,
};
use crossdock_testkit::{
    Defect, Disk, HasBroker, HasCheckpoints, HasEventLog, HasLeases, HasOutbox, HasStore, Memory, Setup,
    Subject,
};

/// Names a defect as a type.
trait Breaks: Send + Sync + 'static {
    const DEFECT: Defect;
}

/// A model with a defect.
struct Broken<B> {
    memory: Memory,
    defect: PhantomData<B>,
}

impl<B: Breaks> Broken<B> {
    fn of(memory: Memory) -> Self {
        Self { memory, defect: PhantomData }
    }
}

#[async_trait]
impl<B: Breaks> Subject for Broken<B> {
    async fn create(setup: &Setup) -> Self {
        Self::of(Memory::with_defect(Disk::default(), setup, Some(B::DEFECT)))
    }
    async fn reopen(self, setup: &Setup) -> Self {
        Self::of(self.memory.reopen(setup).await)
    }
    async fn crash(self, setup: &Setup) -> Self {
        Self::of(self.memory.crash(setup).await)
    }
}

impl<B: Breaks> HasBroker for Broken<B> {
    const KEEPS_GAPS: bool = true;
    const KNOWS_TOPICS: bool = true;
    const TELLS_POSITIONS: bool = true;
    const WAKE_MAX: Duration = Memory::WAKE_MAX;

    fn broker(&self) -> Arc<dyn Broker> {
        self.memory.broker()
    }
}

#[async_trait]
impl<B: Breaks> HasOutbox for Broken<B> {
    const KNOWS_TOPICS: bool = true;
    const REFUSES_WHEN_BUSY: bool = false;

    fn outbox(&self) -> Arc<dyn Outbox> {
        self.memory.outbox()
    }
    async fn taken(&self, topic: &Topic) -> Vec<Event> {
        self.memory.taken(topic).await
    }
}

impl<B: Breaks> HasStore for Broken<B> {
    const SHARES_RATES: bool = true;
    const OUTLIVES_ITS_BROKER: bool = true;

    fn settlements(&self) -> Arc<dyn Settlements> {
        self.memory.settlements()
    }
    fn held(&self) -> Arc<dyn HeldEvents> {
        self.memory.held()
    }
    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        self.memory.dead_letters()
    }
    fn replays(&self) -> Arc<dyn Replays> {
        self.memory.replays()
    }
    fn connections(&self) -> Arc<dyn Connections> {
        self.memory.connections()
    }
}

impl<B: Breaks> HasEventLog for Broken<B> {
    fn event_log(&self) -> Arc<dyn EventLog> {
        self.memory.event_log()
    }
}

impl<B: Breaks> HasLeases for Broken<B> {
    fn leases(&self) -> Arc<dyn Leases> {
        self.memory.leases()
    }
}

impl<B: Breaks> HasCheckpoints for Broken<B> {
    fn checkpoints(&self) -> Arc<dyn Checkpoints> {
        self.memory.checkpoints()
    }
}

/// Runs a case that must fail.
fn assert_caught(case: impl FnOnce() + Send + 'static) {
    let run = std::thread::spawn(case);
    assert!(run.join().is_err(), "the case passed in spite of the defect");
}

/// One test for each defect and case.
macro_rules! caught {
    ($($test:ident: $defect:ident by $module:ident::$case:ident;)*) => {
        $(
            #[test]
            fn $test() {
                struct Named;
                impl Breaks for Named {
                    const DEFECT: Defect = Defect::$defect;
                }
                assert_caught(|| crossdock_testkit::run(crossdock_testkit::$module::$case::<Broken<Named>>()));
            }
        )*
    };
}

caught! {
    held_ids_used_again: HeldIdUsedAgain by held::an_id_is_never_used_again;
    due_without_its_moment: DueExcludesUntil by held::due_events_come_earliest_first;
    due_in_the_order_of_ids: DueOrderedById by held::due_events_come_earliest_first;
    a_lost_head_stays_lost: AdoptHealsNothing by held::adopting_heals_a_key_without_a_head;
    a_fence_that_is_open: FenceOpen by owners::adopting_anew_fences_the_former_owner;
    a_fence_that_comes_too_late: FenceTooLate by owners::adopting_anew_fences_the_former_owner;
    items_of_any_place: ItemsOfAnyPlace by replays::items_belong_to_their_place;
    a_rate_for_each_worker: RateOfEachWorker by replay_jobs::a_rate_is_shared_by_all_workers;
    a_pause_overwritten: PauseOverwritten by connections::a_pause_begins_and_ends_by_a_person_alone;
    a_skipped_item_lost: SkippedForGood by replay_jobs::a_skipped_item_that_is_delivered_counts;
    checkpoints_forgotten: CheckpointsForgotten by checkpoints::what_a_group_has_begun_is_remembered;
    checkpoints_shared: CheckpointsShared by checkpoints::what_a_group_has_begun_is_remembered;
    a_lease_revived: LeaseRevived by leases::a_lease_that_ran_out_is_not_extended;
    an_epoch_kept: EpochKept by leases::a_lease_that_is_not_renewed_goes_to_another;
    a_lease_released_by_others: ReleasesForOthers by leases::a_lease_that_is_let_go_is_free;
    a_delivery_held_twice: HeldTwice by held::a_delivery_is_held_once;
    an_event_taken_for_another: PositionAlone by held::another_event_at_a_position_is_another_delivery;
    a_letter_taken_for_another: PositionAlone by letters::another_event_at_a_position_has_its_own_letter;
    attempts_doubled: AttemptsDoubled by letters::a_letter_is_written_once;
    a_letter_counted_twice: LetterWrittenTwice by letters::burying_at_once_counts_each_letter_once;
    an_item_settled_twice: ItemSettledTwice by replays::a_delivered_item_counts_once;
    an_item_settled_twice_at_once: ItemSettledTwice by replay_jobs::items_settled_at_once_count_once;
    a_replay_that_grows: ReplayNotFrozen by replays::a_replay_freezes_its_set;
    a_held_item_given_again: HeldItemGiven by replays::a_held_item_is_not_given_again;
    a_test_forgotten: TriedForgotten by replay_jobs::what_a_test_came_to_is_kept;
    items_stranded: CancelStrands by replay_jobs::cancelling_gives_back_what_is_neither_settled_nor_held;
    held_items_given_back: CancelTakesHeld by replay_jobs::cancelling_gives_back_what_is_neither_settled_nor_held;
    pages_by_number: PageByNumber by dead_letters::pages_stay_whole_while_letters_come_and_go;
    ids_forgotten_by_a_restart: DedupeForgets by outbox::a_duplicate_is_dropped_and_named;
    ids_forgotten_within_the_window: DedupeForgets by outbox::a_duplicate_is_known_to_the_end_of_the_window;
    twice_in_one_call: DedupeWithinCallMissing by outbox::a_duplicate_is_dropped_and_named;
    a_refused_id_remembered: RefusedIdRemembered by outbox::a_too_large_event_leaves_nothing_behind;
    a_busy_outbox_turns_a_key: BusyTearsKeys by outbox::a_busy_outbox_leaves_nothing_behind;
    a_group_that_begins_when_joined: BeginsWhenJoined by groups::a_group_begins_before_it_has_members;
    a_group_that_begins_again: BeginsAgain by groups::beginning_again_changes_nothing;
    a_new_group_from_the_start: NewGroupFromStart by groups::a_new_group_begins_with_what_comes_after_it;
    a_beginning_forgotten: StartForgotten by groups::a_group_that_finished_nothing_begins_again;
    gaps_forgotten: GapsForgotten by resume::gaps_are_given_again;
    gaps_swallowed: GapsSwallowed by resume::a_crash_loses_nothing_unfinished;
    gaps_swallowed_in_the_lag: GapsSwallowed by lag::lag_counts_what_is_not_finished;
    a_batch_lost_by_a_dropped_wait: LostOnCancel by broker::a_dropped_wait_loses_nothing;
    a_pause_ignored: PauseIgnored by broker::a_paused_partition_is_silent_and_loses_nothing;
    a_batch_without_bound: BatchUnbounded by broker::a_backlog_comes_in_bounded_batches;
    groups_that_finish_for_each_other: GroupsShareProgress by groups::groups_do_not_finish_for_each_other;
    a_partition_handed_over_at_once: HandOverAtOnce by sharing::a_partition_moves_only_when_it_is_let_go;
    unfinished_events_dropped: RetentionTakesUnfinished by event_log::finished_events_go_and_stay_known;
    a_first_call_that_publishes_last: FirstPublishesLast by broker::calls_under_way_keep_the_order_of_their_first_polls;
    a_slow_wake: SlowWake by broker::a_waiting_member_is_woken_soon;
}

// The same defects, where nobody thought of the case.
caught! {
    random_held_ids_used_again: HeldIdUsedAgain by random::stores_answer_as_the_model_does;
    random_due_without_its_moment: DueOrderedById by random::stores_answer_as_the_model_does;
    random_held_twice: HeldTwice by random::stores_answer_as_the_model_does;
    random_attempts_doubled: AttemptsDoubled by random::stores_answer_as_the_model_does;
    random_letter_written_twice: LetterWrittenTwice by random::stores_answer_as_the_model_does;
    random_item_settled_twice: ItemSettledTwice by random::stores_answer_as_the_model_does;
    random_dedupe_forgets: DedupeForgets by random::the_log_loses_and_repeats_nothing;
    random_gaps_forgotten: GapsForgotten by random::the_log_loses_and_repeats_nothing;
    random_gaps_swallowed: GapsSwallowed by random::the_log_loses_and_repeats_nothing;
    random_groups_share: GroupsShareProgress by random::the_log_loses_and_repeats_nothing;
}
