//! What a process cost: processor time and memory, as `/proc` tells it.

use std::collections::BTreeMap;
use std::fs;
use std::ops::{AddAssign, Sub};

use anyhow::{Context, Result};

/// Processor time in microseconds. The kernel counts in ticks, as a rule of 10 ms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Cpu {
    /// In the program.
    pub(crate) user_us: u64,
    /// In the kernel on its behalf.
    pub(crate) system_us: u64,
}

impl Cpu {
    /// Both together.
    pub(crate) fn total_us(self) -> u64 {
        self.user_us + self.system_us
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            user_us: self.user_us.saturating_sub(earlier.user_us),
            system_us: self.system_us.saturating_sub(earlier.system_us),
        }
    }
}

impl AddAssign for Cpu {
    fn add_assign(&mut self, other: Self) {
        self.user_us += other.user_us;
        self.system_us += other.system_us;
    }
}

/// The processor time of a process and of its living threads, at one moment or over a window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// The whole process, threads that have ended included.
    pub(crate) process: Cpu,
    /// Each thread's name and share, by thread id.
    pub(crate) threads: BTreeMap<u32, (String, Cpu)>,
}

impl Usage {
    /// Up to now.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let process = read_stat(&format!("/proc/{pid}/stat"))?.1;
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|id| id.parse().ok()) else {
                continue;
            };
            // A thread may end between the listing and the reading.
            let Ok(stat) = read_stat(&format!("/proc/{pid}/task/{id}/stat")) else {
                continue;
            };
            threads.insert(id, stat);
        }
        Ok(Self { process, threads })
    }

    /// What was added since `earlier`; threads that did nothing are left out.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let added = |(id, (name, cpu)): (&u32, &(String, Cpu))| {
            let before = earlier.threads.get(id).map_or_else(Cpu::default, |(_, cpu)| *cpu);
            let cpu = *cpu - before;
            (cpu.total_us() > 0).then(|| (*id, (name.clone(), cpu)))
        };
        Self {
            process: self.process - earlier.process,
            threads: self.threads.iter().filter_map(added).collect(),
        }
    }
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Memory {
    /// Resident pages (VmRSS).
    pub(crate) rss: u64,
    /// Resident pages, shared ones in proportion; `None` where we may not look.
    pub(crate) pss: Option<u64>,
    /// Pages that are its alone and written to; `None` where we may not look.
    pub(crate) private_dirty: Option<u64>,
}

impl Memory {
    /// Now.
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

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

fn read_stat(path: &str) -> Result<(String, Cpu)> {
    let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second();
    parse_stat(&read(path)?, tick_us).with_context(|| format!("{path} is not as expected"))
}

/// Name, utime and stime (fields 2, 14 and 15 of proc_pid_stat(5)).
fn parse_stat(stat: &str, tick_us: u64) -> Option<(String, Cpu)> {
    // The name may hold spaces and brackets; the last closing bracket ends it.
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let mut times = after.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    let mut time_us = || Some(times.next()?.ok()? * tick_us);
    Some((name.to_owned(), Cpu { user_us: time_us()?, system_us: time_us()? }))
}

/// The value of a line like `VmRSS:    1234 kB`, in bytes.
fn kib_field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_name_may_hold_anything() {
        let stat = "77 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 250 31 0 0 20";
        let cpu = Cpu { user_us: 2_500_000, system_us: 310_000 };
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
    fn a_busy_process_is_seen_to_be_busy() {
        let pid = std::process::id();
        let before = Usage::of(pid).unwrap();
        let start = std::time::Instant::now();
        // Ticks may be spread over a loaded machine, so the work ends when it has been noticed.
        loop {
            std::hint::black_box((0..1_000_000_u64).fold(0, u64::wrapping_add));
            let used = Usage::of(pid).unwrap().since(&before);
            if used.process.total_us() >= 30_000 && !used.threads.is_empty() {
                break;
            }
            assert!(start.elapsed().as_secs() < 30, "no time was counted");
        }
        let memory = Memory::of(pid).unwrap();
        assert!(memory.rss > 500_000 && memory.private_dirty.unwrap() <= memory.rss);
    }
}
