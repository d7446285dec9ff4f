//! By name: the function's symbol, where the file has kept it.

use std::mem::size_of;

use memchr::memmem;
use object::LittleEndian;
use object::elf::{SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, STT_FUNC, Sym64};
use object::pod::slice_from_bytes;

use super::image::{CHUNK, Image, Span};
use super::{Candidates, Layout, Way};

/// Functions that are told each secret, by a part of the symbol's name, in order of preference: what comes first calls
/// what comes later, or is never together with it. Numbers before a name are how long it is, as C++ and Rust write it.
const NAMES: [(&str, Layout); 6] = [
    // OpenSSL from 1.1.1 on, and BoringSSL while it was C.
    ("ssl_log_secret", Layout::C),
    // BoringSSL: a span is passed as a pointer and a length.
    ("14ssl_log_secretE", Layout::C),
    // OpenSSL with the former built into its callers.
    ("nss_keylog_int", Layout::C),
    // GnuTLS from 3.6.13 on, and before.
    ("_gnutls_call_keylog_func", Layout::C),
    ("_gnutls_nss_keylog_write", Layout::C),
    // rustls.
    ("20derive_logged_secret", Layout::Rust),
];

/// Whether a symbol with this name is the function itself, not a part of it that the compiler has split off, or a copy of
/// it with other arguments.
fn names(symbol: &[u8], wanted: &str) -> bool {
    let (stem, suffix) = match symbol.iter().position(|b| *b == b'.') {
        Some(dot) if dot > 0 => symbol.split_at(dot),
        _ => (symbol, &[][..]),
    };
    let whole = suffix.is_empty() || suffix.starts_with(b".llvm.") || suffix.starts_with(b".lto_priv.");
    let mangled = wanted.starts_with(|c: char| c.is_ascii_digit());
    let is = if mangled {
        (stem.starts_with(b"_ZN") || stem.starts_with(b"_R")) && memmem::find(stem, wanted.as_bytes()).is_some()
    } else {
        stem == wanted.as_bytes()
    };
    is && whole
}

/// Every function with such a name, of those that come first in the list.
pub(super) fn find(image: &Image<'_>, into: &mut Candidates) {
    let mut best: [Vec<u64>; NAMES.len()] = Default::default();
    for table in image.sections.iter().filter(|s| s.kind == SHT_SYMTAB || s.kind == SHT_DYNSYM) {
        let Some(strings) = image.sections.get(table.link).and_then(|s| image.whole(s.span).ok()) else { continue };
        // Most files have none of the names: that costs one look at the names, none at the symbols.
        let there =
            |what: &str| memmem::find(&strings, what.trim_start_matches(|c: char| c.is_ascii_digit()).as_bytes());
        if !["log_secret", "keylog", "derive_logged_secret"].into_iter().any(|what| there(what).is_some()) {
            continue;
        }
        each_function(image, table.span, &mut |name, addr| {
            let text = strings.get(usize::try_from(name).unwrap_or(usize::MAX)..).unwrap_or_default();
            // Bounded: names of C++ are long, those that matter are not.
            let text = text.get(..512).unwrap_or(text).split(|b| *b == 0).next().unwrap_or_default();
            if memmem::find(text, b"log").is_none() {
                return;
            }
            for ((wanted, _), found) in NAMES.iter().zip(&mut best) {
                if names(text, wanted) && found.len() < 64 && !found.contains(&addr) {
                    found.push(addr);
                }
            }
        });
    }
    for layout in [Layout::C, Layout::Rust] {
        let mut ranks = NAMES.iter().zip(&best).filter(|((_, l), found)| *l == layout && !found.is_empty());
        if let Some((_, found)) = ranks.next() {
            into.add(image, layout, Way::Symbol, found);
        }
    }
}

fn each_function(image: &Image<'_>, table: Span, f: &mut dyn FnMut(u32, u64)) {
    let end = LittleEndian;
    let size = size_of::<Sym64<LittleEndian>>() as u64;
    let step = CHUNK as u64 / size * size;
    let mut rest = table;
    while rest.size > 0 {
        let now = Span { size: rest.size.min(step), ..rest };
        let Ok(bytes) = image.whole(now) else { return };
        let all = bytes.len() / size_of::<Sym64<LittleEndian>>();
        let Ok((symbols, _)) = slice_from_bytes::<Sym64<LittleEndian>>(&bytes, all) else { return };
        for s in symbols {
            if s.st_type() == STT_FUNC && s.st_shndx.get(end) != SHN_UNDEF && s.st_value.get(end) != 0 {
                f(s.st_name.get(end), s.st_value.get(end));
            }
        }
        let Some(offset) = rest.offset.checked_add(now.size) else { return };
        rest = Span { offset, size: rest.size - now.size, ..rest };
    }
}
