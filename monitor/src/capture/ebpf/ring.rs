//! Reader of a kernel ring buffer (`BPF_MAP_TYPE_RINGBUF`), and waiting for one of several.
//!
//! Our own and not aya's, for three reasons: records can be looked at before they are taken (several rings are merged
//! by time without copying), room is given back in batches, and readiness is edge-triggered, so that the probes decide
//! when a wake-up is worth its price.
//!
//! Layout (kernel/bpf/ringbuf.c): page 0 holds the consumer's position, page 1 the producer's, then the data, mapped
//! twice in a row so that records never wrap. A record is a 8-byte header (length with two flag bits, page offset)
//! and the data, rounded up to 8.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use aya::maps::MapData;

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER: usize = 8;
/// Room is given back to the kernel whenever so many bytes were taken, and at the end of a batch.
const GIVE_BACK: usize = 64 << 10;

/// One mapped ring. There must be only one reader of it.
pub(super) struct Ring {
    consumer: Mapping,
    producer: Mapping,
    page: usize,
    /// Bytes of data; a power of two.
    size: usize,
    /// Read up to here.
    taken: usize,
    /// Given back up to here.
    given: usize,
    /// This batch ends here.
    end: usize,
    /// Keeps the map alive.
    map: MapData,
}

// SAFETY: the mappings belong to this value alone and are valid from any thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the ring `map`, which has `size` bytes of data.
    pub(super) fn new(map: MapData, size: u32) -> io::Result<Self> {
        let page = page_size();
        let size = usize::try_from(size).map_err(io::Error::other)?;
        if !size.is_power_of_two() || size < page {
            return Err(io::Error::other("ring size must be a power of two and at least a page"));
        }
        let fd = map.fd().as_fd().as_raw_fd();
        let consumer = Mapping::new(fd, page, libc::PROT_READ | libc::PROT_WRITE, 0)?;
        let producer = Mapping::new(fd, page + 2 * size, libc::PROT_READ, page)?;
        let mut ring = Self { consumer, producer, page, size, taken: 0, given: 0, end: 0, map };
        ring.taken = ring.consumer_position().load(Ordering::Acquire);
        ring.given = ring.taken;
        ring.end = ring.taken;
        Ok(ring)
    }

    fn consumer_position(&self) -> &AtomicUsize {
        // SAFETY: the first word of the consumer page; mapped as long as `self`, aligned to a page, only accessed
        // atomically.
        unsafe { self.consumer.at.cast::<AtomicUsize>().as_ref() }
    }

    fn producer_position(&self) -> usize {
        // SAFETY: the first word of the producer page; as above.
        unsafe { self.producer.at.cast::<AtomicUsize>().as_ref() }.load(Ordering::Acquire)
    }

    /// Bytes that wait to be read.
    pub(super) fn backlog(&self) -> usize {
        self.producer_position().wrapping_sub(self.taken)
    }

    /// Bytes of data.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Begins a batch: what is in the ring now.
    pub(super) fn begin(&mut self) {
        self.end = self.producer_position();
    }

    /// The next record of this batch.
    pub(super) fn peek(&mut self) -> Option<&[u8]> {
        loop {
            if self.taken == self.end {
                return None;
            }
            let offset = self.page + (self.taken & (self.size - 1));
            // SAFETY: `offset` is inside the first copy of the data and aligned to 8 (positions grow by multiples of
            // 8); the header is only accessed atomically until the producer clears BUSY.
            let header = unsafe { self.producer.at.byte_add(offset).cast::<AtomicU32>().as_ref() };
            let header = header.load(Ordering::Acquire);
            if header & BUSY != 0 {
                // The producer is still writing: the batch ends here.
                self.end = self.taken;
                return None;
            }
            let len = (header & !(BUSY | DISCARDED)) as usize;
            if len > self.size - HEADER {
                // Cannot be: the kernel wrote this page and we cannot. Nothing behind it can be trusted either.
                tracing::error!(len, "ring record longer than its ring; what is left of this batch is dropped");
                self.taken = self.end;
                self.give_back();
                return None;
            }
            if header & DISCARDED != 0 {
                self.skip(len);
                continue;
            }
            // SAFETY: the data is mapped twice in a row, so that `len` bytes behind a header in the first copy are
            // mapped; the kernel does not write them again before they are given back, which needs `&mut self`.
            return Some(unsafe {
                std::slice::from_raw_parts(self.producer.at.byte_add(offset + HEADER).cast::<u8>().as_ptr(), len)
            });
        }
    }

    /// Takes the record that [`Self::peek`] showed, of `len` bytes.
    pub(super) fn skip(&mut self, len: usize) {
        self.taken = self.taken.wrapping_add((HEADER + len).next_multiple_of(8));
        if self.taken.wrapping_sub(self.given) >= GIVE_BACK.min(self.size / 4) {
            self.give_back();
        }
    }

    /// Gives the room of everything taken back to the kernel.
    pub(super) fn give_back(&mut self) {
        if self.given != self.taken {
            self.given = self.taken;
            self.consumer_position().store(self.taken, Ordering::Release);
        }
    }
}

struct Mapping {
    at: NonNull<libc::c_void>,
    len: usize,
}

impl Mapping {
    fn new(fd: i32, len: usize, protection: i32, offset: usize) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, fd, offset) };
        match NonNull::new(at) {
            Some(at) if at.as_ptr() != libc::MAP_FAILED => Ok(Self { at, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `mmap` with this length; nothing borrows it any more.
        unsafe { libc::munmap(self.at.as_ptr(), self.len) };
    }
}

/// Waits until the probes say that reading is worth while.
pub(super) struct Waiter {
    epoll: OwnedFd,
}

impl Waiter {
    pub(super) fn new(rings: &[Ring]) -> io::Result<Self> {
        // SAFETY: makes a new descriptor.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, owned by nobody else.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        for ring in rings {
            // Edge-triggered: a ring is always "readable" while it holds anything, but only the probes' wake-ups
            // are to end the sleep.
            let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 0 };
            // SAFETY: both descriptors are open and `event` lives through the call.
            let done = unsafe {
                libc::epoll_ctl(
                    epoll.as_raw_fd(),
                    libc::EPOLL_CTL_ADD,
                    ring.map.fd().as_fd().as_raw_fd(),
                    &raw mut event,
                )
            };
            if done < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self { epoll })
    }

    /// Sleeps until a probe wakes us, at most `timeout`. Ends early on a signal.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<()> {
        let ms = i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        let mut events = [const { libc::epoll_event { events: 0, u64: 0 } }; 4];
        // SAFETY: `events` has room for four events and lives through the call.
        let n = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), 4, ms) };
        if n < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Bytes of a memory page.
pub(super) fn page_size() -> usize {
    // SAFETY: a plain question.
    let n = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(n).unwrap_or(4096)
}
