//! Doorbells, which wake the threads behind mailboxes.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes the thread that owns a mailbox. While that thread is awake, a sender makes no system call.
#[derive(Debug)]
pub struct Doorbell {
    event: OwnedFd,
    sleeping: AtomicBool,
}

impl Doorbell {
    pub(super) fn new() -> std::io::Result<Self> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { event, sleeping: AtomicBool::new(false) })
    }

    /// Rings if the owner sleeps. Must be called after posting.
    pub fn wake(&self) {
        // Pairs with the fence in `sleep`: either the owner sees the mail, or this thread sees that
        // the owner sleeps.
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel) {
            self.ring();
        }
    }

    /// Ends the owner's next wait, even if the owner does not sleep yet.
    pub fn ring(&self) {
        // The counter cannot overflow within the node's life, so the write cannot fail.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// Announces that the owner is about to sleep. Returns false if mail has come meanwhile; then
    /// the owner must not sleep.
    pub fn sleep(&self, is_empty: impl FnOnce() -> bool) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if is_empty() {
            return true;
        }
        self.sleeping.store(false, Ordering::Relaxed);
        false
    }

    /// Announces that the owner is awake again.
    pub fn woke(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Makes the descriptor unreadable again, for an owner whose wait does not do so by itself.
    pub fn silence(&self) {
        // Without a ring the read fails because there is nothing to read, which is fine.
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
    }

    /// Returns the descriptor, which becomes readable when the bell is rung.
    pub fn descriptor(&self) -> &OwnedFd {
        &self.event
    }
}
