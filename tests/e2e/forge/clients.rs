//! The modules that a node serves for Forge apps, in Node.js and in a real browser.

use rustix::process::Signal;

use crate::cases::{LIMIT, cases};
use crate::support::Node;

mod subscribers {
    use super::*;

    cases! { "forge_client.mjs", Node::start, &[], [
        every_kind_of_payload_arrives,
        nobody_there_is_a_success_without_an_event,
        global_and_scoped_never_meet,
        the_default_scope_is_the_module_on_its_issue,
        overrides_replace_the_default_scope,
        tokens_with_the_same_claims_meet,
        what_is_wrong_is_told,
        what_is_said_for_people_reaches_them,
        what_is_missing_at_the_start_is_named,
        where_nobody_is_told_of_states_the_console_is_warned_once,
        a_refused_context_is_told_and_a_better_one_is_taken,
        the_context_is_refreshed_before_it_ends,
        a_connection_that_the_node_ends_with_its_context_is_replaced,
        another_context_takes_another_connection,
        subscriptions_of_one_topic_share_it,
        an_unsubscribe_that_crosses_a_subscribe_takes_nothing_from_it,
        replay_is_for_who_asked,
        replay_and_publications_under_way_are_heard_once_and_in_order,
        an_event_that_comes_again_is_heard_once,
        a_callback_that_fails_harms_nobody,
        a_silent_node_is_asked_for_a_sign_of_life,
        closing_ends_everything,
    ] }
}

mod cut_off {
    use super::*;

    cases! { "forge_cut.mjs", lingering, &[], [
        publications_wait_for_a_connection_and_leave_once,
        a_publication_without_an_answer_is_not_sent_again,
        nothing_is_missed_when_the_node_notices_the_cut,
        nothing_is_missed_when_the_node_does_not_notice_the_cut,
        a_connection_on_which_nothing_comes_any_more_is_replaced,
        what_was_said_before_the_first_event_heard_is_not_replayed,
        a_replay_cut_short_is_asked_for_again,
        a_gap_is_told_to_the_callback,
        a_gap_is_told_to_who_had_heard_nothing,
        a_gap_is_told_to_who_heard_nothing_of_a_replay,
        who_leaves_while_the_connection_is_lost_is_not_brought_back,
        a_token_that_is_a_function_is_signed_for_every_connection,
        a_page_whose_context_is_refused_is_told_once,
        a_page_that_gets_no_context_is_told_once,
        a_subscription_that_cannot_be_had_again_says_so,
    ] }
}

mod expiring {
    use super::*;

    cases! { "forge_expiry.mjs", enforcing, &[], [
        a_token_that_is_a_function_keeps_the_subscription,
        a_token_that_is_text_ends_it,
    ] }
}

mod forgotten {
    use super::*;

    cases! { "forge_forgetful.mjs", forgetful, &[], [
        who_was_away_for_longer_than_events_are_kept_is_told,
        a_replay_cut_short_does_not_count_as_heard,
    ] }
}

mod limited {
    use super::*;

    cases! { "forge_limited.mjs", limiting, &[], [
        what_is_over_the_limit_is_told,
        subscriptions_that_were_there_come_back_as_the_limit_allows,
    ] }
}

mod resolvers {
    use super::*;

    cases! { "forge_server.mjs", Node::start, &[], [
        publishes_text_and_objects,
        overrides_are_sent_where_they_mean_something,
        tokens_are_signed_and_meet,
        a_flawed_token_is_refused_without_a_request,
        the_node_judges_what_only_it_can,
        an_invocation_surrounds_what_it_starts,
        a_refused_invocation_is_thrown,
        an_installation_may_publish_globally_and_sign,
        what_others_answer_is_told_as_the_package_does,
        the_url_comes_from_the_environment,
        the_printed_resolver_publishes,
        the_printed_resolver_signs,
        the_printed_requests_are_answered,
    ] }
}

mod browser {
    use super::*;

    cases! { "forge_browser.mjs", lingering, &[], [
        two_tabs_hear_each_other,
        a_refusal_is_told_in_the_page,
        a_callback_that_fails_is_an_error_of_the_page,
        tabs_that_were_cut_off_miss_nothing,
        a_tab_that_closes_its_client_leaves,
    ] }
}

#[test]
fn subscribers_outlive_a_restart() {
    let mut node = Node::with_env(&[("FANFARE_DRAIN_MS", "500")]);
    let subscribers = node.spawn_script("forge_restart.mjs", &[], &[]);
    subscribers.wait_for("ready", LIMIT);
    node.signal(Signal::TERM);
    assert_eq!(node.exit_status(LIMIT).code(), Some(0));
    node.start_again(node.port());
    subscribers.succeed(LIMIT);
}

#[test]
fn subscribers_are_told_of_a_node_that_died() {
    let mut node = Node::start();
    let subscribers = node.spawn_script("forge_lost.mjs", &[], &[]);
    subscribers.wait_for("ready", LIMIT);
    node.restart();
    subscribers.succeed(LIMIT);
}

/// Returns a node that counts lost subscribers as present for longer than any cut in these tests.
fn lingering() -> Node {
    Node::with_env(&[("FANFARE_FORGE_LINGER_MS", "60000")])
}

/// Returns a node that keeps events for a second.
fn forgetful() -> Node {
    Node::with_env(&[("FANFARE_FORGE_REPLAY_SECONDS", "1")])
}

/// Returns a node that ends subscriptions when their realtime token expires.
fn enforcing() -> Node {
    Node::with_env(&[("FANFARE_FORGE_ENFORCE_TOKEN_EXPIRY", "true")])
}

/// Returns a node that allows two operations a second for each installation.
fn limiting() -> Node {
    Node::with_env(&[("FANFARE_FORGE_RATE_LIMIT", "2")])
}
