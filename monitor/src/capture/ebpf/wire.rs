//! Ring records, read with suspicion: every length is checked, and what does not fit is an error, never a guess.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use monitor_common::records::{
    CgroupRecord, CloseRecord, FLOW_CLIENT, FLOW_LISTENER, FLOW_NO_CLOSE, FLOW_RX_START, FLOW_SERVER, FLOW_TX_START,
    FLOW_V6, FlowRecord, Kind, PATH_ROOM, ReaderRecord, SEGMENT_ACK, SEGMENT_LISTENER, SEGMENT_RX, SegmentHeader,
    UNIX_NAME_ROOM, UNIX_START, UnixRecord,
};
use monitor_common::secrets::{LABELS, SECRET_RANDOM, SecretRecord};
use monitor_core::model::{Direction, Role, Secret, SecretLabel};
use zerocopy::FromBytes;

/// One record. Times are of the kernel's monotonic clock, ns.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Segment(SegmentRecord<'a>),
    Flow(Flow),
    Unix(UnixEnd<'a>),
    Close {
        at: u64,
        cookie: u64,
    },
    Reader {
        at: u64,
        cookie: u64,
        thread: u32,
    },
    /// `path`: `None` when it was cut or unreadable.
    CgroupMade {
        at: u64,
        path: Option<&'a str>,
    },
    CgroupRemoved {
        at: u64,
        path: Option<&'a str>,
    },
    Secret(Told),
}

/// A secret of a TLS handshake.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) at: u64,
    pub(super) cgroup: u64,
    pub(super) process: u32,
    pub(super) label: SecretLabel,
    pub(super) client_random: Option<[u8; 32]>,
    pub(super) secret: Secret,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentRecord<'a> {
    pub(super) at: u64,
    /// A tag when `listener`.
    pub(super) cookie: u64,
    pub(super) dir: Direction,
    pub(super) seq: u32,
    pub(super) ack: Option<u32>,
    pub(super) len: u32,
    pub(super) bytes: &'a [u8],
    pub(super) listener: bool,
    /// The running thread and its process; `None`: not known.
    pub(super) sender: Option<Sender>,
}

/// Who ran when a segment was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) thread: u32,
    pub(super) process: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) at: u64,
    /// A tag when `listener`.
    pub(super) cookie: u64,
    pub(super) cgroup: Option<u64>,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) role: Role,
    pub(super) tx_start: Option<u32>,
    pub(super) rx_start: Option<u32>,
    pub(super) listener: bool,
    /// Its end is not told by `sock_ops`.
    pub(super) no_close: bool,
}

/// An end of a Unix stream socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnixEnd<'a> {
    pub(super) at: u64,
    pub(super) cookie: u64,
    pub(super) cgroup: Option<u64>,
    /// The other end's cookie.
    pub(super) peer: u64,
    pub(super) role: Role,
    /// Sequence number of the first byte in either direction; `None`: what came before the probes is not known.
    pub(super) start: Option<u32>,
    /// Device and inode of the file that the server is bound to.
    pub(super) file: Option<(u32, u64)>,
    /// What the server is bound to: a path, or an abstract name with a leading 0; empty: nothing.
    pub(super) name: &'a [u8],
}

/// Why a record cannot be read: the probes and the agent do not belong together, or memory was overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("record of unknown kind {0:#x}")]
    Kind(u32),
    #[error("record of kind {kind:#x} has {len} bytes")]
    Short { kind: u32, len: usize },
    #[error("segment record says {captured} bytes captured of {len}, and has room for {room}")]
    Lengths { captured: u32, len: u32, room: usize },
    #[error("path length {0}")]
    Path(u32),
    #[error("secret of kind {label} and {len} bytes")]
    Secret { label: u32, len: u32 },
}

fn kind(bytes: &[u8]) -> Result<Kind, Malformed> {
    match Kind::read_from_prefix(bytes) {
        Ok((kind, _)) => Ok(kind),
        Err(_) => Err(Malformed::Short { kind: 0, len: bytes.len() }),
    }
}

/// The time of a record, to merge rings by; 0 if it has none that can be read.
pub(super) fn time(bytes: &[u8]) -> u64 {
    let offset = match kind(bytes) {
        Ok(Kind::SEGMENT) => std::mem::offset_of!(SegmentHeader, at),
        Ok(Kind::FLOW) => std::mem::offset_of!(FlowRecord, at),
        Ok(Kind::UNIX) => std::mem::offset_of!(UnixRecord, at),
        Ok(Kind::CLOSE) => std::mem::offset_of!(CloseRecord, at),
        Ok(Kind::READER) => std::mem::offset_of!(ReaderRecord, at),
        Ok(Kind::CGROUP_MADE | Kind::CGROUP_REMOVED) => std::mem::offset_of!(CgroupRecord, at),
        Ok(Kind::SECRET) => std::mem::offset_of!(SecretRecord, at),
        _ => return 0,
    };
    bytes.get(offset..).and_then(|b| b.first_chunk::<8>()).map_or(0, |b| u64::from_ne_bytes(*b))
}

/// Reads one record.
pub(super) fn read(bytes: &[u8]) -> Result<Record<'_>, Malformed> {
    let kind = kind(bytes)?;
    let short = Malformed::Short { kind: kind.0, len: bytes.len() };
    match kind {
        Kind::SEGMENT => {
            let (h, room) = SegmentHeader::read_from_prefix(bytes).map_err(|_| short)?;
            let payload = usize::try_from(h.captured).ok().and_then(|n| room.get(..n));
            match payload {
                Some(payload) if h.captured <= h.len => Ok(Record::Segment(SegmentRecord {
                    at: h.at,
                    cookie: h.cookie,
                    dir: if h.flags & SEGMENT_RX != 0 { Direction::Rx } else { Direction::Tx },
                    seq: h.seq,
                    ack: (h.flags & SEGMENT_ACK != 0).then_some(h.ack),
                    len: h.len,
                    bytes: payload,
                    listener: h.flags & SEGMENT_LISTENER != 0,
                    sender: (h.thread != 0 && h.flags & SEGMENT_RX == 0)
                        .then_some(Sender { thread: h.thread, process: h.process }),
                })),
                _ => Err(Malformed::Lengths { captured: h.captured, len: h.len, room: room.len() }),
            }
        }
        Kind::FLOW => {
            let (r, _) = FlowRecord::read_from_prefix(bytes).map_err(|_| short)?;
            let v6 = r.flags & FLOW_V6 != 0;
            Ok(Record::Flow(Flow {
                at: r.at,
                cookie: r.cookie,
                cgroup: (r.cgroup != 0).then_some(r.cgroup),
                local: SocketAddr::new(address(&r.local, v6), r.local_port),
                peer: SocketAddr::new(address(&r.peer, v6), r.peer_port),
                role: role(r.flags),
                tx_start: (r.flags & FLOW_TX_START != 0).then_some(r.tx_start),
                rx_start: (r.flags & FLOW_RX_START != 0).then_some(r.rx_start),
                listener: r.flags & FLOW_LISTENER != 0,
                no_close: r.flags & FLOW_NO_CLOSE != 0,
            }))
        }
        Kind::UNIX => {
            let (u, _) = UnixRecord::read_from_prefix(bytes).map_err(|_| short)?;
            let room = bytes.get(std::mem::offset_of!(UnixRecord, name)..).and_then(|b| b.get(..UNIX_NAME_ROOM));
            let len = usize::try_from(u.name_len).ok();
            let name = room.zip(len).and_then(|(room, n)| room.get(..n)).ok_or(Malformed::Path(u.name_len))?;
            Ok(Record::Unix(UnixEnd {
                at: u.at,
                cookie: u.cookie,
                cgroup: (u.cgroup != 0).then_some(u.cgroup),
                peer: u.peer,
                role: role(u.flags),
                start: (u.flags & FLOW_TX_START != 0).then_some(UNIX_START),
                file: (u.inode != 0).then_some((u.device, u.inode)),
                // `sun_path` may hold what is behind the end of the path.
                name: if name.first() == Some(&0) { name } else { name.split(|b| *b == 0).next().unwrap_or_default() },
            }))
        }
        Kind::CLOSE => {
            let (r, _) = CloseRecord::read_from_prefix(bytes).map_err(|_| short)?;
            Ok(Record::Close { at: r.at, cookie: r.cookie })
        }
        Kind::READER => {
            let (r, _) = ReaderRecord::read_from_prefix(bytes).map_err(|_| short)?;
            Ok(Record::Reader { at: r.at, cookie: r.cookie, thread: r.thread })
        }
        Kind::CGROUP_MADE | Kind::CGROUP_REMOVED => {
            // The path is borrowed from the ring, so the record is not read as a whole.
            let at = bytes.get(8..).and_then(|b| b.first_chunk::<8>()).map(|b| u64::from_ne_bytes(*b)).ok_or(short)?;
            let len = bytes.get(4..).and_then(|b| b.first_chunk::<4>()).map(|b| u32::from_ne_bytes(*b)).ok_or(short)?;
            let room = bytes.get(16..16 + PATH_ROOM).ok_or(short)?;
            let path = path(room, len)?;
            Ok(match kind {
                Kind::CGROUP_MADE => Record::CgroupMade { at, path },
                _ => Record::CgroupRemoved { at, path },
            })
        }
        Kind::SECRET => {
            let (r, _) = SecretRecord::read_from_prefix(bytes).map_err(|_| short)?;
            let r = Zeroizing(r);
            let wrong = Malformed::Secret { label: r.0.label, len: r.0.len };
            let name = usize::try_from(r.0.label).ok().and_then(|i| LABELS.get(i));
            let bytes = usize::try_from(r.0.len).ok().and_then(|n| r.0.secret.get(..n));
            Ok(Record::Secret(Told {
                at: r.0.at,
                cgroup: r.0.cgroup,
                process: r.0.process,
                label: name.and_then(|name| SecretLabel::parse(name)).ok_or(wrong)?,
                client_random: (r.0.flags & SECRET_RANDOM != 0).then_some(r.0.random),
                secret: bytes.and_then(Secret::new).ok_or(wrong)?,
            }))
        }
        Kind(other) => Err(Malformed::Kind(other)),
    }
}

/// Who opened a connection, by the flags of its announcement.
fn role(flags: u32) -> Role {
    match flags & (FLOW_CLIENT | FLOW_SERVER) {
        FLOW_CLIENT => Role::Client,
        FLOW_SERVER => Role::Server,
        _ => Role::Unknown,
    }
}

/// A copy of a record that is wiped when it is dropped.
struct Zeroizing(SecretRecord);

impl Drop for Zeroizing {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0.secret);
    }
}

fn path(room: &[u8], len: u32) -> Result<Option<&str>, Malformed> {
    let n = usize::try_from(len).unwrap_or(usize::MAX);
    if n > PATH_ROOM {
        return Err(Malformed::Path(len));
    }
    // With its NUL. A path that fills the room may be cut; one that is no text cannot name a directory we know.
    if n < 2 || n == PATH_ROOM {
        return Ok(None);
    }
    Ok(room.get(..n - 1).and_then(|b| std::str::from_utf8(b).ok()))
}

fn address(bytes: &[u8; 16], v6: bool) -> IpAddr {
    match bytes.first_chunk::<4>() {
        Some(v4) if !v6 => IpAddr::from(*v4),
        // A v4-mapped address is the IPv4 address that the packets carry.
        _ => IpAddr::V6(Ipv6Addr::from(*bytes)).to_canonical(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn segment(captured: u32, len: u32, payload: &[u8]) -> Vec<u8> {
        let header = SegmentHeader {
            kind: Kind::SEGMENT,
            flags: SEGMENT_RX | SEGMENT_ACK,
            len,
            captured,
            seq: 7,
            ack: 9,
            cookie: 42,
            at: 1000,
            thread: 77,
            process: 70,
        };
        [header.as_bytes(), payload].concat()
    }

    fn flow(flags: u32, local: [u8; 16]) -> Vec<u8> {
        FlowRecord {
            kind: Kind::FLOW,
            flags,
            cookie: 42,
            at: 1001,
            cgroup: 5,
            local,
            peer: [127, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            local_port: 5432,
            peer_port: 40000,
            tx_start: 100,
            rx_start: 200,
            reserved: 0,
        }
        .as_bytes()
        .to_vec()
    }

    fn cgroup(path: &str, path_len: u32) -> Vec<u8> {
        let mut room = [0xee; PATH_ROOM];
        room[..path.len()].copy_from_slice(path.as_bytes());
        CgroupRecord { kind: Kind::CGROUP_MADE, path_len, at: 1002, path: room }.as_bytes().to_vec()
    }

    #[test]
    fn reads_a_segment() {
        let bytes = segment(3, 10, b"abc-slack");
        let Ok(Record::Segment(s)) = read(&bytes) else { panic!() };
        assert_eq!((s.at, s.cookie, s.dir, s.seq, s.ack, s.len), (1000, 42, Direction::Rx, 7, Some(9), 10));
        assert_eq!(s.bytes, b"abc");
        assert_eq!(time(&bytes), 1000);
        assert_eq!(s.sender, None, "received: whoever runs is not the sender");
    }

    #[test]
    fn a_sent_segment_has_a_sender_if_somebody_ran() {
        let sent = |thread| {
            let (header, payload) =
                SegmentHeader::read_from_prefix(&segment(0, 0, b"")).map(|(h, p)| (h, p.len())).unwrap();
            assert_eq!(payload, 0);
            let header = SegmentHeader { flags: 0, thread, ..header };
            let Ok(Record::Segment(s)) = read(header.as_bytes()) else { panic!() };
            s.sender
        };
        assert_eq!(sent(77), Some(Sender { thread: 77, process: 70 }));
        assert_eq!(sent(0), None, "the idle task");
    }

    #[test]
    fn reads_a_reader() {
        let record = ReaderRecord { kind: Kind::READER, thread: 7, cookie: 42, at: 1003 };
        assert_eq!(read(record.as_bytes()), Ok(Record::Reader { at: 1003, cookie: 42, thread: 7 }));
        assert_eq!(time(record.as_bytes()), 1003);
    }

    fn unix(flags: u32, name_len: u32) -> Vec<u8> {
        let mut name = [0; UNIX_NAME_ROOM];
        name[..12].copy_from_slice(b"/run/a\0rest\0");
        UnixRecord {
            kind: Kind::UNIX,
            flags,
            cookie: 1 << 63 | 1,
            at: 1004,
            cgroup: 5,
            peer: 1 << 63 | 2,
            inode: 77,
            device: 8,
            name_len,
            name,
        }
        .as_bytes()
        .to_vec()
    }

    #[test]
    fn reads_an_end_of_a_unix_socket() {
        let bytes = unix(FLOW_CLIENT | FLOW_TX_START | FLOW_RX_START, 12);
        let Ok(Record::Unix(u)) = read(&bytes) else { panic!() };
        assert_eq!((u.role, u.start, u.file, u.cgroup), (Role::Client, Some(UNIX_START), Some((8, 77)), Some(5)));
        assert_eq!((u.name, u.cookie, u.peer), (b"/run/a".as_slice(), 1 << 63 | 1, 1 << 63 | 2));
        assert_eq!(time(&bytes), 1004);
        let older = unix(FLOW_SERVER, 0);
        let Ok(Record::Unix(older)) = read(&older) else { panic!() };
        assert_eq!((older.role, older.start, older.name), (Role::Server, None, b"".as_slice()), "older than the agent");
        assert_eq!(read(&unix(0, 129)), Err(Malformed::Path(129)));
    }

    #[test]
    fn refuses_lengths_that_do_not_fit() {
        for (captured, len) in [(4, 10), (u32::MAX, u32::MAX), (3, 2)] {
            let bytes = segment(captured, len, b"abc");
            assert_eq!(read(&bytes), Err(Malformed::Lengths { captured, len, room: 3 }));
        }
    }

    #[test]
    fn reads_a_flow() {
        let mut v4 = [0; 16];
        v4[..4].copy_from_slice(&[127, 0, 0, 1]);
        let bytes = flow(FLOW_SERVER | FLOW_TX_START, v4);
        let Ok(Record::Flow(f)) = read(&bytes) else { panic!() };
        assert_eq!(f.local, "127.0.0.1:5432".parse().unwrap());
        assert_eq!(f.peer, "127.0.0.2:40000".parse().unwrap());
        assert_eq!((f.role, f.tx_start, f.rx_start, f.cgroup), (Role::Server, Some(100), None, Some(5)));
        assert_eq!(time(&bytes), 1001);
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let mapped = "::ffff:10.0.0.1".parse::<Ipv6Addr>().unwrap().octets();
        let bytes = flow(FLOW_V6, mapped);
        let Ok(Record::Flow(f)) = read(&bytes) else { panic!() };
        assert_eq!(f.local, "10.0.0.1:5432".parse().unwrap());
    }

    #[test]
    fn reads_paths() {
        let bytes = cgroup("/a/b", 5);
        assert_eq!(read(&bytes), Ok(Record::CgroupMade { at: 1002, path: Some("/a/b") }));
        assert_eq!(time(&bytes), 1002);
        for len in [0, 1, 256] {
            assert_eq!(read(&cgroup("/a/b", len)), Ok(Record::CgroupMade { at: 1002, path: None }));
        }
        assert_eq!(read(&cgroup("/a/b", 257)), Err(Malformed::Path(257)));
        assert_eq!(read(&cgroup("/a/b", u32::MAX)), Err(Malformed::Path(u32::MAX)));
    }

    #[test]
    fn every_truncation_is_refused() {
        let close = CloseRecord { kind: Kind::CLOSE, reserved: 0, cookie: 1, at: 2 };
        let reader = ReaderRecord { kind: Kind::READER, thread: 7, cookie: 1, at: 2 };
        let short = [close.as_bytes().to_vec(), reader.as_bytes().to_vec()];
        let long = [segment(3, 3, b"abc"), flow(0, [0; 16]), cgroup("/a", 3), unix(0, 12)];
        for whole in long.into_iter().chain(short) {
            assert!(read(&whole).is_ok());
            for n in 0..whole.len() {
                assert!(read(&whole[..n]).is_err(), "{n} of {}", whole.len());
                let _ = time(&whole[..n]);
            }
        }
    }

    #[test]
    fn unknown_kinds_are_refused() {
        assert_eq!(read(&[0; 64]), Err(Malformed::Kind(0)));
        assert_eq!(read(&[0xff; 64]), Err(Malformed::Kind(u32::MAX)));
        assert_eq!(time(&[0xff; 64]), 0);
    }
}
