//! Unchanged stock clients. The programs in `tests/clients` say what each case does and expects.

use crate::cases::{LIMIT, cases};
use crate::support::Node;

const EVERY_TRANSPORT: &[(&str, &str)] = &[("FANFARE_TRANSPORTS", "default,websocket,polling")];

mod socketio_client {
    use super::*;

    cases! { "socketio_client.mjs", Node::start, EVERY_TRANSPORT, [
        subscribe_publish_and_unsubscribe_are_acknowledged,
        subscribing_again_changes_nothing,
        both_dialects_live_on_one_connection,
        the_last_subscribe_settles_the_shape,
        senders_are_named_by_their_role,
        payloads_of_every_kind_arrive,
        two_publishers_are_heard_in_one_order,
        a_wrong_api_key_is_refused,
        a_wrong_anon_key_is_refused,
        no_credential_is_refused,
        a_wrong_token_is_refused,
        a_token_without_subject_is_refused,
        every_credential_connects,
        an_unknown_role_connects_and_may_do_nothing,
        a_refused_client_comes_back_with_a_better_token,
        an_unknown_namespace_is_refused,
        an_undefined_channel_is_refused,
        publishing_needs_a_subscription,
        reserved_event_names_are_refused,
        malformed_events_are_answered,
        binary_payloads_arrive_as_json,
        binary_in_deep_json_arrives_and_the_rest_is_unchanged,
        binary_that_is_too_large_is_refused_and_the_client_stays,
        flags_do_no_harm,
        disconnecting_leaves_and_connecting_starts_anew,
        a_lost_transport_is_replaced,
        a_user_is_one_member_and_an_anonymous_connection_another,
        wildcard_channels_are_used_by_their_concrete_names,
    ] }
}

mod options {
    use super::*;

    cases! { "options.mjs", Node::start, &[], [
        every_generation_connects_over_every_transport,
        every_option_works,
        the_first_subprotocol_is_selected,
        retries_are_acknowledged,
        namespaces_are_refused_and_the_main_one_goes_on,
        the_msgpack_parser_is_refused_by_name,
        another_path_is_refused_by_name,
        clients_of_socket_io_2_are_refused,
    ] }
}

mod offline {
    use super::*;

    cases! { "offline.mjs", Node::start, &[], [
        publications_made_offline_arrive_once_each_and_in_order,
        publications_that_are_cut_off_arrive,
        the_queue_of_the_client_is_sent_before_its_subscribe,
    ] }

    #[test]
    fn publications_made_offline_arrive_with_recovery_as_well() {
        let node = Node::with_env(&[("FANFARE_RECOVERY_WINDOW_MS", "60000")]);
        let cases = [
            "publications_made_offline_arrive_once_each_and_in_order",
            "publications_that_are_cut_off_arrive",
        ];
        node.run_script("offline.mjs", &cases, &[], LIMIT);
    }
}

mod browser {
    use super::*;
    use crate::client_bundle::serving;

    cases! { "socketio_browser.mjs", serving, &[], [
        a_page_that_loads_the_client_from_the_node_connects,
        a_page_of_another_origin_connects_with_credentials,
        a_page_that_is_left_is_gone,
        jsonp_of_socket_io_4_is_refused_by_name,
        jsonp_of_socket_io_2_is_refused_by_name,
        the_msgpack_bundle_is_refused_by_name,
    ] }
}

mod sdk {
    use super::*;

    // The SDK has only one transport, WebSocket.
    cases! { "sdk.mjs", Node::start, &[], [
        hears_itself_with_the_anon_key,
        hears_itself_with_a_user_token,
        subscribing_connects_by_itself,
        one_definition_allows_names_of_every_form,
        hears_publications_over_http,
        sees_members_join_and_leave,
        unsubscribing_ends_delivery,
        subscribes_again_after_a_lost_transport,
        changes_identity_when_the_user_signs_in,
        is_refused_with_a_wrong_token,
        is_told_that_a_channel_is_closed_to_it,
        is_told_to_subscribe_before_publishing,
    ] }
}

mod documented_example {
    use super::*;

    #[test]
    fn works_with_default_transports() {
        run("default");
    }

    #[test]
    fn works_by_websocket_only() {
        run("websocket");
    }

    #[test]
    fn works_by_polling_only() {
        run("polling");
    }

    fn run(transports: &str) {
        let envs = [("FANFARE_TRANSPORTS", transports)];
        Node::start().run_script("seed_example.mjs", &[], &envs, LIMIT);
    }
}

mod python_client {
    use super::*;

    #[test]
    fn works_with_default_transports() {
        run("default");
    }

    #[test]
    fn works_by_websocket_only() {
        run("websocket");
    }

    #[test]
    fn works_by_polling_only() {
        run("polling");
    }

    fn run(transports: &str) {
        let envs = [("FANFARE_TRANSPORTS", transports)];
        Node::start().run_script("python_client.py", &[], &envs, LIMIT);
    }
}
