//! Processor time and memory of a process, read from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::ops::{Add, Sub};

use anyhow::{Context, Result};

use crate::clock::now_ns;

/// Processor time in microseconds. The kernel counts in ticks, usually of 10 ms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Cpu {
    /// Time in the program.
    pub(crate) user_us: u64,
    /// Time in the kernel on behalf of the program.
    pub(crate) system_us: u64,
    /// Sum of both in nanoseconds, from the scheduler; `None` if the scheduler does not provide it.
    pub(crate) run_ns: Option<u64>,
    /// Time that threads were ready to run but had to wait for a processor, in nanoseconds; `None`
    /// if the scheduler does not provide it.
    pub(crate) wait_ns: Option<u64>,
}

impl Cpu {
    /// Returns the sum of both, from the scheduler if possible.
    pub(crate) fn total_ns(self) -> u64 {
        self.run_ns.unwrap_or((self.user_us + self.system_us) * 1_000)
    }

    /// Returns the name of the file that the total was read from.
    pub(crate) fn source(self) -> &'static str {
        if self.run_ns.is_some() { "schedstat" } else { "stat" }
    }
}

/// The processor time of a thread that has not run yet.
const NOTHING: Cpu = Cpu { user_us: 0, system_us: 0, run_ns: Some(0), wait_ns: Some(0) };

impl Add for Cpu {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            user_us: self.user_us + other.user_us,
            system_us: self.system_us + other.system_us,
            run_ns: self.run_ns.zip(other.run_ns).map(|(one, other)| one + other),
            wait_ns: self.wait_ns.zip(other.wait_ns).map(|(one, other)| one + other),
        }
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        let run_ns = self.run_ns.zip(earlier.run_ns);
        let wait_ns = self.wait_ns.zip(earlier.wait_ns);
        Self {
            user_us: self.user_us.saturating_sub(earlier.user_us),
            system_us: self.system_us.saturating_sub(earlier.system_us),
            run_ns: run_ns.map(|(later, earlier)| later.saturating_sub(earlier)),
            wait_ns: wait_ns.map(|(later, earlier)| later.saturating_sub(earlier)),
        }
    }
}

/// The processor time of a process and of its living threads, up to a moment or within a window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// The whole process. Ticks include threads that have ended. The scheduler's nanoseconds are
    /// known only if no thread has ended in the window.
    pub(crate) process: Cpu,
    /// Name and processor time of each thread, by thread id.
    pub(crate) threads: BTreeMap<u32, (String, Cpu)>,
}

impl Usage {
    /// Reads the processor time of a process up to now.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let mut process = read_stat(&format!("/proc/{pid}/stat"))?.1;
        let mut threads = BTreeMap::new();
        let mut sum = NOTHING;
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|id| id.parse().ok()) else {
                continue;
            };
            // A thread may end after it was listed.
            let Ok((name, mut cpu)) = read_stat(&format!("/proc/{pid}/task/{id}/stat")) else {
                continue;
            };
            (cpu.run_ns, cpu.wait_ns) = read_schedule(&format!("/proc/{pid}/task/{id}/schedstat"));
            sum = sum + cpu;
            threads.insert(id, (name, cpu));
        }
        (process.run_ns, process.wait_ns) = (sum.run_ns, sum.wait_ns);
        Ok(Self { process, threads })
    }

    /// Returns the sum over several processes.
    pub(crate) fn of_all(pids: impl IntoIterator<Item = u32>) -> Result<Self> {
        let mut all = Self { process: NOTHING, threads: BTreeMap::new() };
        for pid in pids {
            let one = Self::of(pid)?;
            all.process = all.process + one.process;
            all.threads.extend(one.threads);
        }
        Ok(all)
    }

    /// Returns the increase since `earlier`; threads without an increase are left out.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let added = |(id, (name, cpu)): (&u32, &(String, Cpu))| {
            let before = earlier.threads.get(id).map_or(NOTHING, |(_, cpu)| *cpu);
            let cpu = *cpu - before;
            (cpu.total_ns() > 0).then(|| (*id, (name.clone(), cpu)))
        };
        let mut process = self.process - earlier.process;
        if earlier.threads.keys().any(|id| !self.threads.contains_key(id)) {
            // The nanoseconds that this thread used within the window are lost.
            (process.run_ns, process.wait_ns) = (None, None);
        }
        Self { process, threads: self.threads.iter().filter_map(added).collect() }
    }
}

/// How long the calling thread has run and has waited for a processor, and the time, in ns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Busy {
    pub(crate) ran_ns: u64,
    pub(crate) waited_ns: u64,
    pub(crate) wall_ns: u64,
}

impl Busy {
    /// Reads the totals of the calling thread.
    pub(crate) fn so_far() -> Self {
        let (ran_ns, waited_ns) = read_schedule("/proc/thread-self/schedstat");
        Self {
            ran_ns: ran_ns.unwrap_or_default(),
            waited_ns: waited_ns.unwrap_or_default(),
            wall_ns: now_ns(),
        }
    }

    /// Returns the increase since `self`, which the same thread read.
    pub(crate) fn until_now(self) -> Self {
        let now = Self::so_far();
        Self {
            ran_ns: now.ran_ns.saturating_sub(self.ran_ns),
            waited_ns: now.waited_ns.saturating_sub(self.waited_ns),
            wall_ns: now.wall_ns.saturating_sub(self.wall_ns),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Memory {
    /// Resident memory (VmRSS), in bytes.
    pub(crate) rss: u64,
    /// Resident memory with shared pages in proportion (Pss), in bytes; `None` if reading is
    /// denied.
    pub(crate) pss: Option<u64>,
    /// Private, modified memory (Private_Dirty), in bytes; `None` if reading is denied.
    pub(crate) private_dirty: Option<u64>,
}

impl Memory {
    /// Reads the present memory of a process.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let status = read(&format!("/proc/{pid}/status"))?;
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        Ok(Self {
            rss: kib_field(&status, "VmRSS").context("a process without VmRSS")?,
            pss: kib_field(&rollup, "Pss"),
            private_dirty: kib_field(&rollup, "Private_Dirty"),
        })
    }
}

/// Returns the resident memory of a process from the one file that is cheap to read; `None` if the
/// process has ended.
pub(crate) fn rss_bytes(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Whether a process has ended, even if its parent has not read its exit code yet.
pub(crate) fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    state.is_none_or(|state| matches!(state, 'Z' | 'X' | 'x'))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

fn read_stat(path: &str) -> Result<(String, Cpu)> {
    let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second();
    parse_stat(&read(path)?, tick_us).with_context(|| format!("{path} is not as expected"))
}

/// Returns the name and the times utime and stime (fields 2, 14 and 15 of proc_pid_stat(5)).
fn parse_stat(stat: &str, tick_us: u64) -> Option<(String, Cpu)> {
    // The name may contain spaces and brackets, so the last closing bracket ends it.
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let mut times = after.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    let mut time_us = || Some(times.next()?.ok()? * tick_us);
    let cpu = Cpu { user_us: time_us()?, system_us: time_us()?, ..Cpu::default() };
    Some((name.to_owned(), cpu))
}

/// Returns how long a thread has run and how long it has waited for a processor, in ns: the first
/// two figures of its schedstat.
fn read_schedule(path: &str) -> (Option<u64>, Option<u64>) {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut figures = text.split_ascii_whitespace().map(|figure| figure.parse().ok());
    (figures.next().flatten(), figures.next().flatten())
}

/// Returns the value of a line like `VmRSS:    1234 kB`, in bytes.
pub(crate) fn kib_field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_name_may_hold_anything() {
        let stat = "77 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 250 31 0 0 20";
        let cpu = Cpu { user_us: 2_500_000, system_us: 310_000, ..Cpu::default() };
        assert_eq!(parse_stat(stat, 10_000), Some(("a) b (c".to_owned(), cpu)));
        assert_eq!(parse_stat("77 (x) R 1 2", 10_000), None);
    }

    #[test]
    fn memory_fields_are_matched_by_their_whole_name() {
        let rollup = "Pss_Dirty:   9 kB\nPss:   12 kB\nPrivate_Dirty:  3 kB\n";
        assert_eq!(kib_field(rollup, "Pss"), Some(12 * 1_024));
        assert_eq!(kib_field(rollup, "Private"), None);
    }

    #[test]
    fn nanoseconds_are_known_while_no_thread_has_ended() {
        let cpu = |user_us, run_ns| Cpu { user_us, system_us: 0, run_ns, wait_ns: run_ns };
        let usage = |threads: &[(u32, Cpu)]| Usage {
            process: threads.iter().fold(cpu(0, Some(0)), |sum, (_, one)| sum + *one),
            threads: threads.iter().map(|(id, cpu)| (*id, (String::new(), *cpu))).collect(),
        };
        let before = usage(&[(1, cpu(10, Some(11_500)))]);
        let after = usage(&[(1, cpu(20, Some(22_750))), (2, cpu(0, Some(400)))]);
        let used = after.since(&before);
        assert_eq!((used.process.total_ns(), used.process.source()), (11_650, "schedstat"));
        assert_eq!(used.threads[&2].1.total_ns(), 400);
        let ended = before.since(&after);
        assert_eq!((ended.process.run_ns, ended.process.source()), (None, "stat"));
        let silent = usage(&[(1, cpu(20, None))]);
        assert_eq!(silent.since(&before).process.total_ns(), 10_000);
    }

    #[test]
    fn a_busy_process_is_seen_to_be_busy() {
        let pid = std::process::id();
        let before = Usage::of(pid).unwrap();
        let start = std::time::Instant::now();
        // A loaded machine may count ticks late, so the loop works until they show.
        loop {
            std::hint::black_box((0..1_000_000_u64).fold(0, u64::wrapping_add));
            let used = Usage::of(pid).unwrap().since(&before);
            let ticks_us = used.process.user_us + used.process.system_us;
            if ticks_us >= 30_000 && !used.threads.is_empty() {
                break;
            }
            assert!(start.elapsed().as_secs() < 30, "no time was counted");
        }
        let memory = Memory::of(pid).unwrap();
        assert!(memory.rss > 500_000 && memory.private_dirty.unwrap() <= memory.rss);
    }
}
