//! The bytes that the process has allocated, counted by its allocator.
//!
//! The resident memory of a process follows its allocations late, because the allocator keeps
//! pages that were freed. What a connection held is free at once in this count, so that the node
//! can tell after each connection that it closes whether it must close another.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

/// Counts of different threads, each on cache lines of its own. Threads beyond this number share
/// counts: then the processor moves a cache line between cores, and the sum is still right.
const SHARES: usize = 64;

/// Allocations minus frees of some threads, in bytes. It is below zero where threads free more than
/// they allocate.
#[repr(align(128))]
struct Share(AtomicIsize);

static ALLOCATED: [Share; SHARES] = [const { Share(AtomicIsize::new(0)) }; SHARES];
/// Threads that have allocated anything.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The place of this thread's count; [`UNKNOWN`] before its first allocation.
    static PLACE: Cell<usize> = const { Cell::new(UNKNOWN) };
}

const UNKNOWN: usize = usize::MAX;

/// An allocator that counts what another one allocates. An allocation costs one locked instruction
/// on a cache line that is the thread's own.
#[derive(Debug)]
pub struct Counted<A>(pub A);

/// Returns the bytes that are allocated now, as requested of the allocator; 0 if the program's
/// allocator is not [`Counted`].
pub fn allocated() -> usize {
    let used = THREADS.load(Ordering::Relaxed).min(SHARES);
    let sum: isize = ALLOCATED[..used].iter().map(|share| share.0.load(Ordering::Relaxed)).sum();
    // Threads count while the sum is made, so that it may be below zero for a moment.
    usize::try_from(sum).unwrap_or_default()
}

fn count(bytes: isize) {
    let place = PLACE.get();
    let place = if place == UNKNOWN { take_place() } else { place };
    ALLOCATED[place].0.fetch_add(bytes, Ordering::Relaxed);
}

#[cold]
fn take_place() -> usize {
    let place = THREADS.fetch_add(1, Ordering::Relaxed) % SHARES;
    PLACE.set(place);
    place
}

// SAFETY: every call is passed on unchanged to an allocator that meets the requirements. Counting
// allocates nothing: the thread-local value needs neither initialization nor a destructor.
#[allow(unsafe_code, reason = "an allocator is an unsafe trait")]
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counted<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller meets what `GlobalAlloc` requires.
        let allocated = unsafe { self.0.alloc(layout) };
        if !allocated.is_null() {
            count(layout.size() as isize);
        }
        allocated
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller meets what `GlobalAlloc` requires.
        let allocated = unsafe { self.0.alloc_zeroed(layout) };
        if !allocated.is_null() {
            count(layout.size() as isize);
        }
        allocated
    }

    unsafe fn dealloc(&self, freed: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller meets what `GlobalAlloc` requires.
        unsafe { self.0.dealloc(freed, layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller meets what `GlobalAlloc` requires.
        let allocated = unsafe { self.0.realloc(old, layout, size) };
        if !allocated.is_null() {
            // The size of an allocation is at most `isize::MAX`.
            count(size as isize - layout.size() as isize);
        }
        allocated
    }
}

#[cfg(test)]
#[allow(unsafe_code, reason = "calls of an allocator are unsafe")]
mod tests {
    use super::*;
    use std::alloc::System;

    #[test]
    fn allocations_of_all_threads_are_counted_until_they_are_freed() {
        let before = allocated();
        let layout = Layout::from_size_align(1_000_000, 8).expect("a valid layout");
        let counted = Counted(System);
        let place = std::thread::spawn(move || {
            // SAFETY: the layout has a size.
            let place = unsafe { counted.alloc(layout) };
            // SAFETY: the place was allocated with this layout.
            unsafe { counted.realloc(place, layout, 3_000_000) as usize }
        });
        let place = place.join().expect("the thread ends");
        assert_eq!(allocated() - before, 3_000_000);
        let layout = Layout::from_size_align(3_000_000, 8).expect("a valid layout");
        // SAFETY: the place has this layout since it was allocated again, and is not used any more.
        unsafe { Counted(System).dealloc(place as *mut u8, layout) };
        assert_eq!(allocated(), before);
    }
}
