//! Arguments that are valid each by itself, but not together.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::path::Path;

use super::{
    DocumentsArguments, OutputArguments, SaturateArguments, Scenario, SlowArguments, SoakArguments,
    WebSocketArguments,
};
use crate::target::Target;

/// The least number of intervals of a soak: growth is that from the first quarter to the last.
const INTERVALS_MIN: u32 = 4;

impl Scenario {
    /// Checks what clap cannot check by itself, so that a run that cannot succeed does not begin.
    /// The error says what to change.
    pub(crate) fn ensure_sound(&self) -> Result<(), String> {
        match self {
            Self::Slow(arguments) => arguments.ensure_sound()?,
            Self::Saturate(arguments) => arguments.ensure_sound()?,
            Self::Soak(arguments) => arguments.ensure_sound()?,
            Self::Websocket(arguments) => arguments.ensure_sound()?,
            Self::Documents(arguments) => arguments.ensure_sound()?,
            _ => {}
        }
        self.ensure_nodes()?;
        self.output().map_or(Ok(()), OutputArguments::ensure_writable)
    }

    /// Checks the number of nodes: most scenarios measure one.
    fn ensure_nodes(&self) -> Result<(), String> {
        let (urls, clients, pid, cpu) = match self {
            Self::Fanout(it) => {
                let fewest = it.crowd.subscribers.min(it.streams.unwrap_or(usize::MAX));
                (&it.server.urls, fewest, it.server_pid, it.place.server_cpu)
            }
            Self::ManyChannels(it) => {
                let clients = it.load.channels * it.load.subscribers;
                let node = &it.subscribed.node;
                (&node.urls, clients, node.server_pid, it.place.server_cpu)
            }
            Self::Churn(it) => {
                let node = &it.subscribed.node;
                (&node.urls, usize::MAX, node.server_pid, it.place.server_cpu)
            }
            // It measures the growth of the first.
            Self::Soak(it) => (&it.subscribed.node.urls, it.size.subscribers, None, None),
            Self::Compare(it) => return ensure_one("compare", &it.server.urls),
            Self::Idle(it) => return ensure_one("idle", &it.server.urls),
            Self::Publish(it) => return ensure_one("publish", &it.node.urls),
            Self::Slow(it) => return ensure_one("slow", &it.subscribed.node.urls),
            Self::Saturate(it) => return ensure_one("saturate", &it.subscribed.node.urls),
            Self::ReconnectStorm(it) => {
                return ensure_one("reconnect-storm", &it.subscribed.node.urls);
            }
            _ => return Ok(()),
        };
        let mut seen = HashSet::new();
        ensure(urls.iter().all(|url| seen.insert(url.address)), || {
            "two --url name the same address".to_owned()
        })?;
        ensure(urls.len() <= clients, || {
            format!("{clients} clients cannot be spread over {} nodes (--url)", urls.len())
        })?;
        ensure(urls.len() == 1 || (pid.is_none() && cpu.is_none()), || {
            "with several --url no process is measured: leave out --server-pid and --server-cpu"
                .to_owned()
        })
    }

    fn output(&self) -> Option<&OutputArguments> {
        Some(match self {
            Self::Fanout(arguments) => &arguments.output,
            Self::Floor(arguments) => &arguments.output,
            Self::Compare(arguments) => &arguments.output,
            Self::Idle(arguments) => &arguments.output,
            Self::Documents(arguments) => &arguments.output,
            Self::Publish(arguments) => &arguments.output,
            Self::FloorPublish(arguments) => &arguments.output,
            Self::ManyChannels(arguments) => &arguments.output,
            Self::FloorChannels(arguments) => &arguments.output,
            Self::Slow(arguments) => &arguments.output,
            Self::Churn(arguments) => &arguments.output,
            Self::FloorJoin(arguments) => &arguments.output,
            Self::ReconnectStorm(arguments) => &arguments.output,
            Self::Websocket(arguments) => &arguments.output,
            Self::Saturate(arguments) => &arguments.output,
            Self::Soak(arguments) => &arguments.output,
            Self::Diff(_) | Self::Clients | Self::FloorServer => return None,
        })
    }
}

impl SlowArguments {
    fn ensure_sound(&self) -> Result<(), String> {
        let (clients, slow) = (self.clients, self.slow);
        ensure(slow < clients, || {
            format!(
                "of {clients} clients (-n), {slow} do not read (--slow), so that nobody reads: \
                 --slow must be less than -n"
            )
        })
    }
}

impl SaturateArguments {
    fn ensure_sound(&self) -> Result<(), String> {
        let Self { from, most, .. } = self;
        ensure(self.post.rate.is_none(), || {
            "saturate chooses the rate itself: give --from and --most instead of --rate".to_owned()
        })?;
        ensure(from <= most, || {
            format!("the first rate (--from {from}) is above the highest (--most {most})")
        })
    }
}

impl SoakArguments {
    fn ensure_sound(&self) -> Result<(), String> {
        let (seconds, interval) = (self.seconds(), self.interval());
        ensure(interval * INTERVALS_MIN <= seconds, || {
            format!(
                "growth takes {INTERVALS_MIN} intervals, but {} s (--seconds) are fewer than \
                 {INTERVALS_MIN} times {} s (--interval)",
                seconds.as_secs_f64(),
                interval.as_secs_f64()
            )
        })
    }
}

impl WebSocketArguments {
    fn ensure_sound(&self) -> Result<(), String> {
        ensure(self.publish_url.is_some() || self.post.rate.is_some(), || {
            "publications over a WebSocket are not answered, so they need a pace: give --rate"
                .to_owned()
        })?;
        ensure(self.publish_template.contains("{payload}"), || {
            "--publish-template lacks {payload}".to_owned()
        })?;
        let headers = self.headers.iter().chain(&self.publish_headers);
        let wrong = headers.into_iter().find(|it| !it.contains(':') || it.contains(['\r', '\n']));
        wrong.map_or(Ok(()), |_| Err("a header must be one line of NAME: VALUE".to_owned()))
    }
}

impl DocumentsArguments {
    fn ensure_sound(&self) -> Result<(), String> {
        let (clients, slow) = (self.watchers.clients, self.watchers.slow);
        ensure(slow <= clients, || {
            format!("{slow} slow clients (--slow) are more than all {clients} clients (--clients)")
        })
    }
}

impl OutputArguments {
    /// Ensures that the results can be written: it would be too late to learn that after the run.
    fn ensure_writable(&self) -> Result<(), String> {
        let files = [("--save", &self.save), ("--report", &self.report)];
        for (option, path) in files {
            path.as_deref().map_or(Ok(()), |path| ensure_writable(option, path))?;
        }
        ensure(self.save.is_none() || self.save != self.report, || {
            "--save and --report name the same file".to_owned()
        })
    }
}

fn ensure_one(scenario: &str, urls: &[Target]) -> Result<(), String> {
    ensure(urls.len() == 1, || {
        format!(
            "{scenario} measures one node, so that --url is given once: fanout, many-channels, soak \
             and churn take several"
        )
    })
}

fn ensure_writable(option: &str, path: &Path) -> Result<(), String> {
    let found = fs::metadata(path);
    // Opening a pipe may wait for its reader.
    if found.as_ref().is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Ok(());
    }
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(|error| format!("{option}: {} cannot be written: {error}", path.display()))?;
    if found.is_err() {
        // It is written after the run; a run that fails leaves no empty file.
        let _ = fs::remove_file(path);
    }
    Ok(())
}

fn ensure(is_sound: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if is_sound { Ok(()) } else { Err(why()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::args::Arguments;

    const TWO: &str = "--url http://127.0.0.1:1 --url http://127.0.0.1:2";

    fn sound(command: &str) -> Result<(), String> {
        let words = command.split_ascii_whitespace();
        let arguments = Arguments::try_parse_from(["loadtest"].into_iter().chain(words));
        arguments.map_err(|error| error.to_string())?.scenario.ensure_sound()
    }

    #[test]
    fn arguments_that_do_not_fit_together_are_refused() {
        let template = "--publish-template {payload}";
        for (command, part) in [
            ("slow --api-key k -n 5 --slow 5".to_owned(), "nobody reads"),
            ("slow --api-key k -n 5 --slow 6".to_owned(), "nobody reads"),
            ("saturate --api-key k --from 100 --most 50".to_owned(), "above the highest"),
            ("saturate --api-key k --rate 5".to_owned(), "chooses the rate"),
            ("soak --api-key k --seconds 10 --interval 10".to_owned(), "4 intervals"),
            ("soak --api-key k --seconds 0.39".to_owned(), "4 intervals"),
            ("documents --m2-writer k --clients 3 --slow 4".to_owned(), "slow clients"),
            (format!("websocket --url ws://127.0.0.1:1/ {template}"), "give --rate"),
            (format!("websocket --url ws://127.0.0.1:1/ {template} --rate 1 --header x"), "NAME"),
            (
                "websocket --url ws://127.0.0.1:1/ --publish-template x --rate 1".to_owned(),
                "lacks {payload}",
            ),
            (format!("publish --api-key k {TWO}"), "measures one node"),
            (format!("idle --api-key k {TWO}"), "measures one node"),
            (format!("compare --api-key k {TWO}"), "measures one node"),
            (format!("slow --api-key k {TWO}"), "measures one node"),
            (format!("saturate --api-key k {TWO}"), "measures one node"),
            (format!("reconnect-storm --api-key k {TWO}"), "measures one node"),
            (format!("documents --m2-writer k {TWO}"), "cannot be used multiple times"),
            (format!("fanout --api-key k {TWO} -n 1"), "cannot be spread over 2 nodes"),
            (format!("fanout --api-key k {TWO} --token t --streams 1"), "cannot be spread"),
            (format!("soak --api-key k {TWO} -n 1"), "cannot be spread over 2 nodes"),
            (format!("many-channels --api-key k {TWO} --server-pid 1"), "no process"),
            (format!("churn --api-key k {TWO} --server-cpu 0"), "no process"),
            (format!("fanout --api-key k {TWO} --url http://localhost:1"), "same address"),
            ("publish --api-key k --save /nowhere/a.json".to_owned(), "cannot be written"),
            ("floor --report /".to_owned(), "cannot be written"),
            ("floor --save /tmp/one --report /tmp/one".to_owned(), "same file"),
        ] {
            let wrong = sound(&command).expect_err(&command);
            assert!(wrong.contains(part), "{command}: {wrong}");
        }
    }

    #[test]
    fn arguments_that_fit_together_are_taken() {
        for command in [
            "slow --api-key k -n 5 --slow 4",
            "saturate --api-key k --from 50 --most 50",
            "soak --api-key k",
            "soak --api-key k --seconds 8 --interval 2",
            "documents --m2-writer k --clients 3 --slow 3",
            "websocket --url ws://127.0.0.1:1/ --publish-template {payload} --rate 1 --header a:b",
            "websocket --url ws://127.0.0.1:1/ --publish-template {payload} --publish-url \
             http://127.0.0.1:1/",
            "floor --save /dev/null",
            &format!("fanout --api-key k {TWO} -n 2"),
            &format!("many-channels --api-key k {TWO} --channels 1"),
            &format!("churn --api-key k {TWO}"),
            &format!("soak --api-key k {TWO} --server-pid 1 --server-cpu 0"),
        ] {
            assert_eq!(sound(command), Ok(()), "{command}");
        }
        let unused = std::env::temp_dir().join(format!("loadtest-unused-{}", std::process::id()));
        assert_eq!(sound(&format!("floor --save {}", unused.display())), Ok(()));
        assert!(!unused.exists(), "nothing is written before the run");
    }

    #[test]
    fn a_soak_has_ten_intervals_or_those_of_ten_seconds() {
        for (extra, interval_ms) in [
            ("", 1_000),
            ("--seconds 600", 10_000),
            ("--seconds 0.4", 100),
            ("--seconds 8 --interval 2", 2_000),
        ] {
            let command = format!("loadtest soak --api-key k {extra}");
            let arguments = Arguments::try_parse_from(command.split_ascii_whitespace()).unwrap();
            let Scenario::Soak(soak) = arguments.scenario else { panic!("soak was asked for") };
            assert_eq!(soak.interval(), Duration::from_millis(interval_ms), "{extra}");
        }
    }
}
