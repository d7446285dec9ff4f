//! Fields of single messages.

use smallvec::SmallVec;

use super::sql::Plan;
use super::sql::plan::Param;
use super::sql::value::{Read, parameter};
use super::startup::cstr;

/// The parameters that a plan needs, from a Bind's body after its names: formats, then values. `each` sees all of them:
/// whether it is in binary format, and its bytes.
pub(super) fn read_parameters(
    mut rest: &[u8],
    plan: Option<&Plan>,
    out: &mut SmallVec<[Param; 1]>,
    each: &mut dyn FnMut(bool, &[u8]),
) {
    let mut read = || -> Option<()> {
        let n_formats = usize::from(take_u16(&mut rest)?);
        let (formats, after) = rest.split_at_checked(2 * n_formats)?;
        rest = after;
        let n = take_u16(&mut rest)?;
        for i in 0..n {
            let (&[a, b, c, d], after) = rest.split_first_chunk::<4>()?;
            let len = i32::from_be_bytes([a, b, c, d]);
            rest = after;
            let value = match usize::try_from(len) {
                Ok(len) => {
                    let (value, after) = rest.split_at_checked(len)?;
                    rest = after;
                    Some(value)
                }
                Err(_) => None,
            };
            let format = if n_formats == 1 { formats } else { formats.get(2 * usize::from(i)..).unwrap_or_default() };
            let binary = matches!(format, [0, 1, ..]);
            let number = i + 1;
            if let Some(value) = value {
                each(binary, value);
            }
            let needed = plan.map_or(&[][..], |p| &p.template.params);
            if let Some((_, wanted)) = needed.iter().find(|(p, _)| *p == number) {
                out.push((number, parameter(value, binary, *wanted)));
            }
        }
        Some(())
    };
    // What is missing or malformed stays out, and is unreadable.
    let _ = read();
    debug_assert!(out.iter().all(|(_, v)| !matches!(v, Read::Text(t) if t.len() > 4 * 1024)));
}

fn take_u16(bytes: &mut &[u8]) -> Option<u16> {
    let (&[a, b], rest) = bytes.split_first_chunk::<2>()?;
    *bytes = rest;
    Some(u16::from_be_bytes([a, b]))
}

/// A field of an ErrorResponse or NoticeResponse.
pub(super) fn field(body: &[u8], code: u8) -> Option<&[u8]> {
    let mut rest = body;
    loop {
        let (&kind, after) = rest.split_first()?;
        if kind == 0 {
            return None;
        }
        rest = after;
        let value = cstr(&mut rest)?;
        if kind == code {
            return Some(value);
        }
    }
}
