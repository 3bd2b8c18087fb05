//! How much memory the broker holds: its allocations of this thread, counted by the allocator.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread has asked for and not given back. Each seed lives in one thread.
    static HELD: Cell<isize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// Bytes that are given back by what is done.
pub(crate) fn freed_by(act: impl FnOnce()) -> usize {
    let before = HELD.get();
    act();
    usize::try_from(before - HELD.get()).unwrap_or(0)
}

struct Counted;

impl Counted {
    fn note(by: isize) {
        HELD.set(HELD.get() + by);
    }
}

// SAFETY: every call is handed on as it came to an allocator that keeps the contract.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size() as isize);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size() as isize);
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::note(size as isize - layout.size() as isize);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        Self::note(-(layout.size() as isize));
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(block, layout) }
    }
}
