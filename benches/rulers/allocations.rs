//! Allocations per message, counted by the allocator itself: the broker's own, with a counter before it.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering};

use leveret_rulers::{MESSAGES, Operation};
use mimalloc::MiMalloc;

/// Rounds before those that count: what is allocated once is there by then.
const WARM_UP: usize = 20;
/// Rounds that count.
const ROUNDS: usize = 20;

#[global_allocator]
static ALLOCATOR: Counted = Counted {
    inner: MiMalloc,
    count: AtomicU64::new(0),
};

/// How often memory was asked for, or more of it, per message of the operation.
pub(crate) fn count(operation: &Operation) -> f64 {
    let mut act = operation.prepare();
    for _ in 0..WARM_UP {
        act();
    }
    let before = ALLOCATOR.count.load(Ordering::Relaxed);
    for _ in 0..ROUNDS {
        act();
    }
    let count = ALLOCATOR.count.load(Ordering::Relaxed) - before;
    count as f64 / (ROUNDS * MESSAGES) as f64
}

struct Counted {
    inner: MiMalloc,
    count: AtomicU64,
}

impl Counted {
    fn note(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed on as it came to an allocator that keeps the contract.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.note();
        // SAFETY: as the caller promised.
        unsafe { self.inner.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.note();
        // SAFETY: as the caller promised.
        unsafe { self.inner.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.note();
        // SAFETY: as the caller promised.
        unsafe { self.inner.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { self.inner.dealloc(block, layout) }
    }
}
