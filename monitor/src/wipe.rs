//! Memory that is given back is wiped first.
//!
//! The agent reads what all tenants say: their passwords, tokens and cookies lie in the buffers of streams and decoders,
//! in header values, in parsed JSON. Each of these could wipe what it holds, and the next one to be written would forget
//! to. So the allocator does it: whatever block is given back, by whatever code, is filled with zeros before anybody else
//! gets it.

use std::alloc::{GlobalAlloc, Layout, System};

use zeroize::optimization_barrier;

/// The system's allocator, with blocks wiped as they are given back. To be named as the binary's `global_allocator`.
#[derive(Debug)]
pub struct Wiping;

/// Fills a block with zeros, in a way that no compiler takes for useless.
///
/// # Safety
/// `at` is valid for writes of `len` bytes, which nobody reads as anything else afterwards.
unsafe fn wipe(at: *mut u8, len: usize) {
    // SAFETY: as the caller has promised.
    unsafe { at.write_bytes(0, len) };
    // What is freed right after it was written could be left unwritten otherwise.
    optimization_barrier(&at);
}

// SAFETY: every block is the system allocator's, and is given back to it with the layout it was made with. `realloc` is
// the trait's own (a new block, a copy, the old one given back): the system's could leave what was in the old place there.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller has promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller has promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the block is the caller's until here, and of this size.
        unsafe {
            wipe(at, layout.size());
            System.dealloc(at, layout);
        }
    }
}
