//! Each old mistake and the scenario that notices it. A mistake without a row fails, and so does a row whose scenario
//! passes with the mistake or fails without it.

use crate::{commands, copies, disk, epochs, intent, io, joins, media, members, resync, scale, scrub, sides};
use rmr_engine::mutant::Mutant::{self, *};
use std::panic::catch_unwind;

type Scenario = fn();

const NOTICED_BY: &[(Mutant, Scenario)] = &[
    (WriteBeforeIntent, intent::h01_no_write_is_acknowledged_before_its_miss_is_durable),
    (IgnoreMetaError, disk::h03_a_failed_metadata_write_stops_the_store),
    (AnyEpoch, io::h25_a_request_that_was_delayed_never_executes_late),
    (PromiseNotStrict, epochs::h05_a_second_client_restart_does_not_let_a_stale_leg_win),
    (ClearFromAnyEpoch, copies::h07_a_late_clear_does_not_wipe_a_newer_miss),
    (DirtySource, copies::h09_a_source_that_missed_the_chunk_refuses_it),
    (NoReassembly, io::h11_a_write_that_no_leg_answers_ends_the_same_on_all),
    (ZeroesUntracked, intent::h12_zeroes_written_while_degraded_are_missed_like_any_write),
    (NoClamp, copies::h18_the_last_chunk_is_clamped_to_the_device),
    (ClearBeforeFlush, disk::h20_what_a_leg_lost_with_its_power_is_fetched_again),
    (ServeAfterOpen, disk::h20_what_a_leg_lost_with_its_power_is_fetched_again),
    (FlushErrorIgnored, disk::h21_a_leg_whose_flush_failed_leaves_and_comes_back_repaired),
    (AckOnFirst, io::h11_a_write_that_no_leg_answers_ends_the_same_on_all),
    (NoDedup, io::h25_a_request_delivered_twice_executes_once),
    (NoDrain, io::h25_a_write_still_on_the_disk_is_waited_for_before_a_promise),
    (NoFenceFlush, disk::finding_07_a_source_has_made_durable_what_the_others_are_told_they_missed),
    (NoOverlapOrder, io::h27_overlapping_writes_end_in_the_same_order_on_all_legs),
    (BelieveOldImage, joins::h45_a_disk_that_went_back_in_time_has_missed_everything),
    (DisjointProposal, epochs::finding_02_no_set_is_proposed_that_was_not_in_the_one_before),
    (AnySendingAnswers, io::finding_05_an_answer_to_an_earlier_sending_ends_nothing),
    (IgnoreContinuity, disk::finding_07_a_leg_that_lost_its_cache_is_no_source_while_another_did_not),
    (NoVerdict, intent::h01_a_degraded_write_survives_the_loss_of_the_only_recorder),
    (ClearWithoutMarks, intent::finding_01_what_a_cleared_entry_said_of_outsiders_is_kept_as_marks),
    (ClearUnflushed, disk::h20_an_entry_lives_until_its_writes_are_flushed),
    (JoinerForgetsOwn, joins::h15_a_joiner_keeps_what_it_knows_of_itself),
    (JoinerDropsEntries, joins::finding_08_a_joiners_entries_become_marks),
    (AbandonWithoutEpoch, joins::finding_08_after_an_abandoned_join_a_late_adoption_finds_a_newer_epoch),
    (EntryAgainstClean, intent::finding_09_an_entry_says_nothing_of_chunks_its_holder_missed),
    (NoHorizon, copies::finding_11_a_copy_waits_until_writes_to_its_chunk_are_answered_by_all),
    (NoDelta, joins::h04_writes_during_a_return_reach_the_returning_leg),
    (NoFreeze, joins::h35_no_write_ends_while_a_joiner_takes_the_last_changes),
    (NoChunkLock, copies::h24_a_write_waits_for_the_copy_of_its_chunk),
    (PartialWriteCleans, joins::h31_a_miss_of_one_block_does_not_stop_writes_to_its_chunk),
    (FreshIsClean, copies::h40_rule_n_blocks_never_written_read_the_same_from_every_leg),
    (ShrinkWithoutMarks, intent::h30_what_an_entry_proved_in_one_epoch_is_not_said_in_the_next),
    (ReadMissed, io::h10_a_leg_does_not_read_what_it_missed),
    (ClearUntold, copies::h30_a_leg_that_left_is_not_stale_where_it_told_that_it_holds_the_chunk),
    (ForgetReplay, disk::h16_a_commit_that_was_only_in_the_journal_survives_the_next_crash),
    (ExecuteUnproved, io::rule_w_a_leg_alone_does_not_execute_writes_to_what_it_missed),
    (NoFlushOfProved, io::rule_w_a_flush_of_legs_that_missed_a_chunk_vouches_for_the_clean_one_that_left),
    (OnlyLeaversMarked, intent::finding_01_who_was_outside_is_marked_when_the_set_shrinks),
    (StaleLastWord, joins::h36_a_joiner_is_not_let_in_with_news_older_than_the_donors_last_copy),
    (FirstPieceOnly, epochs::finding_07_however_many_regions_are_suspect_all_are_settled),
    (AnyBatch, epochs::finding_07_a_late_answer_about_other_regions_says_nothing_of_these),
    (JoinerSettlesEntries, joins::finding_08_a_joiners_entries_say_nothing_of_members_that_left_after_it),
    (UnsuspectAtJoin, joins::rule_f_a_joiners_chunks_stay_suspect_where_nobody_in_the_set_is_clean),
    (NobodyElse, copies::a_write_that_was_copied_from_a_leg_that_left_is_settled_by_a_new_generation),
    (CopyWithoutEntry, copies::a_copy_that_brings_an_unfinished_write_along_leaves_the_chunk_suspect),
    (PeersWithTheRest, scale::a_disk_that_went_back_in_time_while_all_were_down_is_not_started_with),
    (WroteUnrecorded, sides::a_member_that_wrote_is_known_by_it_even_if_power_fails_at_once),
    (JoinStrangers, members::a_store_that_the_pool_does_not_name_is_let_in_by_add_alone),
    (RemoveLastCopy, members::h28_the_last_copy_in_the_set_is_not_removed_nor_put_to_rest_nor_replaced),
    (RestForgotten, members::h32_a_resting_member_stays_out_over_restarts_until_it_ends),
    (KeepStamp, members::a_removed_member_that_is_added_again_counts_as_another_disk),
    (JoinForeign, sides::finding_13_a_member_that_wrote_in_another_history_is_refused_and_said),
    (ForgetLastIn, sides::a_member_that_was_left_alone_and_wrote_nothing_comes_back_by_itself),
    (GrowWithoutMarks, scale::a_device_that_has_grown_reads_the_same_from_every_leg),
    (GrowWithoutCutChunk, scale::a_device_that_has_grown_reads_the_same_from_every_leg),
    (VoidLastCopy, members::h39_another_disk_is_not_let_in_while_nobody_else_holds_everything),
    (ForceStale, sides::force_takes_nobody_who_is_stale_by_what_is_here),
    (GivenUpElsewhere, sides::what_force_decided_counts_against_members_that_come_back_later),
    (AcceptBoth, sides::finding_13_a_pool_with_two_histories_waits_until_a_side_is_chosen),
    (MarkBeforeHorizon, scrub::a_repair_marks_its_chunk_only_when_every_leg_has_what_it_executed),
    (PartOverwriteCleans, resync::a_write_that_covers_a_part_of_a_missed_chunk_leaves_it_missed),
    (EjectTheLast, media::a_leg_with_too_many_read_errors_leaves_unless_it_is_the_last_whole_one),
    (ScrubWithoutLanes, scrub::a_scrub_under_load_finds_nothing_where_nothing_rotted),
    (ScrubBelievesFirst, scrub::h46_a_scrub_finds_rot_and_the_majority_repairs_it),
    (AnyCounter, members::h45_a_late_answer_of_a_disk_that_is_gone_does_not_condemn_the_one_in_its_place),
    (SwitchSides, sides::finding_13_the_side_that_comes_second_finds_the_other_and_is_not_overwritten),
    (AskTheOldOnes, commands::a_client_that_comes_back_finds_a_pool_whose_members_are_others),
    (VoidIsKnown, sides::who_began_to_forget_what_others_missed_and_is_started_by_force_says_all),
    (TrustDecided, sides::what_a_member_took_for_clean_in_another_history_does_not_count),
    (GoBack, sides::finding_13_a_client_that_serves_does_not_go_over_to_the_side_that_is_left),
    (AnyDisk, commands::a_start_that_was_settled_with_one_disk_is_not_adopted_by_the_next),
    (SilenceIsUnclean, joins::a_joiner_that_is_not_answered_at_first_copies_later_and_nobody_starts_anew),
    (StuckForGood, scrub::what_a_scrub_marks_is_missed_and_not_in_doubt),
    (LossForgotten, disk::finding_07_a_leg_that_lost_its_cache_is_no_source_after_it_was_let_in_again),
    (DeltaOfAll, joins::a_joiner_fetches_under_the_freeze_only_what_has_changed),
    (ScrubForgetsHand, scrub::a_scrub_counts_what_the_one_before_it_had_in_hand),
    (ZeroedByOne, scale::one_store_that_does_not_read_zero_makes_the_others_copy),
];

#[test]
fn every_old_mistake_has_a_scenario() {
    for mutant in Mutant::ALL {
        let rows = NOTICED_BY.iter().filter(|(row, _)| row == mutant).count();
        assert!(rows > 0, "{mutant:?} has no scenario: add one, with a row here");
    }
}

#[test]
fn every_old_mistake_is_noticed_by_its_scenario() {
    let passes = |mutant, scenario: &Scenario| {
        Mutant::activate(mutant);
        let passed = catch_unwind(scenario).is_ok();
        Mutant::activate(None);
        passed
    };
    let (mut broken, mut unnoticed) = (Vec::new(), Vec::new());
    for (mutant, scenario) in NOTICED_BY {
        if !passes(None, scenario) {
            broken.push(mutant);
        } else if passes(Some(*mutant), scenario) {
            unnoticed.push(mutant);
        }
    }
    assert!(broken.is_empty(), "their scenarios fail without any mistake: {broken:?}");
    assert!(unnoticed.is_empty(), "not noticed by their scenarios: {unnoticed:?}");
}
