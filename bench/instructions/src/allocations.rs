//! How often this thread has asked for memory, and from where.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};

/// The system's allocator, counting. To be made the global one by a program that wants to know.
pub struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
    static TRACING: Cell<bool> = const { Cell::new(false) };
    static TRACES: RefCell<Vec<(usize, Backtrace)>> = const { RefCell::new(Vec::new()) };
}

/// How much memory this thread has asked for so far; what was given back is not subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// How often, growing what it had included.
    pub times: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// What this thread has asked for so far; zero for ever where [`Counting`] is not the allocator.
pub fn so_far() -> Asked {
    Asked {
        times: COUNT.get(),
        bytes: BYTES.get(),
    }
}

/// Runs something, and gives the size of each piece of memory that it asks for and from where.
pub fn trace(run: impl FnOnce()) -> Vec<(usize, Backtrace)> {
    TRACES.take();
    TRACING.set(true);
    run();
    TRACING.set(false);
    TRACES.take()
}

fn note(bytes: usize) {
    COUNT.set(COUNT.get().wrapping_add(1));
    BYTES.set(BYTES.get().wrapping_add(bytes as u64));
    if TRACING.replace(false) {
        let backtrace = Backtrace::force_capture();
        TRACES.with_borrow_mut(|traces| traces.push((bytes, backtrace)));
        TRACING.set(true);
    }
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
