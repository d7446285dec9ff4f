//! What the fuzz target calls, kept here so that `cargo test` runs it too.

use super::{Memcached, Shared};
use crate::decode::fuzzing::feed;
use crate::model::claim::Salt;

/// Feeds arbitrary bytes to a decoder.
pub fn fuzz_memcached(data: &[u8]) {
    let salt = Salt(1, 2);
    feed(data, 16 << 20, |mid_stream| Memcached::new(salt, mid_stream, &Shared::default()));
}
