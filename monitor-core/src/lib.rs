//! The pure core of leasewarden.
//!
//! Events from a source go in, judged operations and findings come out:
//!
//! ```text
//! event ─▶ stream ─▶ (tls) ─▶ decode ─▶ attribute ─▶ ledger ─▶ detect ─▶ finding
//! ```
//!
//! Nothing here does I/O, reads a clock or spawns a task: time is in the events, so the same input gives the same
//! output, byte for byte. Rooms import [`model`] and never each other; [`engine`] alone composes them.

#![forbid(unsafe_code)]

pub mod attribute;
pub mod decode;
pub mod detect;
pub mod engine;
pub mod ledger;
pub mod model;
pub mod stream;
pub mod tls;
