//! `GET /metrics`: the counters of all threads, and what can be read from queues and the process.

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::shared::Shared;
use crate::codec::http::{Request, Response};
use crate::interface::entrance::METRICS;
use crate::interface::membership::Membership;
use crate::interface::render_gauges;
use crate::interface::rest::{ApiError, Reply};
use crate::mailbox::Depth;
use crate::message::CaptureCondition;
use crate::metrics::{Text, log_lines, quoted};

/// The path of the metrics.
pub(super) const PATH: &str = METRICS;

/// Returns the response to a scrape, in the Prometheus text format.
pub(super) fn answer(hub: &Shared, request: &Request) -> Response {
    if !matches!(request.method_name(), "GET" | "HEAD") {
        let error = ApiError::method_not_allowed(request.method_name(), PATH, "GET, HEAD");
        return Reply::from(error).into();
    }
    let mut text = Text::default();
    hub.metrics.render(&mut text);
    channels(hub, &mut text);
    if let Some(membership) = &hub.interfaces.membership {
        cluster(membership, &mut text);
    }
    if let Some(capture) = &hub.interfaces.capture {
        let help = "1 if this node publishes the rows of the database, else 0.";
        let captures = *capture.condition() == CaptureCondition::Capturing;
        text.gauge("fanfare_postgres_capturing", help, usize::from(captures));
        let help = "1 if the node cannot publish the rows of the database; its health says why.";
        text.gauge("fanfare_postgres_failing", help, usize::from(capture.trouble().is_some()));
        capture.counts.render(&mut text);
    }
    queues(hub, &mut text);
    node(hub, &mut text);
    process(hub, &mut text);
    Response::with_type(200, "text/plain; version=0.0.4; charset=utf-8", text.into_string())
}

/// Renders the node's part in its cluster.
fn cluster(membership: &Membership, text: &mut Text) {
    let help = "1 if the node serves the channels of its cluster, else 0.";
    let serves = usize::from(membership.condition().is_serving());
    text.gauge("fanfare_cluster_serving", help, serves);
    let vitals = membership.vitals();
    let (flying, bytes) = vitals.in_flight;
    for (name, help, value) in [
        ("nodes", "Nodes that are heard, this one included.", vitals.nodes as u64),
        (
            "epoch",
            "The number of the stream's epoch; it grows if the stream loses something.",
            vitals.epochs.0,
        ),
        ("claims_epoch", "The number of the epoch of the stream of claims.", vitals.epochs.1),
        (
            "lag_messages",
            "Messages of the stream behind the last one that came live here.",
            vitals.lag,
        ),
        ("channels", "Channels that this node hears from the stream.", vitals.attached as u64),
        ("claims", "Claims of all nodes, as far as this one knows.", vitals.claims as u64),
        ("in_flight", "Messages that are sent to NATS and not answered.", flying as u64),
        ("in_flight_bytes", "Bytes of these messages.", bytes as u64),
        ("counting", "Publications whose audience is being counted.", vitals.counting as u64),
    ] {
        text.gauge(&format!("fanfare_cluster_{name}"), help, value);
    }
    let seconds = |millis: u64| millis as f64 / 1e3;
    for (name, help, value) in [
        ("silence_seconds", "Time since this node's own heartbeat came back.", vitals.silence),
        ("ack_seconds", "Time until the latest heartbeat was acknowledged.", vitals.beat.0),
        ("echo_seconds", "Time until the latest heartbeat came back.", vitals.beat.1),
    ] {
        if let Some(value) = value {
            text.gauge(&format!("fanfare_cluster_{name}"), help, seconds(value));
        }
    }
    let help = "What must be added to this node's clock to get that of NATS.";
    text.gauge("fanfare_cluster_clock_offset_seconds", help, vitals.clock_offset as f64 / 1e3);
}

/// Renders the number of channels, and how much they retain for later subscribers.
fn channels(hub: &Shared, text: &mut Text) {
    let directory = &hub.interfaces.broker.directory;
    text.gauge("fanfare_channels", "Channels with subscribers.", directory.channels());
    let help = "Channels without subscribers that still retain publications or limits.";
    text.gauge("fanfare_channels_kept", help, directory.kept());
    render_gauges(&hub.interfaces, text);
    memory(hub, text);
    let help = "Bytes of publications retained for later subscribers.";
    text.gauge("fanfare_replay_bytes", help, directory.budgets().windows.bytes());
    let help = "Retained publications evicted before their time to make room.";
    text.family("counter", "fanfare_replay_evicted_total", help);
    text.sample("", directory.budgets().windows.evicted());
    let help = "Bytes of publications retained for streams that are cut.";
    text.gauge("fanfare_stream_log_bytes", help, directory.budgets().logs.budget.bytes());
    let help = "Publications evicted before their time from what is retained for streams.";
    text.family("counter", "fanfare_stream_log_evicted_total", help);
    text.sample("", directory.budgets().logs.budget.evicted());
    let repeats = &hub.interfaces.broker.repeats;
    let help = "Publications with an id of their publisher's of which a repetition is recognized.";
    text.gauge("fanfare_named_publications", help, repeats.len());
    let help = "Of these, how many were forgotten before their time to make room.";
    text.family("counter", "fanfare_named_publications_evicted_total", help);
    text.sample("", repeats.evicted());
    let help = "Bytes of retained documents of resources with subscribers.";
    text.gauge("fanfare_documents_retained_bytes", help, directory.budgets().values.bytes());
    let help = "Documents not retained for lack of room; each subscribe reads them from the store.";
    text.family("counter", "fanfare_documents_not_retained_total", help);
    text.sample("", directory.budgets().values.evicted());
}

/// Renders how much memory clients make the node hold.
fn memory(hub: &Shared, text: &mut Text) {
    let memory = &hub.interfaces.broker.memory;
    let help = "Bytes held for clients, kernel buffers of full sockets included.";
    text.gauge("fanfare_client_memory_bytes", help, memory.used());
    let help = "Most bytes held for clients so far.";
    text.gauge("fanfare_client_memory_most_bytes", help, memory.used_most());
    let help = "Bytes that may be held for clients (memory.client_bytes).";
    text.gauge("fanfare_client_memory_max_bytes", help, memory.bytes_max());
    let help = "Bytes of received buffers that payloads keep alive as slices of them.";
    text.gauge("fanfare_payload_buffer_bytes", help, memory.buffers.bytes());
    let help = "Requests refused because too little memory was free for them.";
    text.family("counter", "fanfare_client_memory_refusals_total", help);
    text.sample("", memory.refused());
}

/// Renders the depth of each queue between threads, and its highest depth so far.
fn queues(hub: &Shared, text: &mut Text) {
    let depths = hub.interfaces.broker.mailboxes.depths();
    let mut family = |suffix: &str, help: &str, read: fn(&Depth) -> u64| {
        for depth in &depths {
            let name = format!("fanfare_{}_{suffix}", depth.queue);
            let labels = format!("number=\"{}\",slot=\"{}\"", depth.number, depth.slot);
            text.family("gauge", &name, help);
            text.sample(&labels, read(depth));
        }
    };
    let help = "Entries in a queue between threads, reserved places included.";
    family("queue_depth", help, |depth| depth.now);
    family("queue_depth_max", "Highest depth of the queue so far.", |depth| depth.most);
}

/// Renders the node's driver, build, workers and whether it is stopping.
fn node(hub: &Shared, text: &mut Text) {
    let about = &hub.about;
    let driver = format!("driver={},reason={}", quoted(about.driver), quoted(&about.driver_reason));
    text.family(
        "gauge",
        "fanfare_driver_info",
        "The I/O driver in use, and why a better one is not.",
    );
    text.sample(&driver, 1);
    let sends =
        format!("backend={},reason={}", quoted(about.backend), quoted(&about.backend_reason));
    let help = "How workers send to their clients, and why not in batches.";
    text.family("gauge", "fanfare_sends_info", help);
    text.sample(&sends, 1);
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let build = format!(
        "version={},profile={},target={}",
        quoted(env!("CARGO_PKG_VERSION")),
        quoted(profile),
        quoted(std::env::consts::ARCH),
    );
    text.family("gauge", "fanfare_build_info", "What runs here.");
    text.sample(&build, 1);
    let workers = hub.interfaces.broker.mailboxes.workers.len() as u64;
    text.gauge("fanfare_workers", "Worker threads.", workers);
    let stopping = u64::from(hub.notice.is_given());
    text.gauge("fanfare_draining", "Whether the node was told to stop.", stopping);
    let help = "Log lines lost because standard error was full, closed or not read.";
    text.family("counter", "fanfare_log_lines_dropped_total", help);
    text.sample("", log_lines::dropped_lines());
}

/// Renders the metrics that Prometheus expects of every process.
fn process(hub: &Shared, text: &mut Text) {
    let started = hub.about.started as f64 / 1e3;
    let help = "When the node started, in seconds since the epoch.";
    text.gauge("process_start_time_seconds", help, started);
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let used = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
    let help = "Processor time used, in seconds.";
    text.family("counter", "process_cpu_seconds_total", help);
    text.sample("", used);
    if let Some(bytes) = hub.descriptors.resident_bytes() {
        let help = "Memory in use, in bytes.";
        text.gauge("process_resident_memory_bytes", help, bytes);
    }
    if let Some(open) = hub.descriptors.count_open() {
        text.gauge("process_open_fds", "Descriptors that are open.", open);
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        let help = "Descriptors the process may have: each connection is one.";
        text.gauge("process_max_fds", help, most);
    }
}
