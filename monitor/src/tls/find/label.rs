//! By what the code refers to: each secret is logged under a label, whose text the code loads as an argument just before
//! it calls the function. The function that most labels agree on is the one.
//!
//! Only loads into the register of an argument count (the second of `ssl_log_secret`, the first of `nss_keylog_int`): a
//! label that is kept for later says nothing of the next call.

use memchr::{memchr_iter, memchr2_iter, memmem};
use monitor_common::secrets::LABELS;

use super::image::{Image, Machine};
use super::{Candidates, Layout, Way};

/// Most places where a label's text stands that are followed: one per copy of a library, and a few that only look alike.
const MAX_TEXTS: usize = 256;
/// Most loads of labels that are followed.
const MAX_LOADS: usize = 4096;
/// How far behind the load the call may be, bytes: the other arguments are loaded in between.
const NEAR: usize = 160;

/// A text of a label, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text {
    /// Index into [`LABELS`].
    pub(super) label: usize,
    pub(super) addr: u64,
    /// It ends with a NUL, as C writes it.
    pub(super) terminated: bool,
}

/// Where the labels' texts stand.
pub(super) fn texts(image: &Image<'_>) -> std::io::Result<Vec<Text>> {
    // Two words that between them are in every label but the exporter's.
    let finders = [memmem::Finder::new(b"CLIENT_RANDOM"), memmem::Finder::new(b"_TRAFFIC_SECRET")];
    let mut found: Vec<Text> = Vec::new();
    for span in &image.mapped {
        image.chunks(*span, 64, |addr, bytes, own| {
            for finder in &finders {
                for hit in finder.find_iter(bytes) {
                    for (label, name) in LABELS.iter().enumerate() {
                        // Where the word stands in the label.
                        let Some(within) = memmem::find(name, finder.needle()) else { continue };
                        let Some(begin) = hit.checked_sub(within) else { continue };
                        let Some(text) = bytes.get(begin..).filter(|t| t.starts_with(name)) else { continue };
                        let text = Text {
                            label,
                            addr: addr.wrapping_add(begin as u64),
                            terminated: text.get(name.len()) == Some(&0),
                        };
                        // What begins in the next chunk's part of this one is found there.
                        if begin < own && found.len() < MAX_TEXTS && !found.contains(&text) {
                            found.push(text);
                        }
                    }
                }
            }
        })?;
    }
    found.sort_unstable_by_key(|t| t.addr);
    Ok(found)
}

/// One load of a label, and the call behind it.
#[derive(Clone, Copy, Debug)]
struct Vote {
    label: usize,
    callee: u64,
    /// Where the load ends: each is another place that calls.
    site: u64,
}

/// The functions that are called with labels; those with most votes, all of them where that is not one.
pub(super) fn find(image: &Image<'_>, texts: &[Text], into: &mut Candidates) -> std::io::Result<()> {
    let texts: Vec<Text> = texts.iter().filter(|t| t.terminated).copied().collect();
    if texts.is_empty() {
        return Ok(());
    }
    let votes = match image.machine {
        Machine::X86 => x86(image, &texts)?,
        Machine::Arm => arm(image, &texts)?,
    };
    let (sure, rest): (Vec<u64>, Vec<u64>) = winners(&votes).into_iter().partition(|winner| {
        let mut sites = votes.iter().filter(|v| v.callee == *winner).map(|v| v.site);
        let first = sites.next();
        sites.any(|site| Some(site) != first)
    });
    let winners = [sure, called_often(image, &rest)?].concat();
    into.add(image, Layout::C, Way::Label, &winners);
    Ok(())
}

/// Those that the code calls from two places at least: a function that is told secrets is called for each kind of them,
/// while bytes that only look like a call lead to where no second one does.
fn called_often(image: &Image<'_>, functions: &[u64]) -> std::io::Result<Vec<u64>> {
    let mut calls = vec![0u32; functions.len()];
    if functions.is_empty() {
        return Ok(Vec::new());
    }
    for span in &image.code {
        image.chunks(*span, 8, |addr, bytes, own| {
            let mut called = |target: u64| {
                for (function, n) in functions.iter().zip(&mut calls) {
                    *n = n.saturating_add(u32::from(*function == target));
                }
            };
            match image.machine {
                // `call` and, for the last thing that a function does, `jmp`.
                Machine::X86 => memchr2_iter(0xe8, 0xe9, bytes.get(..own).unwrap_or_default()).for_each(|at| {
                    if let Some(distance) = int(bytes, at + 1) {
                        called(addr.wrapping_add(at as u64 + 5).wrapping_add_signed(i64::from(distance)));
                    }
                }),
                Machine::Arm => bytes.as_chunks::<4>().0.iter().take(own / 4).enumerate().for_each(|(i, word)| {
                    // `b` differs from `bl` in its first bit.
                    let word = u32::from_le_bytes(*word) | 0x8000_0000;
                    if let Some(target) = bl(word, addr.wrapping_add(4 * i as u64)) {
                        called(target);
                    }
                }),
            }
        })?;
    }
    Ok(functions.iter().zip(calls).filter(|(_, n)| *n > 1).map(|(function, _)| *function).collect())
}

fn int(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..).and_then(|b| b.first_chunk::<4>()).map(|b| i32::from_le_bytes(*b))
}

/// Who is called with most labels. OpenSSL calls the function with one alone (it chooses among the others beforehand), the
/// master secret's: where nothing else is agreed on, that one counts.
fn winners(votes: &[Vote]) -> Vec<u64> {
    let mut callees: Vec<(u64, Vec<usize>)> = Vec::new();
    for vote in votes {
        match callees.iter_mut().find(|(callee, _)| *callee == vote.callee) {
            Some((_, labels)) if labels.contains(&vote.label) => {}
            Some((_, labels)) => labels.push(vote.label),
            None => callees.push((vote.callee, vec![vote.label])),
        }
    }
    let most = callees.iter().map(|(_, labels)| labels.len()).max().unwrap_or(0);
    let mut best: Vec<u64> = match most {
        0 => Vec::new(),
        1 => callees.iter().filter(|(_, labels)| labels.contains(&0)).map(|(callee, _)| *callee).collect(),
        // One that is called with the master secret's label and another that is not: both are meant.
        _ => callees
            .iter()
            .filter(|(_, l)| l.len() == most || (l.len() > 1 && l.contains(&0)))
            .map(|(c, _)| *c)
            .collect(),
    };
    best.sort_unstable();
    best.dedup();
    best
}

pub(super) fn label_at(texts: &[Text], addr: u64) -> Option<usize> {
    let at = texts.binary_search_by_key(&addr, |t| t.addr).ok()?;
    texts.get(at).map(|t| t.label)
}

/// `lea rsi|rdi, [rip + …]`, and where addresses are fixed `mov esi|edi, …`; then the first call.
fn x86(image: &Image<'_>, texts: &[Text]) -> std::io::Result<Vec<Vote>> {
    /// `lea` without its prefix, and the operands `rsi|rdi, [rip + …]`.
    const LEA: [u8; 3] = [0x48, 0x8d, 0];
    const OPERANDS: [u8; 2] = [0x35, 0x3d];
    /// `mov esi|edi, …`.
    const MOV: [u8; 2] = [0xbe, 0xbf];
    let mut votes = Vec::new();
    for span in &image.code {
        image.chunks(*span, NEAR + 16, |addr, bytes, own| {
            // Where each load ends, and of which label it is.
            let mut loads: Vec<(usize, usize)> = Vec::new();
            for at in memchr_iter(LEA[1], bytes.get(..own).unwrap_or_default()) {
                let prefix = at.checked_sub(1).and_then(|i| bytes.get(i));
                if !bytes.get(at + 1).is_some_and(|b| OPERANDS.contains(b)) || prefix != Some(&LEA[0]) {
                    continue;
                }
                let (Some(distance), end) = (int(bytes, at + 2), at + 6) else { continue };
                let target = addr.wrapping_add(end as u64).wrapping_add_signed(i64::from(distance));
                loads.extend(label_at(texts, target).map(|label| (end, label)));
            }
            if image.fixed {
                for text in texts {
                    let Ok(imm) = u32::try_from(text.addr) else { continue };
                    for at in memmem::find_iter(bytes.get(..own).unwrap_or_default(), &imm.to_le_bytes()) {
                        let opcode = at.checked_sub(1).and_then(|i| bytes.get(i));
                        if opcode.is_some_and(|b| MOV.contains(b)) {
                            loads.push((at + 4, text.label));
                        }
                    }
                }
            }
            for (end, label) in loads.into_iter().take(MAX_LOADS) {
                let behind = bytes.get(end..).unwrap_or_default();
                let behind = behind.get(..NEAR).unwrap_or(behind);
                let callee = memchr_iter(0xe8, behind).find_map(|at| {
                    let target =
                        addr.wrapping_add((end + at + 5) as u64).wrapping_add_signed(i64::from(int(behind, at + 1)?));
                    begins_function(image, target).then_some(target)
                });
                votes.extend(callee.map(|callee| Vote { label, callee, site: addr.wrapping_add(end as u64) }));
            }
        })?;
        votes.truncate(MAX_LOADS);
    }
    Ok(votes)
}

/// Whether a function may begin here. Compilers align them; bytes that only look like a call lead to any address.
fn begins_function(image: &Image<'_>, addr: u64) -> bool {
    image.code_offset(addr).is_some() && (addr.is_multiple_of(16) || image.at(addr, 4) == [0xf3, 0x0f, 0x1e, 0xfa])
}

/// `adrp`, `add x1|x0, …` (or `adr x1|x0`); then the first `bl`.
fn arm(image: &Image<'_>, texts: &[Text]) -> std::io::Result<Vec<Vote>> {
    let mut votes = Vec::new();
    for span in &image.code {
        image.chunks(*span, NEAR + 64, |addr, bytes, own| {
            let words: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w)).collect();
            for (i, word) in words.iter().enumerate().take(own / 4) {
                let pc = addr.wrapping_add(4 * i as u64);
                let Some((register, page)) = adrp(*word, pc) else { continue };
                if !texts.iter().any(|t| t.addr & !0xfff == page) {
                    continue;
                }
                // The compiler may put other instructions in between.
                for (j, next) in words.iter().enumerate().skip(i + 1).take(8) {
                    // The first argument, or the second.
                    let Some((_, target)) = add(*next, register, page).filter(|(to, _)| *to <= 1) else { continue };
                    let Some(label) = label_at(texts, target) else { continue };
                    let call = words.iter().enumerate().skip(j + 1).take(NEAR / 4).find_map(|(k, w)| {
                        let target = bl(*w, addr.wrapping_add(4 * k as u64))?;
                        image.code_offset(target).is_some().then_some(target)
                    });
                    votes.extend(call.map(|callee| Vote { label, callee, site: pc }));
                }
            }
        })?;
        votes.truncate(MAX_LOADS);
    }
    Ok(votes)
}

/// `adrp`: the register, and the page that it then holds (Arm ARM C6.2.11).
pub(super) fn adrp(word: u32, pc: u64) -> Option<(u32, u64)> {
    if word & 0x9f00_0000 != 0x9000_0000 {
        return None;
    }
    let pages = (word >> 5 & 0x7_ffff) << 2 | word >> 29 & 3;
    // 21 bits with their sign.
    let pages = i64::from((pages << 11) as i32 >> 11);
    Some((word & 0x1f, (pc & !0xfff).wrapping_add_signed(pages << 12)))
}

/// `add to, register, #…`: which register then holds which address.
pub(super) fn add(word: u32, register: u32, page: u64) -> Option<(u32, u64)> {
    let (to, from) = (word & 0x1f, word >> 5 & 0x1f);
    (word & 0xffc0_0000 == 0x9100_0000 && from == register)
        .then(|| (to, page.wrapping_add(u64::from(word >> 10 & 0xfff))))
}

/// `bl`: where to.
fn bl(word: u32, pc: u64) -> Option<u64> {
    let words = i64::from((word << 6) as i32 >> 6);
    (word & 0xfc00_0000 == 0x9400_0000).then(|| pc.wrapping_add_signed(words * 4))
}
