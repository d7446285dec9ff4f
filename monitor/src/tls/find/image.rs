//! An ELF file, read a piece at a time: it belongs to a tenant, who may have made it up, and may change it while it is
//! read. Nothing is mapped into memory (a file that becomes shorter would end the agent), nothing is longer than a
//! bound, and nothing is taken on trust.

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::unix::fs::FileExt as _;

use object::LittleEndian;
use object::elf::{
    EM_AARCH64, EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, PF_W, PF_X, PT_GNU_EH_FRAME, PT_LOAD, PT_NOTE,
    ProgramHeader64, Rela64, SHT_NOBITS, SectionHeader64,
};
use object::pod::{Pod, from_bytes, slice_from_bytes};

/// Largest file that is looked at, bytes: larger than any executable there is.
const MAX_FILE: u64 = 2 << 30;
/// Bytes that are read at a time.
pub(super) const CHUNK: usize = 1 << 20;
/// Most program headers, and most sections, of which any are believed.
const MAX_HEADERS: u16 = 4096;
/// Longest section that is read whole, bytes.
pub(super) const MAX_WHOLE: u64 = 64 << 20;

/// A processor whose code can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    X86,
    Arm,
}

/// A part of the file that is mapped where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Its virtual address.
    pub(super) addr: u64,
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// Bytes of it that are in the file.
    pub(super) size: u64,
}

impl Span {
    /// Where in the file the byte at a virtual address stands.
    pub(super) fn offset_of(&self, addr: u64) -> Option<u64> {
        let within = addr.checked_sub(self.addr).filter(|n| *n < self.size)?;
        self.offset.checked_add(within)
    }
}

/// A section, where the file has a table of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) name: Vec<u8>,
    pub(super) kind: u32,
    pub(super) link: usize,
    pub(super) span: Span,
}

/// An ELF file of 64 bits, little-endian, for a processor whose code can be read.
#[derive(Debug)]
pub(super) struct Image<'f> {
    file: &'f File,
    pub(super) machine: Machine,
    /// Loaded where it says, not anywhere else: addresses may stand in the code as they are.
    pub(super) fixed: bool,
    /// What is mapped and may be run.
    pub(super) code: Vec<Span>,
    /// What is mapped, code and data.
    pub(super) mapped: Vec<Span>,
    /// What is mapped and may be written (or was, until it was relocated).
    pub(super) written: Vec<Span>,
    notes: Vec<Span>,
    unwinding: Option<Span>,
    pub(super) sections: Vec<Section>,
}

/// Why a file cannot be read as such.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImageError {
    #[error("not a program or library of this kind of machine")]
    Foreign,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl<'f> Image<'f> {
    pub(super) fn open(file: &'f File) -> Result<Self, ImageError> {
        let end = LittleEndian;
        if file.metadata()?.len() > MAX_FILE {
            return Err(ImageError::Foreign);
        }
        let bytes = read(file, 0, size_of::<FileHeader64<LittleEndian>>())?;
        let header = from_bytes::<FileHeader64<LittleEndian>>(&bytes).map_err(|()| ImageError::Foreign)?.0;
        // Magic, 64 bits, little-endian.
        if !bytes.starts_with(b"\x7fELF\x02\x01") {
            return Err(ImageError::Foreign);
        }
        let machine = match header.e_machine.get(end) {
            EM_X86_64 => Machine::X86,
            EM_AARCH64 => Machine::Arm,
            _ => return Err(ImageError::Foreign),
        };
        let kind = header.e_type.get(end);
        if kind != ET_DYN && kind != ET_EXEC {
            return Err(ImageError::Foreign);
        }
        let mut image = Self {
            file,
            machine,
            fixed: kind == ET_EXEC,
            code: Vec::new(),
            mapped: Vec::new(),
            written: Vec::new(),
            notes: Vec::new(),
            unwinding: None,
            sections: Vec::new(),
        };
        let programs: Vec<ProgramHeader64<LittleEndian>> =
            image.table(header.e_phoff.get(end), header.e_phnum.get(end), header.e_phentsize.get(end))?;
        for p in programs {
            let span =
                Span { addr: p.p_vaddr.get(end), offset: p.p_offset.get(end), size: p.p_filesz.get(end).min(MAX_FILE) };
            match p.p_type.get(end) {
                PT_LOAD => {
                    let flags = p.p_flags.get(end);
                    image.mapped.push(span);
                    if flags & PF_X != 0 {
                        image.code.push(span);
                    }
                    if flags & PF_W != 0 {
                        image.written.push(span);
                    }
                }
                PT_NOTE => image.notes.push(span),
                PT_GNU_EH_FRAME => image.unwinding = Some(span),
                _ => {}
            }
        }
        // The table of sections is not needed to run, so it may be missing or wrong: then there is none.
        image.sections = image.sections(header).unwrap_or_default();
        Ok(image)
    }

    fn sections(&self, header: &FileHeader64<LittleEndian>) -> io::Result<Vec<Section>> {
        let end = LittleEndian;
        let headers: Vec<SectionHeader64<LittleEndian>> =
            self.table(header.e_shoff.get(end), header.e_shnum.get(end), header.e_shentsize.get(end))?;
        let span = |s: &SectionHeader64<LittleEndian>| Span {
            addr: s.sh_addr.get(end),
            offset: s.sh_offset.get(end),
            size: if s.sh_type.get(end) == SHT_NOBITS { 0 } else { s.sh_size.get(end).min(MAX_FILE) },
        };
        let names = headers.get(usize::from(header.e_shstrndx.get(end))).map(span);
        let names = names.and_then(|s| self.whole(s).ok()).unwrap_or_default();
        let name = |at: u32| {
            let text = names.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or_default();
            text.split(|b| *b == 0).next().unwrap_or_default().to_vec()
        };
        Ok(headers
            .iter()
            .map(|s| Section {
                name: name(s.sh_name.get(end)),
                kind: s.sh_type.get(end),
                link: usize::try_from(s.sh_link.get(end)).unwrap_or(usize::MAX),
                span: span(s),
            })
            .collect())
    }

    /// `count` entries of a table, if they have the size that they should.
    fn table<T: Pod + Copy>(&self, offset: u64, count: u16, entry: u16) -> io::Result<Vec<T>> {
        if usize::from(entry) != size_of::<T>() || count > MAX_HEADERS {
            return Ok(Vec::new());
        }
        let bytes = read(self.file, offset, usize::from(count) * size_of::<T>())?;
        let all = bytes.len() / size_of::<T>();
        Ok(slice_from_bytes::<T>(&bytes, all).map(|(t, _)| t.to_vec()).unwrap_or_default())
    }

    /// The bytes of a span: none where it is too long, fewer where the file ends.
    pub(super) fn whole(&self, span: Span) -> io::Result<Vec<u8>> {
        if span.size > MAX_WHOLE {
            return Ok(Vec::new());
        }
        read(self.file, span.offset, usize::try_from(span.size).map_err(io::Error::other)?)
    }

    /// The bytes of a span one chunk after the other, each with the address of its first byte, and with so many of the
    /// next one behind its own: `f` gets all of them and how many are its own.
    pub(super) fn chunks(&self, span: Span, more: usize, mut f: impl FnMut(u64, &[u8], usize)) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK + more];
        let mut done = 0u64;
        while done < span.size {
            let left = usize::try_from(span.size - done).unwrap_or(usize::MAX);
            let want = left.min(CHUNK + more);
            let Some(room) = buffer.get_mut(..want) else { return Ok(()) };
            let Some(offset) = span.offset.checked_add(done) else { return Ok(()) };
            let n = read_into(self.file, offset, room)?;
            let Some(bytes) = buffer.get(..n) else { return Ok(()) };
            let own = n.min(CHUNK);
            f(span.addr.wrapping_add(done), bytes, own);
            if n < want || n == 0 {
                // The file ends before its headers say so.
                return Ok(());
            }
            done += own as u64;
        }
        Ok(())
    }

    /// Up to `n` bytes at a virtual address. Fewer, where there are no more.
    pub(super) fn at(&self, addr: u64, n: usize) -> Vec<u8> {
        let Some(span) = self.mapped.iter().find(|s| s.offset_of(addr).is_some()) else { return Vec::new() };
        let (Some(offset), Some(room)) = (span.offset_of(addr), (span.addr + span.size).checked_sub(addr)) else {
            return Vec::new();
        };
        read(self.file, offset, n.min(usize::try_from(room).unwrap_or(usize::MAX))).unwrap_or_default()
    }

    /// Where in the file the code at this address stands; `None`: there is none.
    pub(super) fn code_offset(&self, addr: u64) -> Option<u64> {
        self.code.iter().find_map(|s| s.offset_of(addr))
    }

    /// Places of 8 bytes that hold one of `targets` once the program is loaded, in order of address, each with what it
    /// holds: by relocation, or because it stands there.
    pub(super) fn pointers_to(&self, targets: &dyn Fn(u64) -> bool) -> io::Result<Vec<(u64, u64)>> {
        self.pointers_in(0, u64::MAX, targets)
    }

    /// The same, of places from one address on to another.
    pub(super) fn pointers_in(&self, from: u64, to: u64, targets: &dyn Fn(u64) -> bool) -> io::Result<Vec<(u64, u64)>> {
        let end = LittleEndian;
        let relative = match self.machine {
            Machine::X86 => object::elf::R_X86_64_RELATIVE,
            Machine::Arm => object::elf::R_AARCH64_RELATIVE,
        };
        let mut found = Vec::new();
        for section in self.sections.iter().filter(|s| s.kind == object::elf::SHT_RELA) {
            let mut rest = section.span;
            // A whole number of entries at a time.
            let step = (CHUNK / size_of::<Rela64<LittleEndian>>() * size_of::<Rela64<LittleEndian>>()) as u64;
            while rest.size > 0 {
                let now = Span { size: rest.size.min(step), ..rest };
                let bytes = self.whole(now)?;
                let all = bytes.len() / size_of::<Rela64<LittleEndian>>();
                if let Ok((entries, _)) = slice_from_bytes::<Rela64<LittleEndian>>(&bytes, all) {
                    found.extend(
                        entries
                            .iter()
                            .filter(|r| r.r_type(end, false) == relative)
                            .map(|r| (r.r_offset.get(end), r.r_addend.get(end) as u64))
                            .filter(|(place, target)| (from..to).contains(place) && targets(*target)),
                    );
                }
                let Some(offset) = rest.offset.checked_add(now.size) else { break };
                rest = Span { offset, size: rest.size - now.size, ..rest };
            }
        }
        for span in self.written.iter().filter(|s| s.addr < to && s.addr.saturating_add(s.size) > from) {
            self.chunks(*span, 0, |addr, bytes, own| {
                let words = bytes.get(..own).unwrap_or_default().chunks_exact(8);
                found.extend((0u64..).zip(words).filter_map(|(i, word)| {
                    let value = u64::from_le_bytes(*word.first_chunk::<8>()?);
                    let place = addr.wrapping_add(8 * i);
                    ((from..to).contains(&place) && targets(value)).then_some((place, value))
                }));
            })?;
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Where functions begin, in order: from the table that unwinding searches (`.eh_frame_hdr`, LSB 10.6.2), in the one form
    /// that linkers write. Empty where there is none.
    pub(super) fn function_starts(&self) -> io::Result<Vec<u64>> {
        /// Version 1; a pointer and a count of 4 bytes; pairs of 4 bytes, signed, from the table's own beginning.
        const FORM: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
        let Some(span) = self.unwinding else { return Ok(Vec::new()) };
        let bytes = self.whole(span)?;
        if !bytes.starts_with(&FORM) {
            return Ok(Vec::new());
        }
        let pairs = bytes.get(12..).unwrap_or_default().as_chunks::<8>().0;
        let first = |pair: &[u8; 8]| Some(i32::from_le_bytes(*pair.first_chunk::<4>()?));
        let mut starts: Vec<u64> =
            pairs.iter().filter_map(first).map(|at| span.addr.wrapping_add_signed(i64::from(at))).collect();
        starts.sort_unstable();
        Ok(starts)
    }

    /// The build id, where the linker has left one.
    pub(super) fn build_id(&self) -> Option<Vec<u8>> {
        const NT_GNU_BUILD_ID: u32 = 3;
        for notes in &self.notes {
            let bytes = self.whole(Span { size: notes.size.min(4096), ..*notes }).ok()?;
            let mut rest = bytes.as_slice();
            while let Some((head, behind)) = rest.split_at_checked(12) {
                let word =
                    |at: usize| head.get(at..).and_then(|b| b.first_chunk::<4>()).map(|b| u32::from_le_bytes(*b));
                let (Some(name), Some(desc), Some(kind)) = (word(0), word(4), word(8)) else { break };
                let size = |n: u32| usize::try_from(n).unwrap_or(usize::MAX).min(1 << 20).next_multiple_of(4);
                let Some((its_name, behind)) = behind.split_at_checked(size(name)) else { break };
                let Some((its_desc, behind)) = behind.split_at_checked(size(desc)) else { break };
                if kind == NT_GNU_BUILD_ID && its_name == b"GNU\0" {
                    return Some(its_desc.to_vec());
                }
                rest = behind;
            }
        }
        None
    }
}

/// Up to `n` bytes of the file; fewer, where it ends.
fn read(file: &File, offset: u64, n: usize) -> io::Result<Vec<u8>> {
    // What the headers ask for is not what is there: no more memory than the file has bytes.
    let there = file.metadata()?.len().saturating_sub(offset);
    let mut bytes = vec![0; n.min(usize::try_from(there).unwrap_or(usize::MAX))];
    let read = read_into(file, offset, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Fills `room` from the file; fewer, where it ends.
fn read_into(file: &File, offset: u64, room: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = room.get_mut(done..).filter(|r| !r.is_empty()) {
        // Beyond what any file has: headers may say anything.
        let Some(at) = offset.checked_add(done as u64).filter(|at| i64::try_from(*at).is_ok()) else { break };
        match file.read_at(rest, at) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
