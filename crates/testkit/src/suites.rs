//! The lists of cases: one macro for each suite, made from one list.

macro_rules! suite {
    ($d:tt $(#[$doc:meta])* $name:ident = $($module:ident { $($case:ident)* })*) => {
        $(#[$doc])*
        #[macro_export]
        macro_rules! $name {
            ($d subject:ty) => {
                $($(
                    #[test]
                    fn $case() {
                        $crate::run($crate::$module::$case::<$d subject>());
                    }
                )*)*
            };
        }
    };
}

suite! { $
    /// Every promise of a broker to the members of its groups.
    broker_suite =
    broker {
        events_of_a_key_keep_their_order
        publishers_at_once_keep_their_own_order
        calls_under_way_keep_the_order_of_their_first_polls
        a_key_has_one_partition
        an_event_comes_as_it_was_published
        events_without_a_key_come_too
        a_backlog_comes_in_bounded_batches
        an_event_larger_than_a_batch_comes_alone
        positions_that_are_told_are_true
        an_empty_batch_is_answered_by_an_empty_list
        an_unknown_topic_is_refused
        a_too_large_event_is_refused_alone
        a_paused_partition_is_silent_and_loses_nothing
        a_dropped_wait_loses_nothing
        a_waiting_member_is_woken_soon
        a_closed_broker_ends_its_subscriptions
    }
    groups {
        a_group_sees_only_its_topics
        groups_do_not_finish_for_each_other
        a_group_waits_for_no_other
        a_new_group_begins_with_what_comes_after_it
        a_group_begins_before_it_has_members
        beginning_again_changes_nothing
        a_group_that_finished_nothing_begins_again
        events_wait_for_a_group_without_members
        the_only_member_is_given_every_partition
    }
    resume {
        what_is_finished_does_not_come_again
        gaps_are_given_again
        a_crash_loses_nothing_unfinished
        a_member_that_leaves_gives_its_deliveries_back
        a_late_completion_is_harmless
        unfinished_events_outlive_the_retention
    }
    lag {
        lag_lists_every_partition
        lag_counts_what_is_not_finished
        lag_is_the_groups_own_and_outlives_a_restart
    }
}

suite! { $
    /// The promises of a broker that spreads a group over several members.
    sharing_suite =
    sharing {
        a_second_member_takes_its_share
        a_partition_moves_only_when_it_is_let_go
        a_lost_members_partitions_move_to_the_other
    }
}

suite! { $
    /// Every promise of an outbox.
    outbox_suite =
    outbox {
        events_are_taken_in_order_and_whole
        a_duplicate_is_dropped_and_named
        another_source_or_topic_is_no_duplicate
        a_duplicate_is_known_to_the_end_of_the_window
        one_id_from_many_sides_is_taken_once
        what_was_answered_for_survives_a_crash
        a_large_call_is_taken_whole
        a_too_large_event_leaves_nothing_behind
        an_event_within_the_limit_is_taken
        an_unknown_topic_takes_nothing
        a_busy_outbox_leaves_nothing_behind
        a_dropped_call_can_be_sent_again
    }
}

suite! { $
    /// Every promise of the stores.
    store_suite =
    held {
        a_held_event_survives_whole
        due_events_come_earliest_first
        events_of_a_key_come_in_order
        an_id_is_never_used_again
        a_delivery_is_held_once
        another_event_at_a_position_is_another_delivery
        a_head_that_fails_again_waits_again
        what_is_finished_leaves
        settlements_of_a_call_follow_each_other
        adopting_names_the_held_keys
        adopting_heals_a_key_without_a_head
        counts_are_the_flows_own
        settling_at_once_mixes_nothing_up
        a_long_queue_comes_back_in_pages
    }
    owners {
        adopting_anew_fences_the_former_owner
        owners_are_of_one_flow_and_partition
    }
    letters {
        a_letter_is_kept_whole
        a_letter_is_written_once
        a_delivery_that_dies_again_adds_its_attempts
        another_event_at_a_position_has_its_own_letter
        a_letter_takes_the_place_of_its_held_row
        a_group_counts_its_letters
        burying_at_once_counts_each_letter_once
        open_letters_outlive_every_retention
    }
    dead_letters {
        letters_are_listed_newest_first
        pages_stay_whole_while_letters_come_and_go
        a_foreign_cursor_is_refused
        every_condition_selects
        groups_are_listed_largest_first
        a_letter_is_found_by_its_event
        discarding_takes_open_letters_once
    }
    replays {
        a_replay_freezes_its_set
        a_replay_says_what_was_asked_for
        items_come_in_the_order_of_their_events
        items_belong_to_their_place
        an_empty_set_is_a_conflict
        replays_made_at_once_share_no_letter
        a_delivered_item_counts_once
        a_failed_item_opens_its_letter_anew
        a_held_item_is_not_given_again
        a_letter_can_be_replayed_many_times
        only_the_flow_that_failed_is_replayed
    }
    replay_jobs {
        the_last_item_ends_a_replay
        a_replay_is_paused_and_resumed
        a_wish_that_makes_no_sense_is_refused
        the_rate_can_be_changed
        cancelling_gives_back_what_is_neither_settled_nor_held
        a_skipped_item_that_is_delivered_counts
        what_a_test_came_to_is_kept
        a_rate_is_shared_by_all_workers
        a_replay_survives_a_crash_in_the_middle
        items_settled_at_once_count_once
        replays_are_listed_newest_first
    }
    connections {
        states_outlive_a_restart
        a_pause_begins_and_ends_by_a_person_alone
        a_pause_stands_against_everything_that_is_found_out_at_once
    }
}

suite! { $
    /// Every promise about leases.
    leases_suite =
    leases {
        a_lease_has_one_holder
        leases_taken_at_once_are_given_once
        a_lease_that_is_renewed_stays
        a_lease_that_is_not_renewed_goes_to_another
        a_lease_that_ran_out_is_not_extended
        a_lease_that_is_let_go_is_free
        workers_count_while_they_renew
        who_leaves_holds_nothing
        scopes_are_apart
        epochs_outlive_a_restart
    }
}

suite! { $
    /// Every promise about what is remembered of groups.
    checkpoints_suite =
    checkpoints {
        what_a_group_has_begun_is_remembered
        groups_begin_at_once
    }
}

suite! { $
    /// Every promise of an outbox to the relay that reads it.
    outbox_log_suite =
    outbox_log {
        events_come_once_in_the_order_of_their_key
        an_event_is_read_as_it_was_written
        a_backlog_comes_in_bounded_pages
        what_is_written_later_comes_too
        writing_reading_and_advancing_go_on_side_by_side
        what_was_not_advanced_comes_again
        a_mark_counts_for_all_before_it
        a_crash_of_the_relay_loses_nothing
        there_is_one_reader_at_a_time
        a_lost_reader_is_followed_and_fenced
        what_is_refused_is_counted
        the_status_tells_how_far_the_relay_is
    }
}

suite! { $
    /// Random histories of the stores, compared with the model.
    random_store_suite =
    random {
        stores_answer_as_the_model_does
    }
}

suite! { $
    /// Random histories of an outbox and a broker that are one log.
    random_log_suite =
    random {
        the_log_loses_and_repeats_nothing
    }
}

suite! { $
    /// Every promise of a log that can be looked into.
    event_log_suite =
    event_log {
        events_are_listed_newest_first
        a_listed_event_is_told_in_short
        pages_stay_whole_while_events_come_in
        a_foreign_log_cursor_is_refused
        events_are_found_by_their_id
        completion_is_the_flows_own
        finished_events_go_and_stay_known
    }
}
