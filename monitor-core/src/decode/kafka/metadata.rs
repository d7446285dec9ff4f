//! Which name belongs to which topic id, as brokers tell it (KIP-516).

use super::bytes::{Cursor, Read};
use super::topics::Ids;

/// Learns from the body of a Metadata response, version 10 or later. What was read before an error is good.
pub(super) fn learn(c: &mut Cursor<'_>, version: i16, ids: &Ids) -> Read<()> {
    c.i32()?;
    for _ in 0..c.count(true)? {
        c.i32()?;
        c.string(true)?;
        c.i32()?;
        c.string(true)?;
        c.tags(true)?;
    }
    c.string(true)?;
    c.i32()?;
    for _ in 0..c.count(true)? {
        c.i16()?;
        let name = c.string(true)?.unwrap_or_default();
        ids.learn(c.uuid()?, name);
        c.i8()?;
        for _ in 0..c.count(true)? {
            c.take(14)?;
            for _ in 0..3 {
                for _ in 0..c.count(true)? {
                    c.i32()?;
                }
            }
            c.tags(true)?;
        }
        if version >= 8 {
            c.i32()?;
        }
        c.tags(true)?;
    }
    Ok(())
}
