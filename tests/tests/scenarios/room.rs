//! Who may play at the same time. A scene mostly waits, so several fit on two cores; but those with much in flight would
//! be measured by how much they disturb each other.

use std::sync::{Condvar, Mutex, PoisonError};

/// What all scenes that play at one time may weigh.
const ROOM: u32 = 3;

static TAKEN: Mutex<u32> = Mutex::new(0);
static LEFT: Condvar = Condvar::new();

/// A place in the room, until it is dropped.
pub(crate) struct Seat(u32);

/// Waits for room for a scene with so many requests in flight at once.
pub(crate) fn enter(in_flight: u32) -> Seat {
    wait_for(if in_flight > 1 { 2 } else { 1 })
}

/// Waits for the whole room, for a scene in which it matters how long things take.
pub(crate) fn alone() -> Seat {
    wait_for(ROOM)
}

fn wait_for(weight: u32) -> Seat {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    while *taken + weight > ROOM {
        taken = LEFT.wait(taken).unwrap_or_else(PoisonError::into_inner);
    }
    *taken += weight;
    Seat(weight)
}

impl Drop for Seat {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        LEFT.notify_all();
    }
}
