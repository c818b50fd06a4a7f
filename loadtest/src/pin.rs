//! Pins processes to processors: a comparison needs both servers on the same one.

use std::fs;

use anyhow::{Context, Result};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The processors of the server and of this process.
pub(crate) struct Placement {
    server: Option<usize>,
    /// The processors that this process was allowed before it was pinned.
    home: CpuSet,
}

impl Placement {
    /// Pins this process. It must still have only one thread: later threads and processes inherit
    /// the setting.
    pub(crate) fn take(server: Option<usize>, client: Option<usize>) -> Result<Self> {
        let home = sched_getaffinity(None)?;
        if let Some(cpu) = client {
            sched_setaffinity(None, &only(cpu)).with_context(|| no_place(cpu))?;
        }
        Ok(Self { server, home })
    }

    /// Pins all threads of a server that was already running, if a processor was given.
    pub(crate) fn pin_node(&self, pid: u32) -> Result<()> {
        self.server.map_or(Ok(()), |cpu| pin(pid, &only(cpu)).with_context(|| no_place(cpu)))
    }

    /// Pins a server that this process started, or lets it run on all of this process's former
    /// processors if none was given.
    pub(crate) fn pin_floor(&self, pid: u32) -> Result<()> {
        pin(pid, &self.server.map_or(self.home, only)).context("cannot place the floor")
    }
}

fn no_place(cpu: usize) -> String {
    format!("cannot use processor {cpu}")
}

fn only(cpu: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(cpu);
    set
}

fn pin(pid: u32, set: &CpuSet) -> Result<()> {
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let name = entry?.file_name();
        let id = name.to_str().and_then(|id| id.parse().ok()).and_then(Pid::from_raw);
        sched_setaffinity(Some(id.context("a thread without an id")?), set)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_placed_and_let_go_again() {
        let mut child = std::process::Command::new("sleep").arg("20").spawn().unwrap();
        let id = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let free = Placement::take(None, None).unwrap();
        let cpu = (0..CpuSet::MAX_CPU).find(|cpu| free.home.is_set(*cpu)).unwrap();
        Placement { server: Some(cpu), home: free.home }.pin_node(child.id()).unwrap();
        assert_eq!(sched_getaffinity(id).unwrap(), only(cpu));
        free.pin_node(child.id()).unwrap();
        assert_eq!(sched_getaffinity(id).unwrap(), only(cpu));
        free.pin_floor(child.id()).unwrap();
        assert_eq!(sched_getaffinity(id).unwrap(), free.home);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
