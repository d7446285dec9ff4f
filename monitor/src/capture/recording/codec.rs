//! One event as bytes, and back: version 4, and reading those before it: version 1 knew no threads, 2 and 3 no names of
//! Unix sockets.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::{Mutex, PoisonError};

use monitor_core::model::{
    CgroupId, CloseReason, Direction, Event, HandshakeSecret, LossStage, Nanos, ProcessId, Role, Secret, SecretLabel,
    Segment, SocketCookie, ThreadId,
};

use super::header::prefix;
use super::{MAX_PATH, MAX_PAYLOAD, MAX_REASON};

mod kind {
    pub(super) const CGROUP_SEEN: u8 = 1;
    pub(super) const CGROUP_GONE: u8 = 2;
    pub(super) const OPENED: u8 = 3;
    pub(super) const SEGMENT: u8 = 4;
    pub(super) const CLOSED: u8 = 5;
    pub(super) const LOST: u8 = 6;
    pub(super) const TICK: u8 = 7;
    /// Since version 2.
    pub(super) const READER: u8 = 8;
    /// Since version 3.
    pub(super) const SECRET: u8 = 9;
    /// Since version 4.
    pub(super) const NAMED: u8 = 10;
}

const HAS_CGROUP: u8 = 1;
const HAS_TX_START: u8 = 2;
const HAS_RX_START: u8 = 4;
const HAS_ACK: u8 = 1;
/// Since version 2.
const HAS_THREAD: u8 = 2;
const HAS_RANDOM: u8 = 2;
const HAS_PROCESS: u8 = 4;

/// Appends `event` as one record, its length first. Text and payload beyond the format's limits are cut.
pub(super) fn encode(event: &Event<'_>, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&[0; 4]);
    match *event {
        Event::CgroupSeen { at, id, path } => {
            head(out, kind::CGROUP_SEEN, at);
            out.extend_from_slice(&id.0.to_le_bytes());
            out.extend_from_slice(prefix(path, MAX_PATH).as_bytes());
        }
        Event::CgroupGone { at, id } => {
            head(out, kind::CGROUP_GONE, at);
            out.extend_from_slice(&id.0.to_le_bytes());
        }
        Event::Named { at, address: named, name } => {
            head(out, kind::NAMED, at);
            address(out, named);
            out.extend_from_slice(prefix(name, MAX_PATH).as_bytes());
        }
        Event::Opened { at, cookie, cgroup, local, peer, role, tx_start, rx_start } => {
            head(out, kind::OPENED, at);
            out.extend_from_slice(&cookie.0.to_le_bytes());
            out.push(
                flag(cgroup.is_some(), HAS_CGROUP)
                    | flag(tx_start.is_some(), HAS_TX_START)
                    | flag(rx_start.is_some(), HAS_RX_START),
            );
            out.push(match role {
                Role::Unknown => 0,
                Role::Client => 1,
                Role::Server => 2,
            });
            out.extend_from_slice(&cgroup.map_or(0, |c| c.0).to_le_bytes());
            out.extend_from_slice(&tx_start.unwrap_or(0).to_le_bytes());
            out.extend_from_slice(&rx_start.unwrap_or(0).to_le_bytes());
            address(out, local);
            address(out, peer);
        }
        Event::Segment(s) => {
            head(out, kind::SEGMENT, s.at);
            out.extend_from_slice(&s.cookie.0.to_le_bytes());
            out.push(match s.dir {
                Direction::Tx => 0,
                Direction::Rx => 1,
            });
            out.push(flag(s.ack.is_some(), HAS_ACK) | flag(s.thread.is_some(), HAS_THREAD));
            out.extend_from_slice(&s.seq.to_le_bytes());
            out.extend_from_slice(&s.ack.unwrap_or(0).to_le_bytes());
            out.extend_from_slice(&s.len.to_le_bytes());
            out.extend_from_slice(&s.thread.map_or(0, |t| t.0).to_le_bytes());
            let most = MAX_PAYLOAD.min(s.len as usize);
            out.extend_from_slice(s.bytes.get(..most).unwrap_or(s.bytes));
        }
        Event::Reader { at, cookie, thread } => {
            head(out, kind::READER, at);
            out.extend_from_slice(&cookie.0.to_le_bytes());
            out.extend_from_slice(&thread.0.to_le_bytes());
        }
        Event::Closed { at, cookie, reason } => {
            head(out, kind::CLOSED, at);
            out.extend_from_slice(&cookie.0.to_le_bytes());
            out.push(match reason {
                CloseReason::Closed => 0,
                CloseReason::EndOfInput => 1,
            });
        }
        // Whose it was is not written: replayed, it is anybody's, which is never less careful.
        Event::Lost { at, stage, reason, count, of: _ } => {
            head(out, kind::LOST, at);
            out.push(match stage {
                LossStage::Kernel => 0,
                LossStage::Agent => 1,
                LossStage::Capture => 2,
            });
            out.extend_from_slice(&count.to_le_bytes());
            out.extend(reason.bytes().take(MAX_REASON).map(|b| if is_reason_byte(b) { b } else { b'_' }));
        }
        Event::TlsSecret(s) => {
            head(out, kind::SECRET, s.at);
            out.push(
                flag(s.cgroup.is_some(), HAS_CGROUP)
                    | flag(s.client_random.is_some(), HAS_RANDOM)
                    | flag(s.process.is_some(), HAS_PROCESS),
            );
            let label = SecretLabel::ALL.iter().position(|label| *label == s.label);
            out.push(label.and_then(|label| u8::try_from(label).ok()).unwrap_or(u8::MAX));
            out.extend_from_slice(&s.cgroup.map_or(0, |c| c.0).to_le_bytes());
            out.extend_from_slice(&s.process.map_or(0, |p| p.0).to_le_bytes());
            out.extend_from_slice(&s.client_random.unwrap_or_default());
            out.extend_from_slice(s.secret.bytes());
        }
        Event::Tick { at } => head(out, kind::TICK, at),
    }
    let len = (out.len() - begin - 4) as u32;
    if let Some(place) = out.get_mut(begin..begin + 4) {
        place.copy_from_slice(&len.to_le_bytes());
    }
}

fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

fn head(out: &mut Vec<u8>, kind: u8, at: Nanos) {
    out.push(kind);
    out.extend_from_slice(&at.0.to_le_bytes());
}

fn address(out: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(a) => {
            out.push(4);
            out.extend_from_slice(&a.ip().octets());
            out.extend_from_slice(&a.port().to_le_bytes());
        }
        SocketAddr::V6(a) => {
            out.push(6);
            out.extend_from_slice(&a.ip().octets());
            out.extend_from_slice(&a.port().to_le_bytes());
            out.extend_from_slice(&a.flowinfo().to_le_bytes());
            out.extend_from_slice(&a.scope_id().to_le_bytes());
        }
    }
}

fn is_reason_byte(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'
}

/// Reads one record of a file of this version, without its length. `Err`: what is wrong with it.
pub(super) fn decode(version: u16, record: &[u8]) -> Result<Event<'_>, &'static str> {
    const CUT: &str = "it is too short for its kind";
    let mut c = Cursor::new(record);
    let kind = c.u8().ok_or(CUT)?;
    let at = Nanos(c.u64().ok_or(CUT)?);
    let event = match kind {
        kind::CGROUP_SEEN => {
            let id = CgroupId(c.u64().ok_or(CUT)?);
            let path = c.rest();
            if path.len() > MAX_PATH {
                return Err("its cgroup path is too long");
            }
            let path = std::str::from_utf8(path).map_err(|_| "its cgroup path is not UTF-8")?;
            Event::CgroupSeen { at, id, path }
        }
        kind::NAMED if version >= 4 => {
            let address = c.address().ok_or("it has an unreadable address")?;
            let name = c.rest();
            if name.len() > MAX_PATH {
                return Err("its name is too long");
            }
            Event::Named { at, address, name: std::str::from_utf8(name).map_err(|_| "its name is not UTF-8")? }
        }
        kind::CGROUP_GONE => Event::CgroupGone { at, id: CgroupId(c.u64().ok_or(CUT)?) },
        kind::OPENED => {
            let cookie = SocketCookie(c.u64().ok_or(CUT)?);
            let flags = c.u8().ok_or(CUT)?;
            if flags & !(HAS_CGROUP | HAS_TX_START | HAS_RX_START) != 0 {
                return Err("it has unknown flags");
            }
            let role = match c.u8().ok_or(CUT)? {
                0 => Role::Unknown,
                1 => Role::Client,
                2 => Role::Server,
                _ => return Err("its role is unknown"),
            };
            let cgroup = CgroupId(c.u64().ok_or(CUT)?);
            let tx_start = c.u32().ok_or(CUT)?;
            let rx_start = c.u32().ok_or(CUT)?;
            const BAD_ADDRESS: &str = "it has an unreadable address";
            let local = c.address().ok_or(BAD_ADDRESS)?;
            let peer = c.address().ok_or(BAD_ADDRESS)?;
            Event::Opened {
                at,
                cookie,
                cgroup: (flags & HAS_CGROUP != 0).then_some(cgroup),
                local,
                peer,
                role,
                tx_start: (flags & HAS_TX_START != 0).then_some(tx_start),
                rx_start: (flags & HAS_RX_START != 0).then_some(rx_start),
            }
        }
        kind::SEGMENT => {
            let cookie = SocketCookie(c.u64().ok_or(CUT)?);
            let dir = match c.u8().ok_or(CUT)? {
                0 => Direction::Tx,
                1 => Direction::Rx,
                _ => return Err("its direction is unknown"),
            };
            let flags = c.u8().ok_or(CUT)?;
            let known = if version == 1 { HAS_ACK } else { HAS_ACK | HAS_THREAD };
            if flags & !known != 0 {
                return Err("it has unknown flags");
            }
            let seq = c.u32().ok_or(CUT)?;
            let ack = c.u32().ok_or(CUT)?;
            let len = c.u32().ok_or(CUT)?;
            let thread = if version == 1 { 0 } else { c.u32().ok_or(CUT)? };
            let bytes = c.rest();
            if bytes.len() as u64 > u64::from(len) {
                return Err("it has more payload than it says");
            }
            Event::Segment(Segment {
                at,
                cookie,
                dir,
                seq,
                ack: (flags & HAS_ACK != 0).then_some(ack),
                len,
                bytes,
                thread: (flags & HAS_THREAD != 0).then_some(ThreadId(thread)),
            })
        }
        kind::CLOSED => Event::Closed {
            at,
            cookie: SocketCookie(c.u64().ok_or(CUT)?),
            reason: match c.u8().ok_or(CUT)? {
                0 => CloseReason::Closed,
                1 => CloseReason::EndOfInput,
                _ => return Err("its reason is unknown"),
            },
        },
        kind::LOST => {
            let stage = match c.u8().ok_or(CUT)? {
                0 => LossStage::Kernel,
                1 => LossStage::Agent,
                2 => LossStage::Capture,
                _ => return Err("its stage is unknown"),
            };
            let count = c.u64().ok_or(CUT)?;
            let reason = c.rest();
            if reason.len() > MAX_REASON || !reason.iter().all(|&b| is_reason_byte(b)) {
                return Err("its reason is not a name");
            }
            let reason = std::str::from_utf8(reason).map_err(|_| "its reason is not a name")?;
            Event::Lost { at, stage, reason: NAMES.constant(reason), count, of: None }
        }
        kind::TICK => Event::Tick { at },
        kind::READER if version > 1 => {
            Event::Reader { at, cookie: SocketCookie(c.u64().ok_or(CUT)?), thread: ThreadId(c.u32().ok_or(CUT)?) }
        }
        _ => return Err("its kind is unknown"),
    };
    if c.rest().is_empty() { Ok(event) } else { Err("it is too long for its kind") }
}

/// Reads the record of a secret, if it is one; `None`: it is another's.
pub(super) fn decode_secret(version: u16, record: &[u8]) -> Option<Result<HandshakeSecret, &'static str>> {
    let mut c = Cursor::new(record);
    if version < 3 || c.u8()? != kind::SECRET {
        return None;
    }
    Some((|| {
        const CUT: &str = "it is too short for its kind";
        let at = Nanos(c.u64().ok_or(CUT)?);
        let flags = c.u8().ok_or(CUT)?;
        if flags & !(HAS_CGROUP | HAS_RANDOM | HAS_PROCESS) != 0 {
            return Err("it has unknown flags");
        }
        let label = c.u8().ok_or(CUT)?;
        let cgroup = CgroupId(c.u64().ok_or(CUT)?);
        let process = ProcessId(c.u32().ok_or(CUT)?);
        let random = c.array::<32>().ok_or(CUT)?;
        Ok(HandshakeSecret {
            at,
            cgroup: (flags & HAS_CGROUP != 0).then_some(cgroup),
            process: (flags & HAS_PROCESS != 0).then_some(process),
            label: SecretLabel::ALL.get(usize::from(label)).copied().ok_or("its label is unknown")?,
            client_random: (flags & HAS_RANDOM != 0).then_some(random),
            secret: Secret::new(c.rest()).ok_or("its secret has no length that one has")?,
        })
    })())
}

/// Reasons met in recordings. They are a handful of names fixed in the agent that recorded; this agent may not know
/// them all, so those met are kept for good: at most 64 of at most 64 bytes, whatever files hold.
pub(super) struct Names(Mutex<Vec<&'static str>>);

pub(super) const MAX_NAMES: usize = 64;

static NAMES: Names = Names::new();

impl Names {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// `name` as a constant; `other` when there are too many.
    pub(super) fn constant(&self, name: &str) -> &'static str {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.iter().find(|n| **n == name) {
            return known;
        }
        if names.len() >= MAX_NAMES {
            return "other";
        }
        let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
        names.push(kept);
        kept
    }
}

/// The only way bytes of a recording are read: bounded, little-endian.
pub(super) struct Cursor<'a> {
    data: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data }
    }

    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.data.split_at_checked(n)?;
        self.data = rest;
        Some(taken)
    }

    /// Everything left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.data)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.data.split_first_chunk::<N>()?;
        self.data = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[b]| b)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn address(&mut self) -> Option<SocketAddr> {
        match self.u8()? {
            4 => {
                let ip = IpAddr::from(self.array::<4>()?);
                Some(SocketAddr::new(ip, self.u16()?))
            }
            6 => {
                let ip = Ipv6Addr::from(self.array::<16>()?);
                let port = self.u16()?;
                let flowinfo = self.u32()?;
                let scope = self.u32()?;
                Some(SocketAddr::V6(SocketAddrV6::new(ip, port, flowinfo, scope)))
            }
            _ => None,
        }
    }
}
