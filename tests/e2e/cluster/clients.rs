//! Unchanged stock clients on three nodes. The programs in `tests/clients` say what each case does
//! and expects. Their clients take the nodes in turn, and requests go to a node that the newest
//! client does not have, so that subscriber and publisher are on different nodes.

use super::fleet::{Broker, Envs, Fleet};

const NODES: usize = 3;
const TRANSPORTS: [&str; 3] = ["default", "websocket", "polling"];

/// Cases that need what each node still has of its own: replays.
const REPLAY: &[&str] = &["a_replay_cut_short_is_asked_for_again"];

/// Cases that take long and concern only one client and its node.
const ALONE: &[&str] = &[
    "where_nobody_is_told_of_states_the_console_is_warned_once",
    "the_context_is_refreshed_before_it_ends",
    "a_connection_that_the_node_ends_with_its_context_is_replaced",
];
const ALONE_AND_CUT_OFF: &[&str] = &[
    "a_connection_on_which_nothing_comes_any_more_is_replaced",
    "a_page_whose_context_is_refused_is_told_once",
    "a_page_that_gets_no_context_is_told_once",
];
const ALONE_IN_A_PAGE: &[&str] =
    &["a_refusal_is_told_in_the_page", "a_callback_that_fails_is_an_error_of_the_page"];

/// Lost subscribers of Forge count as present for longer than any cut in these cases.
const LINGERING: Envs = &[("FANFARE_FORGE_LINGER_MS", "60000")];
/// Streams of events that are cut resume after longer than any cut in these cases.
const RECOVERING: Envs = &[("FANFARE_RECOVERY_WINDOW_MS", "60000")];
/// The examples of M2's public page have no credential.
const OPEN: Envs = &[("FANFARE_M2_REQUIRE_AUTH", "false")];

impl<B: Broker> Fleet<B> {
    /// Runs all cases of a program but these.
    fn run_all_but(&self, program: &str, left_out: &[&str], envs: &[(&str, &str)]) {
        let listed = self.run_script(program, &[], &[]);
        let listed: Vec<_> = listed.lines().collect();
        let missing = left_out.iter().find(|case| !listed.contains(case));
        assert_eq!(missing, None, "{program} has no such case");
        let cases: Vec<_> = listed.into_iter().filter(|case| !left_out.contains(case)).collect();
        self.run_script(program, &cases, envs);
    }

    fn run_documented_example(&self) {
        for transports in TRANSPORTS {
            self.run_script("seed_example.mjs", &[], &[("FANFARE_TRANSPORTS", transports)]);
        }
        self.check_nodes();
    }

    fn run_python_clients(&self) {
        // The third case needs the replay of what another node has published.
        let cases = ["a_client_subscribes_publishes_and_receives", "a_wrong_token_is_refused"];
        for transports in TRANSPORTS {
            self.run_script("python_client.py", &cases, &[("FANFARE_TRANSPORTS", transports)]);
        }
        self.check_nodes();
    }

    /// Checks that clients were on several nodes, and that publications came from several.
    fn check_nodes(&self) {
        for name in ["fanfare_connections_opened_total", "fanfare_publications_total"] {
            let counts: Vec<_> = self.nodes.iter().map(|node| node.metric(name)).collect();
            let busy = counts.iter().filter(|count| **count > 0).count();
            assert!(busy > 1, "{name}: {counts:?}");
        }
    }
}

mod one_broker {
    use super::*;

    #[test]
    fn serves_socketio_clients() {
        let fleet = Fleet::start(NODES);
        let envs = [("FANFARE_TRANSPORTS", "default,websocket,polling")];
        fleet.run_all_but("socketio_client.mjs", &[], &envs);
        fleet.check_nodes();
    }

    #[test]
    fn serves_publishers_that_are_cut_off() {
        let fleet = Fleet::start(NODES);
        fleet.run_all_but("offline.mjs", &[], &[]);
        fleet.check_nodes();
    }

    #[test]
    fn serves_the_sdk() {
        let fleet = Fleet::start(NODES);
        fleet.run_all_but("sdk.mjs", &[], &[]);
        fleet.check_nodes();
    }

    #[test]
    fn serves_the_documented_example() {
        Fleet::start(NODES).run_documented_example();
    }

    #[test]
    fn serves_python_clients() {
        Fleet::start(NODES).run_python_clients();
    }

    #[test]
    fn serves_subscribers_of_forge() {
        let fleet = Fleet::start(NODES);
        fleet.run_all_but("forge_client.mjs", ALONE, &[]);
        fleet.check_nodes();
    }

    #[test]
    fn serves_subscribers_of_forge_that_are_cut_off() {
        let fleet = Fleet::with(NODES, LINGERING);
        fleet.run_all_but("forge_cut.mjs", &[REPLAY, ALONE_AND_CUT_OFF].concat(), &[]);
        fleet.check_nodes();
    }

    #[test]
    fn serves_resolvers_of_forge() {
        let fleet = Fleet::start(NODES);
        fleet.run_all_but("forge_server.mjs", &[], &[]);
        fleet.check_nodes();
    }

    #[test]
    fn serves_pages_of_forge() {
        let fleet = Fleet::with(NODES, LINGERING);
        fleet.run_all_but("forge_browser.mjs", ALONE_IN_A_PAGE, &[]);
        fleet.check_nodes();
    }

    #[test]
    fn serves_pages_with_event_sources() {
        let fleet = Fleet::with(NODES, RECOVERING);
        fleet.run_all_but("events_browser.mjs", &[], &[]);
        fleet.check_nodes();
    }

    #[test]
    fn serves_readers_of_documents() {
        let fleet = Fleet::with(NODES, OPEN);
        fleet.run_all_but("m2_native.mjs", &[], &[]);
        fleet.check_nodes();
    }

    #[test]
    fn serves_pages_that_read_documents() {
        let fleet = Fleet::with(NODES, OPEN);
        fleet.run_all_but("m2_browser.mjs", &[], &[]);
        fleet.check_nodes();
    }

    #[test]
    fn has_one_order_for_clients_of_every_kind() {
        let fleet = Fleet::start(NODES);
        fleet.run_all_but("nodes.mjs", &[], &[]);
        fleet.check_nodes();
    }
}

mod three_brokers {
    use super::*;

    #[test]
    fn serve_socketio_clients() {
        let fleet = Fleet::on_three(NODES, &[]);
        let cases = [
            "the_last_subscribe_settles_the_shape",
            "senders_are_named_by_their_role",
            "subscribing_again_changes_nothing",
            "disconnecting_leaves_and_connecting_starts_anew",
            "a_user_is_one_member_and_an_anonymous_connection_another",
            "two_publishers_are_heard_in_one_order",
            "publishing_needs_a_subscription",
            "binary_that_is_too_large_is_refused_and_the_client_stays",
            "a_lost_transport_is_replaced",
            "wildcard_channels_are_used_by_their_concrete_names",
        ];
        let envs = [("FANFARE_TRANSPORTS", "default,websocket,polling")];
        fleet.run_script("socketio_client.mjs", &cases, &envs);
        fleet.run_documented_example();
        fleet.run_python_clients();
        fleet.run_all_but("sdk.mjs", &[], &[]);
    }

    #[test]
    fn serve_pages_with_event_sources() {
        let fleet = Fleet::on_three(NODES, RECOVERING);
        fleet.run_all_but("events_browser.mjs", &["a_page_is_refused"], &[]);
        fleet.check_nodes();
    }

    #[test]
    fn serve_forge() {
        let fleet = Fleet::on_three(NODES, LINGERING);
        let cases = [
            "every_kind_of_payload_arrives",
            "nobody_there_is_a_success_without_an_event",
            "global_and_scoped_never_meet",
            "tokens_with_the_same_claims_meet",
            "replay_and_publications_under_way_are_heard_once_and_in_order",
            "closing_ends_everything",
        ];
        fleet.run_script("forge_client.mjs", &cases, &[]);
        let cases = [
            "publications_wait_for_a_connection_and_leave_once",
            "nothing_is_missed_when_the_node_notices_the_cut",
            "nothing_is_missed_when_the_node_does_not_notice_the_cut",
        ];
        fleet.run_script("forge_cut.mjs", &cases, &[]);
        let cases = ["tokens_are_signed_and_meet", "the_printed_requests_are_answered"];
        fleet.run_script("forge_server.mjs", &cases, &[]);
        fleet.run_script("forge_browser.mjs", &["two_tabs_hear_each_other"], &[]);
        fleet.check_nodes();
    }

    #[test]
    fn serve_readers_of_documents() {
        let fleet = Fleet::on_three(NODES, OPEN);
        fleet.run_all_but("m2_native.mjs", &[], &[]);
        fleet.check_nodes();
    }

    #[test]
    fn have_one_order_for_clients_of_every_kind() {
        let fleet = Fleet::on_three(NODES, &[]);
        fleet.run_all_but("nodes.mjs", &[], &[]);
        fleet.check_nodes();
    }
}
