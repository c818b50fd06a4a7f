//! `many-channels` and `floor-channels`: many channels with two subscribers each.

use std::slice::from_ref;

use anyhow::Result;

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
    let pid = placed_process(node.server_pid, &node.urls, &arguments.place)?;
    let mut settings = load.settings();
    subscribed.put_into(&mut settings);
    arguments.place.put_into(&mut settings);
    let frame = Frame::now(settings, Versions::of_node(node.url()));
    let options = subscribed.options();
    let pattern = format!("{}:*", node.channel);
    let _definitions = node.define(&pattern, &options)?;
    let access = subscribed.access();
    let channels = Channels {
        scenario: "many-channels",
        clients: &node.urls,
        publishers: node.url(),
        nodes: &node.urls,
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
        clients: from_ref(&floor.target),
        publishers: &floor.publishing,
        nodes: &[],
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
    clients: &'a [Target],
    publishers: &'a Target,
    /// The nodes, if this is no floor.
    nodes: &'a [Target],
    pid: Option<u32>,
    prefix: &'a str,
    access: Access,
    load: &'a ChannelsLoad,
}

impl Channels<'_> {
    fn measure(&self) -> Result<PublishReport> {
        let ChannelsLoad { channels, subscribers, ref post, .. } = *self.load;
        let channel = format!("{}:{NUMBER}", self.prefix);
        let script = |target: &Target| self.access.script(target, Some(&channel));
        let numbered = Some(u32::try_from(channels)?);
        let mut groups = Group::spread(self.clients, channels * subscribers, script)?;
        groups.iter_mut().for_each(|group| group.channels = numbered);
        let template = |number| {
            let channel = channel_name(self.prefix, number);
            self.access.request(self.publishers, &Schedule { channel, ..post.schedule() })
        };
        let field = Field {
            scenario: self.scenario,
            crowd: crowd(groups, self.load.connections_per_process),
            source: Source::Http(
                self.publishers,
                (0..channels).map(template).collect::<Result<_>>()?,
            ),
            post,
            pid: self.pid,
            readers: subscribers,
            nodes: self.nodes,
            observe: None,
        };
        let harvest = field.harvest()?;
        Ok(PublishReport {
            scenario: self.scenario,
            asked: post.asked(),
            publications: publications(&harvest.posted),
            subscribers: Some(harvest.subscribers(channels)?),
            answers: harvest.posted.latency,
            work: harvest.work,
        })
    }
}
