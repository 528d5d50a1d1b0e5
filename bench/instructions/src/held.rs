//! How much memory this thread holds, and held at most.
//!
//! It has an allocator of its own: what is counted here would show among the instructions of a
//! request.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, watched. To be made the global one by a program that wants to know.
pub struct Watched;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
    static MOST: Cell<u64> = const { Cell::new(0) };
}

/// What something holds of memory, in bytes, beside what was held before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// At most, at any time. What is moved to grow counts twice.
    pub most: u64,
    /// When it is done.
    pub after: u64,
}

/// Runs something, and gives what it holds; nothing where [`Watched`] is not the allocator. What it
/// hands to other threads, or takes from them, is not told apart.
pub fn held<T>(run: impl FnOnce() -> T) -> (T, Held) {
    let before = NOW.get();
    MOST.set(before);
    let done = run();
    let held = Held {
        most: MOST.get().saturating_sub(before),
        after: NOW.get().saturating_sub(before),
    };
    (done, held)
}

fn take(bytes: usize) {
    NOW.set(NOW.get().saturating_add(bytes as u64));
    MOST.set(MOST.get().max(NOW.get()));
}

fn give_back(bytes: usize) {
    NOW.set(NOW.get().saturating_sub(bytes as u64));
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) };
        give_back(layout.size());
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size);
        // SAFETY: the caller's promise is passed on.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        give_back(layout.size());
        moved
    }
}
