//! Fields of single messages.

use smallvec::SmallVec;

use crate::decode::sql::Plan;
use crate::decode::sql::plan::Param;
use crate::decode::sql::value::{Read, parameter};
use crate::decode::wire::Reader;

/// The parameters that a plan needs, from a Bind's body after its names: formats, then values. `each` sees all of them:
/// whether it is in binary format, and its bytes.
pub(super) fn read_parameters(
    rest: &[u8],
    plan: Option<&Plan>,
    out: &mut SmallVec<[Param; 1]>,
    each: &mut dyn FnMut(bool, &[u8]),
) {
    let mut r = Reader::new(rest);
    let mut read = || -> Option<()> {
        let n_formats = usize::from(r.u16()?);
        let formats = r.take(2 * n_formats)?;
        let n = r.u16()?;
        for i in 0..n {
            let value = match usize::try_from(r.i32()?) {
                Ok(len) => Some(r.take(len)?),
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

/// A field of an ErrorResponse or NoticeResponse.
pub(super) fn field(body: &[u8], code: u8) -> Option<&[u8]> {
    let mut rest = Reader::new(body);
    loop {
        let kind = rest.u8()?;
        if kind == 0 {
            return None;
        }
        let value = rest.cstr()?;
        if kind == code {
            return Some(value);
        }
    }
}
