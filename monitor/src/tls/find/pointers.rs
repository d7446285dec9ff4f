//! rustls: it chooses the label from a table, which one function reads: the one that derives the secret and logs it. The
//! table holds pointers to the texts, or how far from the table they are, in the order of rustls' kinds of secrets.

use std::collections::BTreeSet;
use std::io;

use memchr::memchr_iter;

use super::image::{Image, Machine};
use super::label::{self, Text};
use super::{Candidates, Layout, Way};

/// Indices of the four labels that follow each other in the table, as they do in rustls' enum and in the list of labels.
const FOUR: [usize; 4] = [1, 2, 3, 4];
/// Most tables that are followed.
const MAX_TABLES: usize = 64;

/// The function that reads the table.
pub(super) fn find(image: &Image<'_>, texts: &[Text], into: &mut Candidates) -> io::Result<()> {
    // Rust does not end texts with a NUL.
    let texts: Vec<Text> = texts.iter().filter(|t| !t.terminated).copied().collect();
    if !FOUR.iter().all(|label| texts.iter().any(|t| t.label == *label)) {
        return Ok(());
    }
    let mut tables = of_pointers(image, &texts)?;
    tables.extend(of_distances(image, &texts)?);
    tables.truncate(MAX_TABLES);
    if tables.is_empty() {
        return Ok(());
    }
    let starts = image.function_starts()?;
    let mut functions = BTreeSet::new();
    for reader in readers(image, &tables)? {
        // Without a list of functions it is not known where one begins.
        let Some(start) = starts.partition_point(|s| *s <= reader).checked_sub(1).and_then(|i| starts.get(i)) else {
            continue;
        };
        functions.insert(*start);
    }
    let functions: Vec<u64> = functions.into_iter().collect();
    into.add(image, Layout::Rust, Way::Pointers, &functions);
    Ok(())
}

/// Places where a table may begin: with the four, or with the label before them (`CLIENT_EARLY_TRAFFIC_SECRET`).
fn beginnings(first: u64, step: u64) -> [u64; 2] {
    [first.wrapping_sub(step), first]
}

/// Tables of pointers: of texts with their length behind each (16 bytes), or of pointers alone.
fn of_pointers(image: &Image<'_>, texts: &[Text]) -> io::Result<Vec<u64>> {
    let label = |addr: u64| label::label_at(texts, addr);
    let places = image.pointers_to(&|addr| label(addr).is_some())?;
    let holds = |place: u64, wanted: usize| {
        let at = places.partition_point(|(p, _)| *p < place);
        places.get(at).is_some_and(|(p, target)| *p == place && label(*target) == Some(wanted))
    };
    let mut found = Vec::new();
    for (place, _) in &places {
        for step in [8, 16] {
            if (0u64..).zip(FOUR).all(|(i, wanted)| holds(place.wrapping_add(i * step), wanted)) {
                found.extend(beginnings(*place, step));
            }
        }
    }
    Ok(found)
}

/// Tables of distances of 32 bits from the table's beginning, as LLVM makes them for code that may be loaded anywhere.
fn of_distances(image: &Image<'_>, texts: &[Text]) -> io::Result<Vec<u64>> {
    let all = |label: usize| texts.iter().filter(move |t| t.label == label).map(|t| t.addr);
    // How far the second, third and fourth text are from the first.
    let mut shapes: Vec<(u64, [i32; 3])> = Vec::new();
    for first in all(FOUR[0]) {
        let near = |label: usize| {
            all(label).filter_map(|a| i32::try_from(a.wrapping_sub(first) as i64).ok()).min_by_key(|d| d.unsigned_abs())
        };
        if let (Some(b), Some(c), Some(d)) = (near(FOUR[1]), near(FOUR[2]), near(FOUR[3])) {
            shapes.push((first, [b, c, d]));
        }
    }
    let mut found = Vec::new();
    for span in &image.mapped {
        image.chunks(*span, 16, |addr, bytes, own| {
            let words = bytes.as_chunks::<4>().0;
            for (i, four) in words.windows(4).enumerate().take(own / 4) {
                let [a, b, c, d] = four else { continue };
                let [a, b, c, d] = [a, b, c, d].map(|w| i32::from_le_bytes(*w));
                let apart = [b, c, d].map(|w| w.wrapping_sub(a));
                for (text, shape) in &shapes {
                    if apart == *shape {
                        let place = addr.wrapping_add(4 * i as u64);
                        let table = text.wrapping_add_signed(-i64::from(a));
                        if beginnings(place, 4).contains(&table) {
                            found.push(table);
                        }
                    }
                }
            }
        })?;
    }
    Ok(found)
}

/// Code that takes the address of one of the tables.
fn readers(image: &Image<'_>, tables: &[u64]) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for span in &image.code {
        image.chunks(*span, 64, |addr, bytes, own| match image.machine {
            Machine::X86 => {
                for at in memchr_iter(0x8d, bytes.get(..own).unwrap_or_default()) {
                    // `lea register, [rip + …]`.
                    let prefix = at.checked_sub(1).and_then(|i| bytes.get(i));
                    if !matches!(prefix, Some(0x48 | 0x4c)) || bytes.get(at + 1).is_none_or(|b| b & 0xc7 != 5) {
                        continue;
                    }
                    let Some(distance) = bytes.get(at + 2..).and_then(|b| b.first_chunk::<4>()) else { continue };
                    let end = addr.wrapping_add(at as u64 + 6);
                    if tables.contains(&end.wrapping_add_signed(i64::from(i32::from_le_bytes(*distance)))) {
                        found.push(end);
                    }
                }
            }
            Machine::Arm => {
                let words: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w)).collect();
                for (i, word) in words.iter().enumerate().take(own / 4) {
                    let pc = addr.wrapping_add(4 * i as u64);
                    let Some((register, page)) = label::adrp(*word, pc) else { continue };
                    if !tables.iter().any(|t| t & !0xfff == page) {
                        continue;
                    }
                    let next = words.iter().skip(i + 1).take(8);
                    if next.filter_map(|w| label::add(*w, register, page)).any(|(_, addr)| tables.contains(&addr)) {
                        found.push(pc);
                    }
                }
            }
        })?;
        found.truncate(4096);
    }
    Ok(found)
}
