//! `many-channels` and `floor-channels`: many channels with two subscribers each.

use anyhow::Result;

use crate::api::insforge::Definition;
use crate::api::{Access, Api};
use crate::args::{ChannelsArguments, ChannelsLoad, FloorChannelsArguments};
use crate::client::NUMBER;
use crate::crowd::Group;
use crate::ending::Ending;
use crate::floor::{Job, channel_name};
use crate::machine::Versions;
use crate::publisher::Schedule;
use crate::report::{Frame, PublishReport};
use crate::scenario::field::{Field, Source, crowd};
use crate::scenario::floor::KEY;
use crate::scenario::publish::{finish, publications};
use crate::scenario::{floor_version, placed_floor, placed_process};
use crate::target::Target;

/// Measures a node, prints the report and returns what is to be said of it.
pub(crate) fn run(arguments: &ChannelsArguments) -> Result<Ending> {
    let ChannelsArguments { subscribed, load, .. } = arguments;
    let node = &subscribed.node;
    let pid = placed_process(node.server_pid, &node.url, &arguments.place)?;
    let mut settings = load.settings();
    subscribed.put_into(&mut settings);
    arguments.place.put_into(&mut settings);
    let frame = Frame::now(settings, Versions::of_node(&node.url));
    let options = subscribed.options();
    let pattern = format!("{}:*", node.channel);
    let _definition = Definition::make(&node.url, &pattern, &node.api_key, &options)?;
    let access = subscribed.access();
    let channels = Channels {
        scenario: "many-channels",
        clients: &node.url,
        publishers: &node.url,
        node: Some(&node.url),
        pid,
        prefix: &node.channel,
        access,
        load,
    };
    finish(&channels.measure()?, frame, &load.post, &arguments.output)
}

/// Measures the floor, prints the report and returns what is to be said of it.
pub(crate) fn run_floor(arguments: &FloorChannelsArguments) -> Result<Ending> {
    let load = &arguments.load;
    let floor = placed_floor(Job::Channels(load.post.schedule()), &arguments.place)?;
    let mut settings = load.settings();
    arguments.place.put_into(&mut settings);
    let frame = Frame::now(settings, floor_version());
    let channels = Channels {
        scenario: "floor-channels",
        clients: &floor.target,
        publishers: &floor.publishing,
        node: None,
        pid: Some(floor.pid()),
        prefix: "load",
        access: Access { publisher: Some(KEY.to_owned()), ..Access::anonymous(Api::InsForge) },
        load,
    };
    finish(&channels.measure()?, frame, &load.post, &arguments.output)
}

/// A server, the names of its channels, and the load.
struct Channels<'a> {
    scenario: &'static str,
    clients: &'a Target,
    publishers: &'a Target,
    /// The node, if this is no floor.
    node: Option<&'a Target>,
    pid: Option<u32>,
    prefix: &'a str,
    access: Access,
    load: &'a ChannelsLoad,
}

impl Channels<'_> {
    fn measure(&self) -> Result<PublishReport> {
        let ChannelsLoad { channels, subscribers, ref post, .. } = *self.load;
        let script =
            self.access.script(self.clients, Some(&format!("{}:{NUMBER}", self.prefix)))?;
        let numbered = Some(u32::try_from(channels)?);
        let group = Group { channels: numbered, ..Group::alike(script, channels * subscribers) };
        let template = |number| {
            let channel = channel_name(self.prefix, number);
            self.access.request(self.publishers, &Schedule { channel, ..post.schedule() })
        };
        let field = Field {
            scenario: self.scenario,
            crowd: crowd(self.clients, vec![group], self.load.connections_per_process),
            source: Source::Http(
                self.publishers,
                (0..channels).map(template).collect::<Result<_>>()?,
            ),
            post,
            pid: self.pid,
            readers: subscribers,
            node: self.node,
            observe: None,
        };
        let harvest = field.harvest()?;
        Ok(PublishReport {
            scenario: self.scenario,
            asked: post.asked(),
            publications: publications(&harvest.posted),
            subscribers: Some(harvest.subscribers(0, channels)?),
            answers: harvest.posted.latency,
            work: harvest.work,
        })
    }
}
