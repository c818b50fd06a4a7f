//! Plain counters, one set for each thread, added up when they are read.
//!
//! A thread writes its own set only, so a count takes a load and a store: no locked instruction and
//! no cache line that moves between cores.
//!
//! Two sums hold whenever nothing is under way: connections opened = open + closed by reason, and
//! deliveries matched = delivered + dropped by reason + conflated + queued.

pub mod capture;
mod counter;
pub mod heap;
mod log_changes;
pub mod log_lines;
mod log_throttle;
mod text;

use std::sync::Arc;

pub use counter::{Counter, Durations, Frames, Histogram, Reading};
pub use log_changes::LogChanges;
pub use log_throttle::LogThrottle;
pub use text::{Text, quoted};

/// The beginning of the names of counts that only a node of a cluster has.
const OF_A_CLUSTER: &str = "fanfare_cluster_";

/// The divisors that turn a histogram's values into base units: for the buckets, and for the sum.
type Unit = (f64, f64);
/// Microseconds and nanoseconds to seconds.
const SECONDS: Unit = (1e6, 1e9);
/// Numbers without a unit.
const ONE: Unit = (1.0, 1.0);

macro_rules! counters {
    (
        counts {
            $($field:ident: $kind:literal $name:literal $labels:literal $help:literal;)*
        }
        histograms {
            $($hist:ident: $type:ident $unit:ident $hist_name:literal $hist_help:literal;)*
        }
    ) => {
        /// The counts of one thread, on cache lines of its own.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters {
            $(#[doc = $help] pub $field: Counter,)*
            $(#[doc = $hist_help] pub $hist: $type,)*
        }

        impl Counters {
            /// Returns every count, in the order of the list.
            fn counts(&self) -> Vec<Count> {
                vec![$(Count {
                    kind: $kind,
                    name: $name,
                    labels: $labels,
                    help: $help,
                    value: self.$field.get(),
                },)*]
            }

            /// Returns every histogram, in the order of the list.
            fn histograms(&self) -> Vec<(&'static str, &'static str, Unit, Reading)> {
                vec![$(($hist_name, $hist_help, $unit, self.$hist.read()),)*]
            }
        }
    };
}

/// A count with its names for output.
struct Count {
    kind: &'static str,
    name: &'static str,
    labels: &'static str,
    help: &'static str,
    value: u64,
}

counters! {
    counts {
        websockets: "gauge" "fanfare_connections" "api=\"insforge\",transport=\"websocket\""
            "Connections open at the moment.";
        pollings: "gauge" "fanfare_connections" "api=\"insforge\",transport=\"polling\""
            "Connections open at the moment.";
        event_streams: "gauge" "fanfare_connections" "api=\"insforge\",transport=\"sse\""
            "Connections open at the moment.";
        topic_websockets: "gauge" "fanfare_connections" "api=\"forge\",transport=\"websocket\""
            "Connections open at the moment.";
        resource_websockets: "gauge" "fanfare_connections" "api=\"m2\",transport=\"websocket\""
            "Connections open at the moment.";
        conformance_websockets:
            "gauge" "fanfare_connections" "api=\"conformance\",transport=\"websocket\""
            "Connections open at the moment.";
        conformance_pollings:
            "gauge" "fanfare_connections" "api=\"conformance\",transport=\"polling\""
            "Connections open at the moment.";
        opened: "counter" "fanfare_connections_opened_total" ""
            "Connections that were opened.";
        closed_client: "counter" "fanfare_connections_closed_total" "reason=\"client\""
            "Connections that ended, by reason.";
        closed_ping_timeout: "counter" "fanfare_connections_closed_total" "reason=\"ping_timeout\""
            "Connections that ended, by reason.";
        closed_connect_timeout:
            "counter" "fanfare_connections_closed_total" "reason=\"connect_timeout\""
            "Connections that ended, by reason.";
        closed_protocol: "counter" "fanfare_connections_closed_total" "reason=\"protocol\""
            "Connections that ended, by reason.";
        closed_too_long:
            "counter" "fanfare_connections_closed_total" "reason=\"message_too_long\""
            "Connections that ended, by reason.";
        closed_slow_consumer:
            "counter" "fanfare_connections_closed_total" "reason=\"slow_consumer\""
            "Connections that ended, by reason.";
        closed_memory: "counter" "fanfare_connections_closed_total" "reason=\"memory\""
            "Connections that ended, by reason.";
        closed_expired: "counter" "fanfare_connections_closed_total" "reason=\"expired\""
            "Connections that ended, by reason.";
        closed_drain: "counter" "fanfare_connections_closed_total" "reason=\"drain\""
            "Connections that ended, by reason.";
        closed_system: "counter" "fanfare_connections_closed_total" "reason=\"system\""
            "Connections that ended, by reason.";
        subscriptions: "gauge" "fanfare_subscriptions" "api=\"insforge\""
            "Subscriptions at the moment.";
        topic_subscriptions: "gauge" "fanfare_subscriptions" "api=\"forge\""
            "Subscriptions at the moment.";
        resource_subscriptions: "gauge" "fanfare_subscriptions" "api=\"m2\""
            "Subscriptions at the moment.";
        publications_http:
            "counter" "fanfare_publications_total" "api=\"insforge\",source=\"http\""
            "Publications accepted.";
        publications_socket:
            "counter" "fanfare_publications_total" "api=\"insforge\",source=\"socket\""
            "Publications accepted.";
        events_http: "counter" "fanfare_publications_total" "api=\"forge\",source=\"http\""
            "Publications accepted.";
        events_socket: "counter" "fanfare_publications_total" "api=\"forge\",source=\"socket\""
            "Publications accepted.";
        documents_written: "counter" "fanfare_publications_total" "api=\"m2\",source=\"http\""
            "Publications accepted.";
        events_unheard: "counter" "fanfare_events_unheard_total" ""
            "Forge events without a subscriber, which were answered with null.";
        documents_stale: "counter" "fanfare_documents_stale_total" ""
            "Writes of documents that were dropped because there was a later version.";
        documents_loaded: "counter" "fanfare_documents_loaded_total" ""
            "Reads of the store for a subscriber of a resource.";
        refused_overloaded: "counter" "fanfare_refusals_total" "reason=\"overloaded\""
            "Commands and requests refused, by reason.";
        refused_invalid: "counter" "fanfare_refusals_total" "reason=\"invalid\""
            "Commands and requests refused, by reason.";
        refused_too_large: "counter" "fanfare_refusals_total" "reason=\"too_large\""
            "Commands and requests refused, by reason.";
        refused_unauthorized: "counter" "fanfare_refusals_total" "reason=\"unauthorized\""
            "Commands and requests refused, by reason.";
        refused_origins: "counter" "fanfare_refusals_total" "reason=\"origin\""
            "Commands and requests refused, by reason.";
        refused_connections: "counter" "fanfare_refusals_total" "reason=\"connections\""
            "Commands and requests refused, by reason.";
        refused_handshakes: "counter" "fanfare_refusals_total" "reason=\"handshakes\""
            "Commands and requests refused, by reason.";
        refused_address_connections:
            "counter" "fanfare_refusals_total" "reason=\"address_connections\""
            "Commands and requests refused, by reason.";
        refused_address_rate: "counter" "fanfare_refusals_total" "reason=\"address_rate\""
            "Commands and requests refused, by reason.";
        refused_tls_handshakes: "counter" "fanfare_refusals_total" "reason=\"tls_handshakes\""
            "Commands and requests refused, by reason.";
        refused_polling_sessions:
            "counter" "fanfare_refusals_total" "reason=\"polling_sessions\""
            "Commands and requests refused, by reason.";
        refused_connection_rate: "counter" "fanfare_refusals_total" "reason=\"connection_rate\""
            "Commands and requests refused, by reason.";
        refused_proxy_headers: "counter" "fanfare_refusals_total" "reason=\"proxy_header\""
            "Commands and requests refused, by reason.";
        refused_not_subscribed: "counter" "fanfare_refusals_total" "reason=\"not_subscribed\""
            "Commands and requests refused, by reason.";
        refused_subscriptions:
            "counter" "fanfare_refusals_total" "reason=\"too_many_subscriptions\""
            "Commands and requests refused, by reason.";
        refused_backplane: "counter" "fanfare_refusals_total" "reason=\"backplane\""
            "Commands and requests refused, by reason.";
        refused_rate_limited: "counter" "fanfare_refusals_total" "reason=\"rate_limited\""
            "Commands and requests refused, by reason.";
        refused_store_queue: "counter" "fanfare_refusals_total" "reason=\"store_queue\""
            "Commands and requests refused, by reason.";
        refused_reader_queue: "counter" "fanfare_refusals_total" "reason=\"reader_queue\""
            "Commands and requests refused, by reason.";
        refused_query_timeout: "counter" "fanfare_refusals_total" "reason=\"query_timeout\""
            "Commands and requests refused, by reason.";
        refused_history_queue: "counter" "fanfare_refusals_total" "reason=\"history_queue\""
            "Commands and requests refused, by reason.";
        refused_documents: "counter" "fanfare_refusals_total" "reason=\"documents\""
            "Commands and requests refused, by reason.";
        refused_descriptors: "counter" "fanfare_refusals_total" "reason=\"descriptors\""
            "Commands and requests refused, by reason.";
        kept: "counter" "fanfare_history_kept_total" ""
            "Publications committed to history.";
        lost: "counter" "fanfare_history_lost_total" ""
            "Publications that were fanned out and could not be committed to history.";
        commits: "counter" "fanfare_history_commits_total" ""
            "Commits of publications to history.";
        policy_questions: "counter" "fanfare_policy_questions_total" ""
            "Verdicts that workers did not know and asked for.";
        verdicts_allowed: "counter" "fanfare_policy_verdicts_total" "verdict=\"allowed\""
            "Verdicts of policies' expressions; failed is one that could not be evaluated.";
        verdicts_denied: "counter" "fanfare_policy_verdicts_total" "verdict=\"denied\""
            "Verdicts of policies' expressions; failed is one that could not be evaluated.";
        verdicts_failed: "counter" "fanfare_policy_verdicts_total" "verdict=\"failed\""
            "Verdicts of policies' expressions; failed is one that could not be evaluated.";
        commands_waiting: "gauge" "fanfare_commands_waiting" ""
            "Clients' commands that wait for a verdict at the moment.";
        matched: "counter" "fanfare_deliveries_matched_total" ""
            "Deliveries due: one for each publication and subscriber.";
        delivered: "counter" "fanfare_deliveries_total" ""
            "Deliveries done: the kernel took every byte, or a poll was answered with it.";
        dropped_slow_consumer:
            "counter" "fanfare_deliveries_dropped_total" "reason=\"slow_consumer\""
            "Deliveries that were not done, by reason.";
        dropped_memory: "counter" "fanfare_deliveries_dropped_total" "reason=\"memory\""
            "Deliveries that were not done, by reason.";
        dropped_closed: "counter" "fanfare_deliveries_dropped_total" "reason=\"closed\""
            "Deliveries that were not done, by reason.";
        dropped_oldest: "counter" "fanfare_deliveries_dropped_total" "reason=\"drop_oldest\""
            "Deliveries that were not done, by reason.";
        dropped_replay: "counter" "fanfare_deliveries_dropped_total" "reason=\"replay\""
            "Deliveries that were not done, by reason.";
        conflated: "counter" "fanfare_deliveries_conflated_total" ""
            "Deliveries that were not done because later ones said the same.";
        replayed: "counter" "fanfare_replayed_total" ""
            "Publications replayed to new subscribers from a channel's window.";
        payloads_shared: "counter" "fanfare_payloads_total" "kept=\"slice\""
            "Payloads accepted, by whether they are slices of what was received, or copies.";
        payloads_copied: "counter" "fanfare_payloads_total" "kept=\"copy\""
            "Payloads accepted, by whether they are slices of what was received, or copies.";
        gaps: "counter" "fanfare_gaps_total" ""
            "Notices to subscribers that they lost publications.";
        recovered: "counter" "fanfare_recoveries_total" "outcome=\"recovered\""
            "Clients that tried to resume after a cut, by outcome.";
        not_recovered: "counter" "fanfare_recoveries_total" "outcome=\"refused\""
            "Clients that tried to resume after a cut, by outcome.";
        recovered_publications: "counter" "fanfare_recovered_publications_total" ""
            "Publications given to clients that had missed them.";
        announcements: "counter" "fanfare_presence_announcements_total" ""
            "Presence events put into a subscriber's outbox.";
        announcements_suppressed: "counter" "fanfare_presence_suppressed_total" ""
            "Joins and leaves not announced because too many are present.";
        leaves_postponed: "counter" "fanfare_leaves_postponed_total" ""
            "Leaves that had to wait for room in a mailbox.";
        frames_sent: "counter" "fanfare_frames_sent_total" ""
            "Frames that the kernel took whole, heartbeats and answers included.";
        deflated: "counter" "fanfare_compression_messages_total" "direction=\"sent\""
            "Messages compressed, once for all receivers, and messages received compressed.";
        inflated: "counter" "fanfare_compression_messages_total" "direction=\"received\""
            "Messages compressed, once for all receivers, and messages received compressed.";
        deflated_plain_bytes:
            "counter" "fanfare_compression_bytes_total" "direction=\"sent\",form=\"plain\""
            "Bytes of these messages, without compression and with it.";
        deflated_bytes:
            "counter" "fanfare_compression_bytes_total" "direction=\"sent\",form=\"compressed\""
            "Bytes of these messages, without compression and with it.";
        inflated_plain_bytes:
            "counter" "fanfare_compression_bytes_total" "direction=\"received\",form=\"plain\""
            "Bytes of these messages, without compression and with it.";
        inflated_bytes:
            "counter" "fanfare_compression_bytes_total" "direction=\"received\",form=\"compressed\""
            "Bytes of these messages, without compression and with it.";
        bytes_sent: "counter" "fanfare_bytes_sent_total" "over=\"websocket\""
            "Bytes sent; those of http are responses, polls included.";
        http_bytes_sent: "counter" "fanfare_bytes_sent_total" "over=\"http\""
            "Bytes sent; those of http are responses, polls included.";
        bytes_received: "counter" "fanfare_bytes_received_total" "over=\"websocket\""
            "Bytes received; those of http are requests, polls included.";
        http_bytes_received: "counter" "fanfare_bytes_received_total" "over=\"http\""
            "Bytes received; those of http are requests, polls included.";
        zerocopy_spared: "counter" "fanfare_zerocopy_sends_total" "outcome=\"spared\""
            "Sends of frames that the kernel was not to copy; refused is one too many at once.";
        zerocopy_copied: "counter" "fanfare_zerocopy_sends_total" "outcome=\"copied\""
            "Sends of frames that the kernel was not to copy; refused is one too many at once.";
        zerocopy_refused: "counter" "fanfare_zerocopy_sends_total" "outcome=\"refused\""
            "Sends of frames that the kernel was not to copy; refused is one too many at once.";
        sends: "counter" "fanfare_sends_total" ""
            "Send calls for connections' outboxes.";
        turns: "counter" "fanfare_turns_total" ""
            "Turns of the workers.";
        http_connections: "gauge" "fanfare_http_connections" ""
            "HTTP connections open at the moment.";
        http_under_way: "gauge" "fanfare_http_requests" ""
            "HTTP requests under way at the moment, waiting polls included.";
        http_requests: "counter" "fanfare_http_requests_total" ""
            "HTTP requests answered or handed over.";
        http_refused: "counter" "fanfare_http_malformed_total" ""
            "HTTP requests that broke the protocol or its limits.";
        http_timeouts: "counter" "fanfare_http_timeouts_total" ""
            "HTTP connections closed because the client was too slow.";
        tls_handshakes: "counter" "fanfare_tls_handshakes_total" "outcome=\"agreed\""
            "TLS handshakes, by what became of them; refused includes clients without TLS.";
        tls_refused: "counter" "fanfare_tls_handshakes_total" "outcome=\"refused\""
            "TLS handshakes, by what became of them; refused includes clients without TLS.";
        webhook_attempts: "counter" "fanfare_webhook_attempts_total" ""
            "Requests sent to webhooks, repeated ones included.";
        webhook_delivered: "counter" "fanfare_webhook_calls_total" "outcome=\"delivered\""
            "Calls of webhooks that came to an end: one for each URL of a publication.";
        webhook_failed: "counter" "fanfare_webhook_calls_total" "outcome=\"failed\""
            "Calls of webhooks that came to an end: one for each URL of a publication.";
        webhook_refused: "counter" "fanfare_webhook_calls_total" "outcome=\"refused\""
            "Calls of webhooks that came to an end: one for each URL of a publication.";
        webhook_dropped: "counter" "fanfare_webhook_calls_total" "outcome=\"dropped\""
            "Calls of webhooks that came to an end: one for each URL of a publication.";
        webhook_dropped_waiting:
            "counter" "fanfare_webhook_dropped_total" "reason=\"waiting\""
            "Calls of webhooks dropped, by the bound that they met.";
        webhook_dropped_bytes:
            "counter" "fanfare_webhook_dropped_total" "reason=\"bytes\""
            "Calls of webhooks dropped, by the bound that they met.";
        webhook_dropped_handover:
            "counter" "fanfare_webhook_dropped_total" "reason=\"handover\""
            "Calls of webhooks dropped, by the bound that they met.";
        webhook_dropped_target_queue:
            "counter" "fanfare_webhook_dropped_total" "reason=\"target_queue\""
            "Calls of webhooks dropped, by the bound that they met.";
        webhook_dropped_stopped:
            "counter" "fanfare_webhook_dropped_total" "reason=\"stopped\""
            "Calls of webhooks dropped, by the bound that they met.";
        webhook_waiting: "gauge" "fanfare_webhook_waiting" ""
            "Calls of webhooks waiting, under way, or between two attempts at the moment.";
        accept_pauses: "counter" "fanfare_accept_pauses_total" ""
            "Times that accepting stopped for lack of descriptors or free places.";
        late_unkept: "counter" "fanfare_cluster_unkept_total" ""
            "Publications that the cluster's stream has, or may have, and history lacks.";
        cluster_stored:
            "counter" "fanfare_cluster_publications_total" "outcome=\"stored\""
            "Publications of this node for the cluster's stream, by what became of them.";
        cluster_duplicate:
            "counter" "fanfare_cluster_publications_total" "outcome=\"duplicate\""
            "Publications of this node for the cluster's stream, by what became of them.";
        cluster_unheard:
            "counter" "fanfare_cluster_publications_total" "outcome=\"unheard\""
            "Publications of this node for the cluster's stream, by what became of them.";
        cluster_unproven:
            "counter" "fanfare_cluster_publications_total" "outcome=\"unproven\""
            "Publications of this node for the cluster's stream, by what became of them.";
        cluster_refused:
            "counter" "fanfare_cluster_publications_total" "outcome=\"refused\""
            "Publications of this node for the cluster's stream, by what became of them.";
        cluster_unknown:
            "counter" "fanfare_cluster_publications_total" "outcome=\"unknown\""
            "Publications of this node for the cluster's stream, by what became of them.";
        cluster_late:
            "counter" "fanfare_cluster_publications_total" "outcome=\"late\""
            "Publications of this node for the cluster's stream, by what became of them.";
        cluster_received_publication:
            "counter" "fanfare_cluster_received_total" "kind=\"publication\""
            "Messages that came live from the cluster's stream, by kind.";
        cluster_received_presence:
            "counter" "fanfare_cluster_received_total" "kind=\"presence\""
            "Messages that came live from the cluster's stream, by kind.";
        cluster_received_heartbeat:
            "counter" "fanfare_cluster_received_total" "kind=\"heartbeat\""
            "Messages that came live from the cluster's stream, by kind.";
        cluster_received_anchor:
            "counter" "fanfare_cluster_received_total" "kind=\"anchor\""
            "Messages that came live from the cluster's stream, by kind.";
        cluster_received_unknown:
            "counter" "fanfare_cluster_received_total" "kind=\"unknown\""
            "Messages that came live from the cluster's stream, by kind.";
        cluster_skipped_version:
            "counter" "fanfare_cluster_skipped_total" "reason=\"version\""
            "Messages of the cluster that were skipped because this node cannot read them, by reason.";
        cluster_skipped_kind:
            "counter" "fanfare_cluster_skipped_total" "reason=\"kind\""
            "Messages of the cluster that were skipped because this node cannot read them, by reason.";
        cluster_skipped_malformed:
            "counter" "fanfare_cluster_skipped_total" "reason=\"malformed\""
            "Messages of the cluster that were skipped because this node cannot read them, by reason.";
        cluster_documents_stored:
            "counter" "fanfare_cluster_documents_total" "outcome=\"stored\""
            "Writes of documents for the cluster's stream, by what became of them.";
        cluster_documents_refused:
            "counter" "fanfare_cluster_documents_total" "outcome=\"refused\""
            "Writes of documents for the cluster's stream, by what became of them.";
        cluster_documents_unknown:
            "counter" "fanfare_cluster_documents_total" "outcome=\"unknown\""
            "Writes of documents for the cluster's stream, by what became of them.";
        cluster_document_conflicts:
            "counter" "fanfare_cluster_document_conflicts_total" ""
            "Times that another node's write of the same document was faster.";
        cluster_document_proofs:
            "counter" "fanfare_cluster_document_proofs_total" "outcome=\"stored\""
            "Proofs that the node's copy of the documents is new enough, by what became of them.";
        cluster_document_unproven:
            "counter" "fanfare_cluster_document_proofs_total" "outcome=\"unknown\""
            "Proofs that the node's copy of the documents is new enough, by what became of them.";
        cluster_documents_applied:
            "counter" "fanfare_cluster_documents_applied_total" ""
            "Documents of the cluster's stream that are new in the node's copy.";
        cluster_documents_again:
            "counter" "fanfare_cluster_documents_again_total" ""
            "Times that all documents were read again from the cluster's stream.";
        cluster_history_asked:
            "counter" "fanfare_cluster_history_questions_total" "side=\"asked\""
            "Questions about history that this node has asked others, and that it has answered.";
        cluster_history_answered:
            "counter" "fanfare_cluster_history_questions_total" "side=\"answered\""
            "Questions about history that this node has asked others, and that it has answered.";
        cluster_history_unanswered:
            "counter" "fanfare_cluster_history_unanswered_total" ""
            "Questions about history that another node did not answer.";
        cluster_history_refused:
            "counter" "fanfare_cluster_history_refused_total" ""
            "Questions of other nodes about history that were refused, because there were too many.";
        cluster_history_repeats:
            "counter" "fanfare_cluster_history_repeats_total" ""
            "Messages that this node did not keep, because another one has them.";
        cluster_polls_passed:
            "counter" "fanfare_cluster_polls_total" "side=\"passed\""
            "Long-polling requests that were passed on to the node of their session, by side.";
        cluster_polls_answered:
            "counter" "fanfare_cluster_polls_total" "side=\"answered\""
            "Long-polling requests that were passed on to the node of their session, by side.";
        cluster_polls_under_way:
            "gauge" "fanfare_cluster_polls" ""
            "Long-polling requests of other nodes that this node has not answered yet.";
        cluster_polls_refused:
            "counter" "fanfare_cluster_polls_refused_total" ""
            "Such requests that were refused, because there were too many or NATS was not reached.";
        cluster_polls_unanswered:
            "counter" "fanfare_cluster_polls_unanswered_total" ""
            "Such requests that this node has passed on in vain: the other one was silent.";
        cluster_polls_lost:
            "counter" "fanfare_cluster_polls_lost_total" ""
            "Answers of which another node did not say whether its client received them: the session ends.";
        cluster_holes_read:
            "counter" "fanfare_cluster_holes_total" "how=\"read\""
            "Reads of what did not come live: of everything, of latest messages, or of one channel.";
        cluster_holes_last:
            "counter" "fanfare_cluster_holes_total" "how=\"last\""
            "Reads of what did not come live: of everything, of latest messages, or of one channel.";
        cluster_holes_channel:
            "counter" "fanfare_cluster_holes_total" "how=\"channel\""
            "Reads of what did not come live: of everything, of latest messages, or of one channel.";
        cluster_gaps:
            "counter" "fanfare_cluster_gaps_total" ""
            "Channels whose subscribers were told that they may have missed publications.";
        cluster_behind:
            "counter" "fanfare_cluster_behind_total" ""
            "Times that a worker fell behind on a channel of the cluster.";
        cluster_caught_up:
            "counter" "fanfare_cluster_caught_up_total" ""
            "Times that such a worker was given what it had missed.";
        cluster_unattachable:
            "counter" "fanfare_cluster_unattachable_total" ""
            "Channels that could not be heard in time, so that subscribers were refused.";
        cluster_sessions_shared:
            "counter" "fanfare_cluster_sessions_total" "outcome=\"shared\""
            "Words on sessions for the cluster's stream, by what became of them.";
        cluster_sessions_changing:
            "counter" "fanfare_cluster_sessions_total" "outcome=\"changing\""
            "Words on sessions for the cluster's stream, by what became of them.";
        cluster_sessions_moved:
            "counter" "fanfare_cluster_sessions_total" "outcome=\"moved\""
            "Words on sessions for the cluster's stream, by what became of them.";
        cluster_sessions_full:
            "counter" "fanfare_cluster_sessions_total" "outcome=\"full\""
            "Words on sessions for the cluster's stream, by what became of them.";
        cluster_sessions_failed:
            "counter" "fanfare_cluster_sessions_total" "outcome=\"unknown\""
            "Words on sessions for the cluster's stream, by what became of them.";
        cluster_sessions_taken:
            "counter" "fanfare_cluster_sessions_taken_total" "outcome=\"taken\""
            "Sessions of Socket.IO that clients asked to resume across nodes, by what became of that.";
        cluster_sessions_unknown:
            "counter" "fanfare_cluster_sessions_taken_total" "outcome=\"unknown\""
            "Sessions of Socket.IO that clients asked to resume across nodes, by what became of that.";
        cluster_audiences_unknown:
            "counter" "fanfare_cluster_audience_unknown_total" ""
            "Audiences that some node did not answer for in time.";
        cluster_epochs:
            "counter" "fanfare_cluster_epochs_total" ""
            "Times that a stream of the cluster had lost something.";
        cluster_deaf_publishing:
            "counter" "fanfare_cluster_deaf_total" "side=\"publishing\""
            "Times that a node's own heartbeats were not acknowledged, or did not come back.";
        cluster_deaf_reading:
            "counter" "fanfare_cluster_deaf_total" "side=\"reading\""
            "Times that a node's own heartbeats were not acknowledged, or did not come back.";
        cluster_lost_error:
            "counter" "fanfare_cluster_line_reconnects_total" "why=\"error\""
            "Connections to the cluster's broker that were lost, by reason.";
        cluster_lost_closed:
            "counter" "fanfare_cluster_line_reconnects_total" "why=\"closed\""
            "Connections to the cluster's broker that were lost, by reason.";
        cluster_lost_timeout:
            "counter" "fanfare_cluster_line_reconnects_total" "why=\"timeout\""
            "Connections to the cluster's broker that were lost, by reason.";
        cluster_lost_slow:
            "counter" "fanfare_cluster_line_reconnects_total" "why=\"slow\""
            "Connections to the cluster's broker that were lost, by reason.";
        cluster_lost_lame_duck:
            "counter" "fanfare_cluster_line_reconnects_total" "why=\"lame_duck\""
            "Connections to the cluster's broker that were lost, by reason.";
        cluster_lost_asked:
            "counter" "fanfare_cluster_line_reconnects_total" "why=\"asked\""
            "Connections to the cluster's broker that were lost, by reason.";
    }
    histograms {
        turn_duration: Durations SECONDS "fanfare_turn_duration_seconds"
            "How long a worker's turns took.";
        publish_to_drain: Durations SECONDS "fanfare_publish_to_drain_seconds"
            "From accepting a publication until a worker has offered it to all its subscribers.";
        frames_per_drain: Frames ONE "fanfare_frames_per_drain"
            "Frames that a subscriber got in one send.";
    }
}

/// The counts of all threads.
#[derive(Debug, Default)]
pub struct Metrics {
    threads: Vec<Arc<Counters>>,
    /// Whether the counts of a cluster are rendered.
    has_cluster: bool,
}

impl Metrics {
    /// Creates a set for each of `threads` threads.
    pub fn new(threads: usize) -> Self {
        Self { threads: (0..threads).map(|_| Arc::default()).collect(), has_cluster: false }
    }

    /// Sets whether the node belongs to a cluster. If not, the counts of one are not rendered.
    pub fn clustered(self, has_cluster: bool) -> Self {
        Self { has_cluster, ..self }
    }

    /// Returns a thread's own set.
    pub fn thread(&self, index: usize) -> Arc<Counters> {
        self.threads[index].clone()
    }

    /// Returns the sum of one count over all threads.
    pub fn sum(&self, count: impl Fn(&Counters) -> &Counter) -> u64 {
        // Threads count ups and downs apart, so that one thread's count may have wrapped below 0.
        self.threads.iter().fold(0, |sum, thread| sum.wrapping_add(count(thread).get()))
    }

    /// Writes the sums over all threads in the Prometheus text format.
    pub fn render(&self, text: &mut Text) {
        let none = Counters::default();
        let (mut counts, mut histograms) = (none.counts(), none.histograms());
        for thread in &self.threads {
            for (sum, one) in counts.iter_mut().zip(thread.counts()) {
                sum.value = sum.value.wrapping_add(one.value);
            }
            for (sum, one) in histograms.iter_mut().zip(thread.histograms()) {
                sum.3.add(&one.3);
            }
        }
        let is_shown = |count: &Count| self.has_cluster || !count.name.starts_with(OF_A_CLUSTER);
        for Count { kind, name, labels, help, value } in counts.into_iter().filter(is_shown) {
            text.family(kind, name, help);
            text.sample(labels, value);
        }
        text.gauge("fanfare_deliveries_queued", "Deliveries in outboxes.", self.queued());
        for (name, help, unit, reading) in histograms {
            text.histogram(name, help, unit, &reading);
        }
    }

    /// Returns the deliveries that are in an outbox: matched, and neither delivered, dropped nor
    /// conflated. Threads count while they are read, so a negative difference becomes 0.
    fn queued(&self) -> u64 {
        let settled = self.sum(|one| &one.delivered)
            + self.sum(|one| &one.dropped_slow_consumer)
            + self.sum(|one| &one.dropped_memory)
            + self.sum(|one| &one.dropped_closed)
            + self.sum(|one| &one.dropped_oldest)
            + self.sum(|one| &one.dropped_replay)
            + self.sum(|one| &one.conflated);
        self.sum(|one| &one.matched).saturating_sub(settled)
    }
}

impl Counters {
    /// Counts a payload by whether it is a slice of what was received, and returns it.
    pub fn payload<T>(&self, (payload, is_slice): (T, bool)) -> T {
        let counter = if is_slice { &self.payloads_shared } else { &self.payloads_copied };
        counter.add(1);
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(metrics: &Metrics) -> String {
        let mut text = Text::default();
        metrics.render(&mut text);
        text.into_string()
    }

    #[test]
    fn threads_add_up() {
        let metrics = Metrics::new(2);
        metrics.thread(0).websockets.add(5);
        metrics.thread(1).websockets.sub(2);
        metrics.thread(1).frames_per_drain.record(3);
        let text = rendered(&metrics);
        assert!(text.contains("{api=\"insforge\",transport=\"websocket\"} 3\n"), "{text}");
        assert!(text.contains("fanfare_frames_per_drain_bucket{le=\"4\"} 1\n"), "{text}");
        assert_eq!(text.matches("# TYPE fanfare_connections gauge").count(), 1);
    }

    #[test]
    fn what_is_neither_delivered_nor_dropped_is_queued() {
        let metrics = Metrics::new(2);
        metrics.thread(0).matched.add(7);
        metrics.thread(1).delivered.add(4);
        metrics.thread(1).dropped_closed.add(1);
        assert!(rendered(&metrics).contains("fanfare_deliveries_queued 2\n"));
    }

    #[test]
    fn a_family_is_in_one_piece() {
        assert!(!rendered(&Metrics::new(1)).contains(OF_A_CLUSTER));
        let text = rendered(&Metrics::new(1).clustered(true));
        assert!(text.contains(OF_A_CLUSTER));
        let headings: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let families: std::collections::BTreeSet<_> = headings.iter().collect();
        assert_eq!(headings.len(), families.len());
    }
}
