//! What the fuzz target calls, kept here so that `cargo test` runs it too.

use super::{MySql, Shared};
use crate::decode::fuzzing::feed;
use crate::decode::sql::{Dialect, Shapes};
use crate::model::claim::Salt;

/// Feeds arbitrary bytes to a decoder.
pub fn fuzz_mysql(data: &[u8]) {
    let salt = Salt(1, 2);
    feed(data, 64 << 20, |mid_stream| MySql::new(salt, mid_stream, &Shared::new(salt)));
}

/// Feeds arbitrary text to the reader of MySQL's SQL.
pub fn fuzz_mysql_text(data: &[u8]) {
    let mut shapes = Shapes::new(Salt(1, 2), Dialect::MySql);
    for backslash in [false, true] {
        let mut n = 0;
        shapes.read(data, backslash, backslash, &mut |_| {}, &mut |_| n += 1);
        assert!(n <= data.len(), "no more statements than bytes");
    }
}
