//! The two container formats, sans-IO: bytes in, packets and drop counts out.
//!
//! pcap: <https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/>, pcapng:
//! <https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/>. The fields are read by the crate `pcap-parser`; the
//! framing (how long is the next record?) is checked here first, so that damage can be told with its offset.

use monitor_core::model::Nanos;
use pcap_parser::pcapng::{
    InterfaceDescriptionBlock, InterfaceStatisticsBlock, parse_enhancedpacketblock_be, parse_enhancedpacketblock_le,
    parse_interfacedescriptionblock_be, parse_interfacedescriptionblock_le, parse_interfacestatisticsblock_be,
    parse_interfacestatisticsblock_le, parse_sectionheaderblock, parse_simplepacketblock_be,
    parse_simplepacketblock_le,
};
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified, parse_pcap_header};

use super::link::Link;

/// Longest record or block that is read, bytes: bounds the memory a damaged length can ask for. libpcap writes
/// packets of at most 256 KiB; blocks of name tables or TLS secrets may be longer.
pub(super) const MAX_RECORD: usize = 8 << 20;
/// Most interfaces one section may describe.
const MAX_INTERFACES: usize = 4096;

const PCAP_HEADER: usize = 24;
const SHB: u32 = 0x0a0d_0d0a;

/// One captured frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) at: Nanos,
    /// `Err`: a link layer that cannot be read, by its number.
    pub(super) link: Result<Link, u32>,
    /// Length on the wire, bytes.
    pub(super) wire_len: u32,
    /// Packets that the interface dropped just before, as far as that is told with the packet.
    pub(super) dropped: u64,
    pub(super) bytes: &'a [u8],
}

/// What the next record holds.
#[derive(Debug)]
pub(super) enum Item<'a> {
    Frame(Frame<'a>),
    /// Packets the capturing interface or system says it dropped since it said so last.
    Drops {
        at: Nanos,
        interface: u64,
        system: u64,
    },
    /// A packet whose interface the file does not describe: its link layer is unknown.
    Homeless,
    /// A block of a type that is not known.
    Unknown(u32),
    /// Nothing for us.
    Nothing,
}

/// One step through the file.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// At least so many bytes are needed at once. Never more than [`MAX_RECORD`].
    Need(usize),
    /// An item, and how many bytes it took.
    Item(usize, Item<'a>),
    /// The file ends where a record ends.
    End,
    /// The file ends inside a record: what it is, how long it should be.
    Cut(&'static str, usize),
    /// What is wrong with the record that begins here.
    Corrupt(String),
}

/// Which container, and what has been learned from its headers.
pub(super) enum Container {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

impl Container {
    /// The container whose first bytes are these, if it is one.
    pub(super) fn from_magic(first: &[u8]) -> Option<Self> {
        match *first.first_chunk::<4>()? {
            [0xa1, 0xb2, 0xc3, 0xd4]
            | [0xd4, 0xc3, 0xb2, 0xa1]
            | [0xa1, 0xb2, 0x3c, 0x4d]
            | [0x4d, 0x3c, 0xb2, 0xa1]
            | [0x34, 0xcd, 0xb2, 0xa1] => Some(Self::Pcap(Pcap { header: None })),
            [0x0a, 0x0d, 0x0d, 0x0a] => Some(Self::PcapNg(PcapNg::default())),
            _ => None,
        }
    }

    /// Looks at the beginning of `data`. `eof`: nothing follows `data`.
    pub(super) fn step<'a>(&mut self, data: &'a [u8], eof: bool) -> Step<'a> {
        match self {
            Self::Pcap(p) => p.step(data, eof),
            Self::PcapNg(p) => p.step(data, eof),
        }
    }
}

fn short(what: &'static str, need: usize, eof: bool) -> Step<'static> {
    if eof { Step::Cut(what, need) } else { Step::Need(need) }
}

#[derive(Clone, Copy)]
pub(super) struct PcapHeader {
    link: Result<Link, u32>,
    layout: Layout,
    nanos_per_unit: u64,
}

#[derive(Clone, Copy)]
enum Layout {
    Little,
    Big,
    /// Written by a patched libpcap of the 1990s: 8 more bytes in each record header.
    Modified,
}

pub(super) struct Pcap {
    header: Option<PcapHeader>,
}

impl Pcap {
    fn step<'a>(&mut self, data: &'a [u8], eof: bool) -> Step<'a> {
        let Some(header) = self.header else { return self.read_header(data, eof) };
        if data.is_empty() && eof {
            return Step::End;
        }
        let head = if matches!(header.layout, Layout::Modified) { 24 } else { 16 };
        let Some(caplen) = data.get(8..).and_then(|d| d.first_chunk::<4>()) else {
            return short("packet record", head, eof);
        };
        let caplen = match header.layout {
            Layout::Big => u32::from_be_bytes(*caplen),
            _ => u32::from_le_bytes(*caplen),
        } as usize;
        let total = head + caplen.min(MAX_RECORD);
        if total > MAX_RECORD {
            return Step::Corrupt(format!("a packet record of {caplen} bytes; the most that is read is {MAX_RECORD}"));
        }
        if data.len() < total {
            return short("packet record", total, eof);
        }
        let parsed = match header.layout {
            Layout::Little => parse_pcap_frame(data),
            Layout::Big => parse_pcap_frame_be(data),
            Layout::Modified => parse_pcap_frame_modified(data),
        };
        let Ok((_, b)) = parsed else {
            return Step::Corrupt("an unreadable packet record".to_owned());
        };
        let at = u64::from(b.ts_sec) * 1_000_000_000 + u64::from(b.ts_usec) * header.nanos_per_unit;
        Step::Item(
            total,
            Item::Frame(Frame { at: Nanos(at), link: header.link, wire_len: b.origlen, dropped: 0, bytes: b.data }),
        )
    }

    fn read_header(&mut self, data: &[u8], eof: bool) -> Step<'static> {
        if data.len() < PCAP_HEADER {
            return short("file header", PCAP_HEADER, eof);
        }
        let Ok((_, h)) = parse_pcap_header(data) else {
            return Step::Corrupt("an unreadable file header".to_owned());
        };
        let number = h.network.0 as u32;
        self.header = Some(PcapHeader {
            link: Link::from_number(number).ok_or(number & 0xffff),
            layout: match (h.is_modified_format(), h.is_bigendian()) {
                (true, _) => Layout::Modified,
                (false, true) => Layout::Big,
                (false, false) => Layout::Little,
            },
            nanos_per_unit: if h.is_nanosecond_precision() { 1 } else { 1000 },
        });
        Step::Item(PCAP_HEADER, Item::Nothing)
    }
}

#[derive(Clone, Copy)]
struct Interface {
    link: Result<Link, u32>,
    /// Zero: no limit.
    snaplen: u32,
    clock: Clock,
    drops: (u64, u64),
}

/// How an interface counts time.
#[derive(Clone, Copy)]
struct Clock {
    unit: Unit,
    offset_s: i64,
}

#[derive(Clone, Copy)]
enum Unit {
    /// So many nanoseconds.
    Nanos(u64),
    /// So many of them make a nanosecond.
    PerNano(u128),
    /// 2^-n seconds.
    Binary(u32),
}

impl Clock {
    fn new(tsresol: u8, offset_s: i64) -> Self {
        let unit = match (tsresol & 0x80 != 0, u32::from(tsresol & 0x7f)) {
            (true, n) => Unit::Binary(n),
            (false, n @ 0..=9) => Unit::Nanos(10u64.pow(9 - n)),
            // Beyond 10^-47 s any count is zero.
            (false, n) => Unit::PerNano(10u128.saturating_pow(n - 9)),
        };
        Self { unit, offset_s }
    }

    fn nanos(self, high: u32, low: u32) -> Nanos {
        let ticks = (u64::from(high) << 32) | u64::from(low);
        let since = match self.unit {
            Unit::Nanos(n) => ticks.saturating_mul(n),
            Unit::PerNano(n) => u64::try_from(u128::from(ticks) / n).unwrap_or(u64::MAX),
            Unit::Binary(n) => {
                let nanos = u128::from(ticks) * 1_000_000_000;
                u64::try_from(nanos.checked_shr(n).unwrap_or(0)).unwrap_or(u64::MAX)
            }
        };
        if self.offset_s == 0 {
            return Nanos(since);
        }
        let shifted = i128::from(since) + i128::from(self.offset_s) * 1_000_000_000;
        Nanos(u64::try_from(shifted.max(0)).unwrap_or(u64::MAX))
    }
}

#[derive(Default)]
pub(super) struct PcapNg {
    big_endian: bool,
    in_section: bool,
    interfaces: Vec<Interface>,
    /// Time of the last packet: simple packet blocks have none of their own.
    last: Nanos,
}

impl PcapNg {
    fn step<'a>(&mut self, data: &'a [u8], eof: bool) -> Step<'a> {
        if data.is_empty() && eof {
            return Step::End;
        }
        let Some(&[t0, t1, t2, t3, l0, l1, l2, l3, m0, m1, m2, m3]) = data.first_chunk::<12>() else {
            return short("block", 12, eof);
        };
        if [t0, t1, t2, t3] == SHB.to_be_bytes() {
            // The type reads the same both ways; the byte-order magic after the length tells.
            match [m0, m1, m2, m3] {
                [0x1a, 0x2b, 0x3c, 0x4d] => self.big_endian = true,
                [0x4d, 0x3c, 0x2b, 0x1a] => self.big_endian = false,
                _ => return Step::Corrupt("a section header without a byte-order mark".to_owned()),
            }
        } else if !self.in_section {
            return Step::Corrupt("a block before any section header".to_owned());
        }
        let (kind, total) = if self.big_endian {
            (u32::from_be_bytes([t0, t1, t2, t3]), u32::from_be_bytes([l0, l1, l2, l3]))
        } else {
            (u32::from_le_bytes([t0, t1, t2, t3]), u32::from_le_bytes([l0, l1, l2, l3]))
        };
        let total = total as usize;
        if total < 12 || !total.is_multiple_of(4) {
            return Step::Corrupt(format!("a block of type {kind:#x} with the impossible length {total}"));
        }
        if total > MAX_RECORD {
            return Step::Corrupt(format!(
                "a block of type {kind:#x} of {total} bytes; the most that is read is {MAX_RECORD}"
            ));
        }
        let Some(block) = data.get(..total) else { return short("block", total, eof) };
        match self.block(kind, block) {
            Ok(item) => Step::Item(total, item),
            Err(what) => Step::Corrupt(what),
        }
    }

    fn block<'a>(&mut self, kind: u32, block: &'a [u8]) -> Result<Item<'a>, String> {
        let bad = |what: &str| format!("an unreadable {what} block");
        match kind {
            6 => {
                let parsed = if self.big_endian {
                    parse_enhancedpacketblock_be(block)
                } else {
                    parse_enhancedpacketblock_le(block)
                };
                let Ok((_, b)) = parsed else { return Err(bad("packet")) };
                let Some(i) = self.interfaces.get(b.if_id as usize) else {
                    return Ok(Item::Homeless);
                };
                self.last = i.clock.nanos(b.ts_high, b.ts_low);
                let bytes = b.data.get(..b.caplen as usize).unwrap_or(b.data);
                Ok(Item::Frame(Frame { at: self.last, link: i.link, wire_len: b.origlen, dropped: 0, bytes }))
            }
            3 => {
                let parsed =
                    if self.big_endian { parse_simplepacketblock_be(block) } else { parse_simplepacketblock_le(block) };
                let Ok((_, b)) = parsed else { return Err(bad("packet")) };
                let Some(i) = self.interfaces.first() else { return Ok(Item::Homeless) };
                let caplen = if i.snaplen == 0 { b.orig_len() } else { b.orig_len().min(i.snaplen) };
                let bytes = b.data.get(..caplen as usize).unwrap_or(b.data);
                Ok(Item::Frame(Frame { at: self.last, link: i.link, wire_len: b.orig_len(), dropped: 0, bytes }))
            }
            2 => self.old_packet(block).ok_or_else(|| bad("packet")),
            1 => {
                let parsed = if self.big_endian {
                    parse_interfacedescriptionblock_be(block)
                } else {
                    parse_interfacedescriptionblock_le(block)
                };
                let Ok((_, b)) = parsed else { return Err(bad("interface description")) };
                if self.interfaces.len() >= MAX_INTERFACES {
                    return Err(format!("more than {MAX_INTERFACES} interfaces"));
                }
                self.interfaces.push(self.interface(&b));
                Ok(Item::Nothing)
            }
            5 => {
                let parsed = if self.big_endian {
                    parse_interfacestatisticsblock_be(block)
                } else {
                    parse_interfacestatisticsblock_le(block)
                };
                let Ok((_, b)) = parsed else { return Err(bad("interface statistics")) };
                Ok(self.statistics(&b))
            }
            SHB => {
                if parse_sectionheaderblock(block).is_err() {
                    return Err(bad("section header"));
                }
                self.in_section = true;
                self.interfaces.clear();
                Ok(Item::Nothing)
            }
            // Names, logs, secrets, events and what somebody wrote for himself: no packets.
            4 | 7 | 9 | 10 | 0xbad | 0x4000_0bad | 0x8000_0001 => Ok(Item::Nothing),
            _ => Ok(Item::Unknown(kind)),
        }
    }

    /// A packet block, as files had it before there were enhanced ones (pcapng, appendix A).
    fn old_packet<'a>(&mut self, block: &'a [u8]) -> Option<Item<'a>> {
        let n16 = |at: usize| {
            let bytes = *block.get(at..)?.first_chunk::<2>()?;
            Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
        };
        let n32 = |at: usize| {
            let bytes = *block.get(at..)?.first_chunk::<4>()?;
            Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
        };
        let (id, drops, caplen, wire_len) = (n16(8)?, n16(10)?, n32(20)?, n32(24)?);
        let bytes = block.get(28..block.len().checked_sub(4)?)?.get(..caplen as usize)?;
        let Some(i) = self.interfaces.get(usize::from(id)) else { return Some(Item::Homeless) };
        let at = i.clock.nanos(n32(12)?, n32(16)?);
        // All ones: not known.
        let dropped = if drops == u16::MAX { 0 } else { u64::from(drops) };
        let frame = Frame { at, link: i.link, wire_len, dropped, bytes };
        self.last = at;
        Some(Item::Frame(frame))
    }

    fn interface(&self, b: &InterfaceDescriptionBlock<'_>) -> Interface {
        let number = b.linktype.0 as u32;
        // The crate reads the offset as little-endian whatever the section says (0.17).
        let offset = if self.big_endian { b.if_tsoffset.swap_bytes() } else { b.if_tsoffset };
        Interface {
            link: Link::from_number(number).ok_or(number),
            snaplen: b.snaplen,
            clock: Clock::new(b.if_tsresol, offset),
            drops: (0, 0),
        }
    }

    fn statistics(&mut self, b: &InterfaceStatisticsBlock<'_>) -> Item<'static> {
        let big_endian = self.big_endian;
        let Some(i) = self.interfaces.get_mut(b.if_id as usize) else { return Item::Nothing };
        // As above: the crate reads options as little-endian.
        let fix = |n: u64| if big_endian { n.swap_bytes() } else { n };
        let interface = b.isb_ifdrop().and_then(Result::ok).map_or(i.drops.0, fix);
        let system = b.isb_osdrop().and_then(Result::ok).map_or(i.drops.1, fix);
        // The counts are totals since the capture began.
        let new = (interface.saturating_sub(i.drops.0), system.saturating_sub(i.drops.1));
        i.drops = (interface, system);
        if new == (0, 0) {
            return Item::Nothing;
        }
        Item::Drops { at: i.clock.nanos(b.ts_high, b.ts_low), interface: new.0, system: new.1 }
    }
}
