//! `websocket`: a fan-out at any server that speaks WebSocket, whose messages are given as templates.

use std::slice::from_ref;

use anyhow::{Context, Result, ensure};

use crate::api::{Api, Plain, Script, payload};
use crate::args::WebSocketArguments;
use crate::crowd::Group;
use crate::ending::Ending;
use crate::handshake::Handshake;
use crate::http;
use crate::machine::Versions;
use crate::report::{Frame, PublishReport};
use crate::scenario::field::{Field, Source, crowd};
use crate::scenario::placed_process;
use crate::scenario::publish::{finish, publications};
use crate::shouting::Shouting;

/// Stands for the payload in the template of a publication.
const PAYLOAD: &str = "{payload}";
/// Stands for the channel in templates.
const CHANNEL: &str = "{channel}";

/// Clients per process; more start more processes.
const CLIENTS_PER_PROCESS: usize = 19_000;

/// Measures a server, prints the report and returns what is to be said of it.
pub(crate) fn run(arguments: &WebSocketArguments) -> Result<Ending> {
    let WebSocketArguments { url, subscribers, .. } = arguments;
    let post = &arguments.post.in_order();
    let pid = placed_process(arguments.server_pid, from_ref(&url.target), &arguments.place)?;
    let frame = Frame::now(arguments.settings(), Versions::of_node(&url.target));
    let script = script(arguments)?;
    let (before, after) = publication(arguments)?;
    let source = match &arguments.publish_url {
        None => Source::Socket(Box::new(Shouting {
            target: url.target.clone(),
            script: script.clone(),
            template: payload(&before, post.payload_bytes, "", &after)?,
            rate: post
                .rate
                .context("publications over a WebSocket are not answered: give --rate")?,
        })),
        Some(to) => {
            let text = payload(&before, post.payload_bytes, "", &after)?;
            let headers = arguments.publish_headers.join("\r\n");
            let call = format!(
                "{} {}",
                arguments.publish_method,
                to.path.replace(CHANNEL, &arguments.channel)
            );
            let accept = if headers.is_empty() { "Accept: */*" } else { &headers };
            let head = http::head(&to.target, &call, accept, text.text().len());
            let before = format!("{head}{before}");
            Source::Http(&to.target, vec![payload(&before, post.payload_bytes, "", &after)?])
        }
    };
    let field = Field {
        scenario: "websocket",
        crowd: crowd(vec![Group::alike(&url.target, script, *subscribers)], CLIENTS_PER_PROCESS),
        source,
        post,
        pid,
        readers: *subscribers,
        nodes: &[],
        observe: None,
    };
    let harvest = field.harvest()?;
    let report = PublishReport {
        scenario: "websocket",
        asked: post.asked(),
        publications: publications(&harvest.posted),
        subscribers: Some(harvest.subscribers(1)?),
        answers: harvest.posted.latency,
        work: harvest.work,
    };
    finish(&report, frame, post, &arguments.output)
}

/// Returns the script of the clients.
fn script(arguments: &WebSocketArguments) -> Result<Script> {
    let WebSocketArguments { url, channel, .. } = arguments;
    let headers = arguments.headers.iter().map(|header| {
        let (name, value) = header.split_once(':').context("a header is NAME: VALUE")?;
        ensure!(!header.contains(['\r', '\n']), "a header has one line");
        anyhow::Ok((name.trim(), value.trim()))
    });
    let headers = headers.collect::<Result<Vec<_>>>()?;
    let path = url.path.replace(CHANNEL, channel);
    let subprotocol = arguments.subprotocol.as_deref();
    let opening = arguments.subscribe_template.iter();
    Ok(Script {
        api: Api::InsForge,
        handshake: Handshake::upgrade(&url.target, &path, subprotocol, &headers),
        opening: None,
        steps: Vec::new(),
        plain: Some(Plain {
            opening: opening.map(|template| template.replace(CHANNEL, channel)).collect(),
            ready_when: arguments.ready_when.clone(),
        }),
    })
}

/// Returns the text of a publication before and behind its payload.
fn publication(arguments: &WebSocketArguments) -> Result<(String, String)> {
    let text = arguments.publish_template.replace(CHANNEL, &arguments.channel);
    let (before, after) = text.split_once(PAYLOAD).context("--publish-template lacks {payload}")?;
    Ok((before.to_owned(), after.to_owned()))
}
