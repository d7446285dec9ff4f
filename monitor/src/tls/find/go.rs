//! Go: its run-time keeps a table of all functions with their names (for stack traces), stripped or not. Versions of the
//! table are told by its first four bytes (`src/debug/gosym/pclntab.go`, `src/internal/abi/symtab.go` of Go).

use memchr::memmem;

use super::image::{Image, Machine, Section, Span};
use super::{Candidates, Layout, Way};

/// The function that is told each secret, of `crypto/tls` and of packages that were made from it. There may be several,
/// and then each is called.
const NAME: &[u8] = b"tls.(*Config).writeKeyLog\0";
/// Most of them.
const MAX_FUNCTIONS: usize = 8;
/// Most functions of a program that are believed.
const MAX_TABLE: usize = 8 << 20;

/// How the table is laid out, by its first four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// Go 1.2 to 1.15.
    V2,
    /// Go 1.16 and 1.17.
    V16,
    /// From Go 1.18 on: functions by their distance from the first.
    V18,
}

impl Version {
    fn of(table: &[u8], machine: Machine) -> Option<Self> {
        // Two zeros, the least length of an instruction, the length of a pointer.
        let quantum = match machine {
            Machine::X86 => 1,
            Machine::Arm => 4,
        };
        if table.get(4..8) != Some(&[0, 0, quantum, 8]) {
            return None;
        }
        match u32_at(table, 0)? {
            0xffff_fffb => Some(Self::V2),
            0xffff_fffa => Some(Self::V16),
            // The second: from Go 1.20 on.
            0xffff_fff0 | 0xffff_fff1 => Some(Self::V18),
            _ => None,
        }
    }
}

/// Every function with the name.
pub(super) fn find(image: &Image<'_>, into: &mut Candidates) -> std::io::Result<()> {
    let Some(span) = table(image)? else { return Ok(()) };
    let table = image.whole(span)?;
    let first = first_function(image, span, &table)?;
    for function in functions(image, &table, first).unwrap_or_default() {
        into.add(image, Layout::Go, Way::GoTable, &[function]);
    }
    Ok(())
}

/// Where the table is: a section of its own, or where its first bytes are.
fn table(image: &Image<'_>) -> std::io::Result<Option<Span>> {
    let named = |s: &&Section| s.name == b".gopclntab" || s.name == b".data.rel.ro.gopclntab";
    if let Some(section) = image.sections.iter().find(named) {
        return Ok(Some(section.span));
    }
    // Without sections. Only a Go program has this: whatever else is found is no table.
    let magics = [0xfffffffbu32, 0xfffffffa, 0xfffffff0, 0xfffffff1].map(u32::to_le_bytes);
    let mut found = None;
    for span in &image.mapped {
        image.chunks(*span, 8, |addr, bytes, own| {
            for at in memmem::find_iter(bytes, &[0xff, 0xff, 0xff, 0, 0]).filter_map(|at| at.checked_sub(1)) {
                let head = bytes.get(at..).unwrap_or_default();
                if found.is_none()
                    && at < own
                    && magics.iter().any(|m| head.starts_with(m))
                    && Version::of(head, image.machine).is_some()
                {
                    let addr = addr.wrapping_add(at as u64);
                    found =
                        span.offset_of(addr).map(|offset| Span { addr, offset, size: span.size - (addr - span.addr) });
                }
            }
        })?;
    }
    Ok(found)
}

/// The addresses of the functions with the name.
fn functions(image: &Image<'_>, table: &[u8], first: Option<u64>) -> Option<Vec<u64>> {
    let version = Version::of(table, image.machine)?;
    let word = |i: usize| usize::try_from(u64_at(table, 8 + 8 * i)?).ok();
    let count = word(0)?.min(MAX_TABLE);
    let (names, functions) = match version {
        Version::V2 => (0, None),
        Version::V16 => (word(2)?, Some(word(6)?)),
        Version::V18 => (word(3)?, Some(word(7)?)),
    };
    // Where the names are that are looked for.
    let wanted: Vec<usize> = memmem::find_iter(table.get(names..)?, NAME)
        .take(MAX_FUNCTIONS)
        .map(|at| {
            let before = table.get(names..names + at).unwrap_or_default();
            before.iter().rposition(|b| *b == 0).map_or(0, |zero| zero + 1)
        })
        .collect();
    if wanted.is_empty() {
        return None;
    }
    let is_wanted = |name: u32| wanted.contains(&usize::try_from(name).unwrap_or(usize::MAX));
    let mut found = Vec::new();
    let start = match version {
        Version::V18 => first?,
        Version::V2 | Version::V16 => 0,
    };
    for i in 0..count {
        let (entry, name) = match version {
            Version::V18 => {
                let base = functions?;
                let record = base.checked_add(u32_at(table, base.checked_add(8 * i + 4)?)? as usize)?;
                (start.wrapping_add(u64::from(u32_at(table, base + 8 * i)?)), u32_at(table, record.checked_add(4)?)?)
            }
            Version::V2 | Version::V16 => {
                let (list, base) = functions.map_or((16, 0), |f| (f, f));
                let record = usize::try_from(u64_at(table, list.checked_add(16 * i + 8)?)?).ok()?.checked_add(base)?;
                (u64_at(table, list + 16 * i)?, u32_at(table, record.checked_add(8)?)?)
            }
        };
        if is_wanted(name) && found.len() < MAX_FUNCTIONS {
            found.push(entry);
        }
    }
    Some(found)
}

/// Where the distances of functions are counted from: told in the table up to Go 1.25. Later the table says 0, and only the
/// run-time's `moduledata` tells (src/runtime/symtab.go), which points to the table: in a program that a C linker has put
/// together it is not where the code begins.
fn first_function(image: &Image<'_>, span: Span, table: &[u8]) -> std::io::Result<Option<u64>> {
    /// `pcHeader`, six slices, `findfunctab`, then `minpc`, `maxpc`, `text`.
    const MIN_PC: u64 = 8 + 6 * 24 + 8;
    const TEXT: u64 = MIN_PC + 16;
    let told = u64_at(table, 8 + 8 * 2).unwrap_or(0);
    if told != 0 {
        return Ok(Some(told));
    }
    // How far from there the first function is.
    let base = u64_at(table, 8 + 8 * 7).and_then(|f| usize::try_from(f).ok());
    let Some(distance) = base.and_then(|base| u32_at(table, base)) else { return Ok(None) };
    let modules = image.pointers_to(&|target| target == span.addr)?;
    for (module, _) in modules.into_iter().take(16) {
        let is_code = |addr: u64| image.code_offset(addr).is_some();
        let held = image.pointers_in(module + MIN_PC, module + TEXT + 8, &is_code)?;
        let at = |place: u64| held.iter().find(|(p, _)| *p == place).map(|(_, target)| *target);
        if let (Some(least), Some(text)) = (at(module + MIN_PC), at(module + TEXT))
            && least == text.wrapping_add(u64::from(distance))
        {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk::<8>().map(|b| u64::from_le_bytes(*b))
}
