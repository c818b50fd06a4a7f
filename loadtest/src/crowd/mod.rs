//! Many subscribers on few threads, and in as many processes as the limit of descriptors requires.

mod process;
mod pulse;
mod thread;

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

pub(crate) use self::process::serve;
use self::pulse::Dismissal;
pub(crate) use self::pulse::Pulse;
use self::thread::Loop;
use crate::api::Script;
use crate::heard::Heard;
use crate::tally::Tally;
use crate::target::Target;

/// Connections that may be under way at once, over all threads. It is below the backlog of any
/// server.
pub(crate) const UNDERWAY_MAX: usize = 128;

/// Parameters of the subscribers.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Crowd {
    /// What the clients of the whole crowd do, in the order of their numbers.
    pub(crate) groups: Vec<Group>,
    /// Number of clients in all processes together.
    pub(crate) size: usize,
    /// Number of the first client. A client's number determines its source address.
    pub(crate) first: usize,
    /// Number of clients that one process may hold.
    pub(crate) size_per_process: usize,
    /// Number of threads that the clients of a process are spread over.
    pub(crate) threads: usize,
    /// New connections per second; `None` for as fast as the server accepts them.
    pub(crate) connect_rate: Option<f64>,
    /// Connections that may be under way at once.
    pub(crate) underway_max: usize,
    /// Pause between two looks at the sockets. It saves time of a shared processor, but adds to the
    /// measured latency.
    pub(crate) lazy: Duration,
}

/// Clients that follow the same script.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) target: Target,
    pub(crate) script: Script,
    /// Number of clients in all processes together.
    pub(crate) size: usize,
    /// Number of channels that the clients take in turn; `None` if the script names the channel.
    pub(crate) channels: Option<u32>,
    /// Whether the clients read what they receive once they are ready.
    pub(crate) reads: bool,
}

impl Group {
    /// Returns clients that all do the same.
    pub(crate) fn alike(target: &Target, script: Script, size: usize) -> Self {
        Self { target: target.clone(), script, size, channels: None, reads: true }
    }

    /// Returns clients that all do the same, spread evenly over several nodes: a group for each.
    pub(crate) fn spread(
        targets: &[Target],
        size: usize,
        script: impl Fn(&Target) -> Result<Script>,
    ) -> Result<Vec<Self>> {
        let count = targets.len();
        let share = |at: usize| (size + count - 1 - at) / count;
        let group = |(at, target)| Ok(Self::alike(target, script(target)?, share(at)));
        targets.iter().enumerate().map(group).collect()
    }

    /// Returns the number of the channel of a client; `None` if the script names it.
    fn channel_of(&self, number: usize) -> Option<u32> {
        let channels = self.channels?;
        Some(u32::try_from(number % channels as usize).expect("it is below a number of 32 bits"))
    }
}

/// The results of one group of clients.
pub(crate) struct Gathered {
    pub(crate) heard: Heard,
    /// One tally per client.
    pub(crate) tallies: Vec<Tally>,
}

impl Gathered {
    fn new() -> Self {
        Self { heard: Heard::new(), tallies: Vec::new() }
    }

    /// Adds the results of another thread.
    fn add(&mut self, other: Self) -> Result<()> {
        self.tallies.extend(other.tallies);
        self.heard.add(other.heard)
    }
}

impl Crowd {
    /// Connects all clients, runs `conduct` meanwhile, and ends the clients when it returns. Returns
    /// the results of each group.
    pub(crate) fn gather<T>(
        &self,
        pulse: &Pulse,
        conduct: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Vec<Gathered>)> {
        pulse.measure_from(u64::MAX);
        if self.size > self.size_per_process {
            return process::gather(&self.shares(), pulse, conduct);
        }
        std::thread::scope(|scope| {
            let loops: Vec<_> = (0..self.threads)
                .map(|number| {
                    let builder = std::thread::Builder::new().name(format!("clients-{number}"));
                    builder.spawn_scoped(scope, move || Loop::new(self, pulse, number)?.run())
                })
                .collect::<Result<_, _>>()?;
            let conducted = {
                let _dismissal = Dismissal(pulse);
                conduct()
            };
            let mut all = self.nothing_gathered();
            for handle in loops {
                let one = handle.join().expect("a client thread returns its errors")?;
                all.iter_mut().zip(one).try_for_each(|(all, one)| all.add(one))?;
            }
            Ok((conducted?, all))
        })
    }

    /// Returns empty results for each group.
    fn nothing_gathered(&self) -> Vec<Gathered> {
        self.groups.iter().map(|_| Gathered::new()).collect()
    }

    /// Returns the index of the group of this client.
    fn group_of(&self, number: usize) -> usize {
        let mut end = 0;
        let of_client = |group: &Group| {
            end += group.size;
            number < end
        };
        self.groups
            .iter()
            .position(of_client)
            .expect("the sizes of the groups add up to that of all")
    }

    /// Splits the crowd into parts of nearly equal size, each small enough for one process.
    fn shares(&self) -> Vec<Self> {
        let count = self.size.div_ceil(self.size_per_process);
        let mut first = self.first;
        let share = |number| {
            let size = (self.size + count - 1 - number) / count;
            first += size;
            Self {
                size,
                first: first - size,
                threads: self.threads.min(size),
                connect_rate: self.connect_rate.map(|rate| rate / count as f64),
                underway_max: (self.underway_max / count).max(1),
                ..self.clone()
            }
        };
        (0..count).map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread;
    use std::time::Instant;

    use super::*;
    use crate::api::{Access, Api};
    use crate::progress::Progress;

    const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n\
                          event: realtime:subscribed\ndata: {}\n\n";

    /// Answers streams with one publication if they ask for channel `a`, and with two otherwise.
    /// Keeps the connections until all clients have closed theirs.
    fn serve_streams(listener: &TcpListener, clients: usize) {
        let accepted: Vec<_> = (0..clients)
            .map(|_| {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                let mut request = String::new();
                while !request.ends_with("\r\n\r\n") {
                    stream.read_line(&mut request).unwrap();
                }
                let publications = if request.contains("channel=a ") { 1 } else { 2 };
                stream.get_mut().write_all(STREAM.as_bytes()).unwrap();
                for sequence in 0..publications {
                    let block = format!("data: {{\"t\":\"@{sequence:010}:{:019}\"}}\n\n", 0);
                    stream.get_mut().write_all(block.as_bytes()).unwrap();
                }
                stream
            })
            .collect();
        for mut stream in accepted {
            assert_eq!(stream.read_line(&mut String::new()).unwrap(), 0);
        }
    }

    #[test]
    fn each_group_has_results_of_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target: Target = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let access = Access::anonymous(Api::Events);
        let script = |channel| access.script(&target, Some(channel)).unwrap();
        let crowd = Crowd {
            groups: [("a", 2), ("b", 3)]
                .map(|(it, size)| Group::alike(&target, script(it), size))
                .into(),
            size: 5,
            first: 0,
            size_per_process: 5,
            threads: 2,
            connect_rate: None,
            underway_max: UNDERWAY_MAX,
            lazy: Duration::ZERO,
        };
        let pulse = Pulse::default();
        let conduct = || {
            pulse.wait_until_ready(5, &mut Progress::new())?;
            let start = Instant::now();
            while pulse.received() < 8 && start.elapsed() < Duration::from_secs(20) {
                thread::sleep(Duration::from_millis(5));
            }
            Ok(pulse.received())
        };
        let (received, groups) = thread::scope(|scope| {
            scope.spawn(|| serve_streams(&listener, 5));
            crowd.gather(&pulse, conduct).unwrap()
        });
        assert_eq!(received, 8);
        let results = groups.iter().map(|group| (group.tallies.len(), group.heard.received));
        assert_eq!(results.collect::<Vec<_>>(), [(2, 2), (3, 6)]);
    }

    #[test]
    fn shares_are_even_and_number_everybody_once() {
        let target: Target = "http://127.0.0.1:7130".parse().unwrap();
        let script = Access::anonymous(Api::InsForge).script(&target, None).unwrap();
        let crowd = Crowd {
            groups: [20, 30].map(|size| Group::alike(&target, script.clone(), size)).into(),
            size: 50,
            first: 0,
            size_per_process: 20,
            threads: 17,
            connect_rate: Some(30.0),
            underway_max: UNDERWAY_MAX,
            lazy: Duration::ZERO,
        };
        let shares = crowd.shares();
        let places: Vec<_> = shares.iter().map(|share| (share.first, share.size)).collect();
        assert_eq!(places, [(0, 17), (17, 17), (34, 16)]);
        assert_eq!((shares[2].threads, shares[2].connect_rate), (16, Some(10.0)));
        assert!(shares.iter().map(|share| share.underway_max).sum::<usize>() <= UNDERWAY_MAX);
        let groups = [0, 19, 20, 49].map(|number| shares[1].group_of(number));
        assert_eq!(groups, [0, 0, 1, 1], "a client's group is the same in each share");
    }
}
