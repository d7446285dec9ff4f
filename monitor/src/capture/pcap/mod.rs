//! `.pcap` and `.pcapng` captures as a source.
//!
//! A capture has no sockets and no cgroups: every connection becomes one flow, told as if seen at its client's socket,
//! with a cookie counted from 1. Packets are taken in the file's order. IP fragments are not put together again:
//! each one that holds TCP is counted as lost. Checksums are not looked at, since offloading leaves them wrong. The same
//! addresses and ports in two VLANs, or at two interfaces, are one connection.

mod container;
mod early;
mod flows;
mod link;
mod tunnel;
mod window;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use monitor_core::model::{Event, LossStage, Nanos};

use self::container::{Container, Item, Step};
use self::flows::Flows;
use self::link::Parsed;
use self::tunnel::Unread;
use self::window::Window;
use super::file::{Tally, Warnings};
use super::{CaptureError, Progress, Source, SourceStats, TableFill};

/// Records handled by one call of `poll`.
const BATCH: usize = 4096;

/// A capture file that is being replayed.
pub struct PcapSource<R> {
    window: Window<R>,
    container: Container,
    state: State,
    tally: Tally,
    ended: bool,
}

/// What is known besides the bytes not yet read.
struct State {
    flows: Flows,
    warnings: Warnings,
    /// Time of the latest packet.
    now: Nanos,
    last_tick: Option<Nanos>,
    /// What could not be read: how much of each kind, and where the first stands.
    unread: BTreeMap<Unread, (u64, u64)>,
    /// The first thing that is wrong with the file itself, or of a form that is not known.
    faulty: Option<String>,
}

/// Most kinds of it told apart.
const MAX_UNREAD: usize = 12;

impl<R: Read> PcapSource<R> {
    /// Takes a capture that begins with the bytes `first`, which `reader` still delivers. `None`: it is none.
    pub fn new(first: &[u8], reader: R) -> Option<Self> {
        Self::with_capacity(first, reader, flows::MAX_FLOWS)
    }

    fn with_capacity(first: &[u8], reader: R, max_flows: usize) -> Option<Self> {
        Some(Self {
            container: Container::from_magic(first)?,
            window: Window::new(reader),
            state: State {
                flows: Flows::new(max_flows),
                warnings: Warnings::default(),
                now: Nanos(0),
                last_tick: None,
                unread: BTreeMap::new(),
                faulty: None,
            },
            tally: Tally::default(),
            ended: false,
        })
    }

    fn end(&mut self, damage: Option<(String, &'static str)>, sink: &mut dyn FnMut(Event<'_>)) -> Progress {
        self.ended = true;
        self.state.end(damage, sink);
        Progress::End
    }

    fn batch(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> Progress {
        for _ in 0..BATCH {
            let offset = self.window.offset();
            let want = match self.container.step(self.window.data(), self.window.at_eof()) {
                Step::Item(n, item) => {
                    self.state.item(offset, item, sink);
                    self.window.consume(n);
                    continue;
                }
                Step::Need(want) => want,
                Step::End => return self.end(None, sink),
                Step::Cut(what, need) => {
                    let have = self.window.data().len();
                    let message = format!(
                        "the capture ends inside a {what}: it begins at byte {offset}, and {have} of its {need} bytes \
                         are there"
                    );
                    return self.end(Some((message, "capture_cut")), sink);
                }
                Step::Corrupt(what) => {
                    let message = format!("the capture is damaged at byte {offset}: {what}; nothing after it was read");
                    return self.end(Some((message, "capture_corrupt")), sink);
                }
            };
            if let Err(e) = self.window.fill(want) {
                let message = format!("the capture could not be read on from byte {offset}: {e}");
                return self.end(Some((message, "capture_unreadable")), sink);
            }
        }
        Progress::Busy
    }
}

impl<R: Read> Source for PcapSource<R> {
    fn poll(&mut self, _: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<Progress, CaptureError> {
        if self.ended {
            return Ok(Progress::End);
        }
        let mut tally = std::mem::take(&mut self.tally);
        let progress = self.batch(&mut |event| {
            tally.note(&event);
            sink(event);
        });
        self.tally = tally;
        Ok(progress)
    }

    fn stats(&mut self) -> SourceStats {
        let (entries, limit) = self.state.flows.fill();
        SourceStats { tables: vec![TableFill { table: "capture_flows", entries, limit }], ..self.tally.stats() }
    }

    fn warnings(&mut self) -> Vec<String> {
        self.state.warnings.take()
    }

    fn unread(&self) -> Option<&str> {
        self.state.faulty.as_deref()
    }
}

impl State {
    #[inline]
    fn item(&mut self, offset: u64, item: Item<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        match item {
            Item::Frame(frame) => {
                self.advance(frame.at, sink);
                let at = frame.at;
                let link = match frame.link {
                    Ok(link) => link,
                    Err(number) => return self.skip(Unread::Link(number), offset),
                };
                lost(at, "interface_drop", frame.dropped, sink);
                match link::parse(link, frame.bytes, frame.wire_len) {
                    Parsed::Tcp(packet) => self.flows.packet(at, &packet, sink),
                    Parsed::Other => {}
                    Parsed::Unread(kind) => self.skip(kind, offset),
                    Parsed::Fragment => lost(at, "ip_fragment", 1, sink),
                    Parsed::Short => lost(at, "headers_cut", 1, sink),
                    Parsed::Malformed => lost(at, "headers_malformed", 1, sink),
                }
            }
            Item::Drops { at, interface, system } => {
                // Statistics may be stamped before the packets they follow.
                let at = at.max(self.now);
                lost(at, "interface_drop", interface, sink);
                lost(at, "system_drop", system, sink);
            }
            Item::Homeless => {
                self.fault(format!("the packet at byte {offset} is of an interface the file does not describe"));
                lost(self.now, "interface_unknown", 1, sink);
            }
            Item::Unknown(kind) => self.skip(Unread::Block(kind), offset),
            Item::Nothing => {}
        }
    }

    /// The file is not as it should be, or not of a form that is known.
    fn fault(&mut self, message: String) {
        self.faulty.get_or_insert_with(|| message.clone());
        self.warnings.push(message);
    }

    /// Something at `offset` cannot be read.
    fn skip(&mut self, kind: Unread, offset: u64) {
        let full = self.unread.len() >= MAX_UNREAD && !self.unread.contains_key(&kind);
        let (n, _) = self.unread.entry(if full { Unread::Others } else { kind }).or_insert((0, offset));
        *n += 1;
    }

    /// Time passes also where nobody sends payload.
    fn advance(&mut self, at: Nanos, sink: &mut dyn FnMut(Event<'_>)) {
        self.now = self.now.max(at);
        match self.last_tick {
            None => self.last_tick = Some(at),
            Some(last) if at.since(last) >= Nanos::secs(1) => {
                self.last_tick = Some(at);
                sink(Event::Tick { at });
            }
            Some(_) => {}
        }
    }

    fn end(&mut self, damage: Option<(String, &'static str)>, sink: &mut dyn FnMut(Event<'_>)) {
        // Packets nobody could read belong to no flow that is followed: one count at the end, as warning of what is
        // missing, must not make every flow before it doubtful.
        let (mut links, mut others) = (0, 0);
        for (kind, (n, first)) in std::mem::take(&mut self.unread) {
            let what = if matches!(kind, Unread::Block(_)) { "blocks" } else { "packets" };
            let message = format!("{kind}; {what} skipped: {n}, from byte {first} on");
            match kind {
                Unread::Link(_) => {
                    links += n;
                    self.fault(message);
                    continue;
                }
                // Most blocks hold no packets.
                Unread::Block(_) => {}
                _ => others += n,
            }
            self.warnings.push(message);
        }
        lost(self.now, "link_type", links, sink);
        lost(self.now, "unreadable_packet", others, sink);
        if let Some((message, reason)) = damage {
            self.fault(message);
            lost(self.now, reason, 1, sink);
        }
        self.flows.finish(self.now, sink);
    }
}

fn lost(at: Nanos, reason: &'static str, count: u64, sink: &mut dyn FnMut(Event<'_>)) {
    if count > 0 {
        sink(Event::Lost { at, stage: LossStage::Capture, reason, count, of: None });
    }
}
