//! What the fuzz targets call, kept here so that `cargo test` runs it too.

use super::{Postgres, Shared};
use crate::decode::fuzzing::feed;
use crate::decode::sql::{Dialect, Shapes};
use crate::model::claim::Salt;

/// Feeds arbitrary bytes to a decoder. For the fuzz target, and run over the recorded connections in the tests.
pub fn fuzz_postgres(data: &[u8]) {
    let salt = Salt(1, 2);
    feed(data, 64 << 20, |mid_stream| Postgres::new(salt, mid_stream, &Shared::new(salt)));
}

/// Feeds arbitrary text to the SQL reader. For the fuzz target.
pub fn fuzz_sql(data: &[u8]) {
    let mut shapes = Shapes::new(Salt(1, 2), Dialect::Postgres);
    for backslash in [false, true] {
        let mut n = 0;
        shapes.read(data, backslash, backslash, &mut |_| {}, &mut |_| n += 1);
        assert!(n <= data.len(), "no more statements than bytes");
    }
}
