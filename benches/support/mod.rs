//! Parts that the benches share: measurements, their duration, and the publication.
#![allow(dead_code, reason = "each bench uses its own part of this")]

use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use fanfare::broker::publish::message_id;
use fanfare::message::{
    Channel, ChannelDefinition, ChannelOptions, Content, Document, DocumentKey, Publication, Sender,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, Timespec, clock_gettime};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

pub(crate) mod audience;
pub(crate) mod broker;
pub(crate) mod packets;

pub(crate) const CHANNEL: &str = "order:123";
pub(crate) const EVENT: &str = "UPDATE";
/// A backend's message about one row. With the interface's envelope, it makes a frame of about 200
/// bytes.
pub(crate) const PAYLOAD: &str = r#"{"orderId":"123","status":"shipped"}"#;
/// 2026-04-25, in milliseconds since the epoch.
pub(crate) const AT: u64 = 1_777_136_400_123;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Measures steps that one thread does alone by its CPU time. Other work on the machine interrupts
/// the thread now and then, which CPU time does not show.
pub(crate) fn by_cpu_time() -> Criterion<CpuTime> {
    configured(Criterion::default().with_measurement(CpuTime))
}

/// Measures by wall-clock time, for steps of several threads or processes, in which waiting counts.
pub(crate) fn by_wall_clock() -> Criterion {
    configured(Criterion::default())
}

/// Each figure takes five seconds, so that all of them together take a few minutes. Fifty samples
/// instead of a hundred are longer, so that other work on the machine disturbs them less.
fn configured<M: Measurement + 'static>(criterion: Criterion<M>) -> Criterion<M> {
    criterion
        .without_plots()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .sample_size(50)
        .nresamples(10_000)
        .configure_from_args()
}

/// Returns the CPU time that this thread has used so far, including the kernel's work for it.
pub(crate) fn cpu_time() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(tv_sec).expect("time that was used is not negative");
    let nanoseconds = u64::try_from(tv_nsec).expect("a fraction of a second is not negative");
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

/// [`cpu_time`] as a measurement of criterion.
pub(crate) struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        cpu_time()
    }

    fn end(&self, start: Duration) -> Duration {
        cpu_time() - start
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// Returns a message of a backend.
pub(crate) fn content() -> Content {
    Content::Message { event: EVENT.into(), payload: PAYLOAD.into(), sender: Sender::System }
}

/// Returns the definition of a channel whose publications are not stored.
pub(crate) fn ephemeral() -> Arc<ChannelDefinition> {
    Arc::new(ChannelDefinition {
        id: message_id(AT, &mut rand::rng()),
        pattern: CHANNEL.into(),
        description: None,
        webhook_urls: None,
        enabled: true,
        options: ChannelOptions { ephemeral: true, ..ChannelOptions::default() },
        created_at: AT,
        updated_at: AT,
    })
}

/// Returns that message as a publication on [`CHANNEL`], without frames.
pub(crate) fn publication() -> Publication {
    Publication::new(message_id(AT, &mut rand::rng()), Channel::from(CHANNEL), AT, content())
}

/// Returns a client's text frame.
pub(crate) fn masked(text: &str) -> Vec<u8> {
    let (opcode, mask) = (OpCode::Data(Data::Text), Some(MASK));
    let header = FrameHeader { opcode, mask, ..FrameHeader::default() };
    let mut frame = Vec::new();
    header.format(text.len() as u64, &mut frame).expect("a vector takes every byte");
    frame.extend(text.bytes().zip(MASK.into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Returns the length of the server's frame around a text.
pub(crate) fn server_frame_bytes(text: &str) -> usize {
    FrameHeader::default().len(text.len() as u64) + text.len()
}

/// Raises the limit of descriptors to the maximum, for benches with thousands of sockets.
pub(crate) fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("within the maximum");
}

/// Returns an M2 document with the same payload.
pub(crate) fn document() -> Document {
    let resource = Channel::resource("bench/bench///kvStore/World:store:key");
    let key = DocumentKey { resource, audience: None };
    Document { key, user_id: Some("user-1".into()), data: Some(PAYLOAD.into()), version: AT }
}
