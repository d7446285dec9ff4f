//! What is written is what is read, whole, cut or damaged; and what every version wrote stays readable.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use monitor_core::model::{
    CgroupId, CloseReason, Direction, Event, HandshakeSecret, LossStage, Nanos, ProcessId, Role, Secret, SecretLabel,
    Segment, SocketCookie, ThreadId,
};
use proptest::prelude::*;

use super::*;
use crate::capture::file::fuzz_capture;
use crate::capture::{Progress, Source};

/// A writer whose bytes can be looked at.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("not poisoned").clone()
    }
}

impl Write for Shared {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").extend(data);
        Ok(data.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn info() -> RecordingInfo {
    RecordingInfo {
        started: Nanos(1_700_000_000_000_000_000),
        agent: "0.1.0".to_owned(),
        kernel: "6.18.0".to_owned(),
        secrets: false,
    }
}

/// One of each kind, and the corners of their fields.
fn samples() -> Vec<Event<'static>> {
    let mut events = samples_of_version_2();
    let at = Nanos(1_700_000_000_000_000_018);
    let address = "[100::ff]:0".parse().expect("an address");
    events.push(Event::Named { at, address, name: "unix:/run/ß.sock" });
    events.push(Event::Named { at, address: "127.0.0.1:5432".parse().expect("an address"), name: "" });
    events
}

/// What the fixture of version 2 holds.
fn samples_of_version_2() -> Vec<Event<'static>> {
    let mut events = samples_of_version_1();
    let at = |n: u64| Nanos(1_700_000_000_000_000_000 + n);
    for (n, thread) in [(15, 0), (16, u32::MAX)] {
        events.push(Event::Segment(Segment {
            at: at(n),
            cookie: SocketCookie(3),
            dir: Direction::Tx,
            seq: 7,
            ack: None,
            len: 4,
            bytes: b"PING",
            thread: Some(ThreadId(thread)),
        }));
    }
    events.push(Event::Reader { at: at(17), cookie: SocketCookie(3), thread: ThreadId(4_194_304) });
    events
}

/// What the fixture of version 1 holds: one of each kind that it knew.
fn samples_of_version_1() -> Vec<Event<'static>> {
    let at = |n: u64| Nanos(1_700_000_000_000_000_000 + n);
    let v4 = |s: &str| s.parse::<SocketAddr>().expect("an address");
    vec![
        Event::CgroupSeen { at: at(1), id: CgroupId(4711), path: "/tenants/acme" },
        Event::Opened {
            at: at(2),
            cookie: SocketCookie(u64::MAX),
            cgroup: Some(CgroupId(4711)),
            local: v4("127.0.0.1:40112"),
            peer: v4("127.0.0.1:5432"),
            role: Role::Client,
            tx_start: Some(u32::MAX),
            rx_start: None,
        },
        Event::Opened {
            at: at(3),
            cookie: SocketCookie(2),
            cgroup: None,
            local: v4("[2001:db8::1]:5432"),
            peer: v4("[fe80::2%3]:40113"),
            role: Role::Server,
            tx_start: None,
            rx_start: Some(0),
        },
        Event::Opened {
            at: at(4),
            cookie: SocketCookie(3),
            cgroup: None,
            local: v4("10.0.0.1:1"),
            peer: v4("10.0.0.2:2"),
            role: Role::Unknown,
            tx_start: None,
            rx_start: None,
        },
        Event::Segment(Segment {
            at: at(5),
            cookie: SocketCookie(u64::MAX),
            dir: Direction::Tx,
            seq: u32::MAX,
            ack: Some(7),
            len: 9,
            bytes: b"SELECT 1;",
            thread: None,
        }),
        Event::Segment(Segment {
            at: at(6),
            cookie: SocketCookie(2),
            dir: Direction::Rx,
            seq: 0,
            ack: None,
            len: 65_536,
            bytes: b"the head of it",
            thread: None,
        }),
        Event::Segment(Segment {
            at: at(7),
            cookie: SocketCookie(2),
            dir: Direction::Rx,
            seq: 65_536,
            ack: Some(0),
            len: u32::MAX,
            bytes: b"",
            thread: None,
        }),
        Event::Lost { at: at(8), stage: LossStage::Kernel, reason: "ring_full", count: 12, of: None },
        Event::Lost { at: at(9), stage: LossStage::Agent, reason: "flows_full", count: u64::MAX, of: None },
        Event::Lost { at: at(10), stage: LossStage::Capture, reason: "interface_drop", count: 1, of: None },
        Event::Tick { at: at(11) },
        Event::Closed { at: at(12), cookie: SocketCookie(2), reason: CloseReason::Closed },
        Event::Closed { at: at(13), cookie: SocketCookie(3), reason: CloseReason::EndOfInput },
        Event::CgroupGone { at: at(14), id: CgroupId(4711) },
    ]
}

fn record<'a>(events: impl IntoIterator<Item = Event<'a>>) -> Vec<u8> {
    let out = Shared::default();
    let mut recorder = Recorder::new(Box::new(out.clone()), "memory".to_owned(), &info()).expect("memory");
    let mut n = 0;
    for event in events {
        recorder.record(&event).expect("memory");
        n += 1;
    }
    assert_eq!(recorder.finish().expect("memory"), n);
    out.bytes()
}

/// Every event as text, and the warnings.
fn replay(file: &[u8]) -> (Vec<String>, Vec<String>) {
    let mut source = RecordingSource::new(file).expect("a recording");
    let mut events = Vec::new();
    for _ in 0..file.len() + 2 {
        if source.poll(Duration::ZERO, &mut |e| events.push(format!("{e:?}"))).expect("damage is no error")
            == Progress::End
        {
            return (events, source.warnings());
        }
    }
    panic!("no end");
}

fn texts(events: &[Event<'_>]) -> Vec<String> {
    events.iter().map(|e| format!("{e:?}")).collect()
}

#[test]
fn what_is_written_is_read() {
    let file = record(samples());
    let (events, warnings) = replay(&file);
    assert_eq!(events, texts(&samples()));
    assert_eq!(warnings, [""; 0]);
    let source = RecordingSource::new(file.as_slice()).expect("a recording");
    assert_eq!((source.info(), source.version()), (&info(), VERSION));
    assert_eq!(replay(&record([])), (vec![], vec![]));
}

/// Written by the first release. Never written again: if this test fails, version 1 has become unreadable.
#[test]
fn version_1_stays_readable() {
    let file = include_bytes!("../../../tests/fixtures/v1.lwr");
    let (events, warnings) = replay(file);
    assert_eq!(events, texts(&samples_of_version_1()));
    assert_eq!(warnings, [""; 0]);
    let source = RecordingSource::new(file.as_slice()).expect("a recording");
    assert_eq!((source.info(), source.version()), (&info(), 1));
}

/// Written when threads came. Never written again: if this test fails, version 2 has become unreadable.
#[test]
fn version_2_stays_readable() {
    let file = include_bytes!("../../../tests/fixtures/v2.lwr");
    let (events, warnings) = replay(file);
    assert_eq!(events, texts(&samples_of_version_2()));
    assert_eq!(warnings, [""; 0]);
    let source = RecordingSource::new(file.as_slice()).expect("a recording");
    assert_eq!((source.info(), source.version()), (&info(), 2));
}

/// What version 2 added is no part of version 1.
#[test]
fn version_1_knows_no_threads() {
    let decode = |version, event: &Event<'_>| {
        let mut record = Vec::new();
        codec::encode(event, &mut record);
        codec::decode(version, &record[4..]).map(|e| format!("{e:?}"))
    };
    let events = samples();
    let [.., with_thread, reader, named, _] = events.as_slice() else { panic!("the last four") };
    assert!(decode(2, with_thread).is_ok() && decode(2, reader).is_ok());
    assert_eq!(decode(1, with_thread), Err("it has unknown flags"));
    assert_eq!(decode(1, reader), Err("its kind is unknown"));
    // Nor is what version 4 added part of those before.
    assert!(decode(4, named).is_ok());
    assert_eq!(decode(3, named), Err("its kind is unknown"));
}

/// So many events of some kinds that they need more than one block, by size and by time.
fn many() -> Vec<Event<'static>> {
    static PAYLOAD: [u8; 40_000] = [b'x'; 40_000];
    (0..60u32)
        .map(|i| {
            // A second and a half passes in the middle.
            let at = Nanos(u64::from(i) * 1000 + if i > 40 { 1_500_000_000 } else { 0 });
            let len = 500 * i;
            Event::Segment(Segment {
                at,
                cookie: SocketCookie(1),
                dir: Direction::Tx,
                seq: i,
                ack: None,
                len,
                bytes: &PAYLOAD[..len as usize],
                thread: None,
            })
        })
        .collect()
}

/// Where each block begins, the end mark's and the file's end included.
fn boundaries(file: &[u8]) -> Vec<usize> {
    let mut at = info().encode().len();
    let mut all = vec![at];
    while at + 16 < file.len() {
        at += 16 + u32::from_le_bytes(file[at + 8..at + 12].try_into().expect("4 bytes")) as usize;
        all.push(at);
    }
    all
}

#[test]
fn a_recording_cut_anywhere_gives_its_whole_blocks() {
    let file = record(many());
    let whole = texts(&many());
    let starts = boundaries(&file);
    assert!(starts.len() > 4, "the test wants several blocks: {starts:?}");
    let mut seen = std::collections::BTreeSet::new();
    for n in starts[0]..file.len() {
        // Only every byte around the edges: unpacking takes its time in a test.
        if !starts.iter().any(|s| n.abs_diff(*s) < 40) && n % 61 != 0 {
            continue;
        }
        let (events, warnings) = replay(&file[..n]);
        let (last, told) = events.split_last().expect("the loss at least");
        assert!(last.contains("recording_cut"), "cut after {n}: {last}");
        assert_eq!(told, &whole[..told.len()], "cut after {n}");
        assert_eq!(warnings.len(), 1);
        let begin = starts.iter().rev().find(|s| **s <= n).expect("the header is whole");
        assert!(warnings[0].contains(&format!("byte {begin}:")), "cut after {n}: {warnings:?}");
        seen.insert(told.len());
    }
    assert_eq!(seen.len(), starts.len(), "every block counts as soon as it is whole: {seen:?}");
    for n in 8..starts[0] {
        let error = RecordingSource::new(&file[..n]).err().expect("no header, no recording");
        assert!(matches!(error, HeaderError::Cut(m) if m == n), "{error}");
    }
}

#[test]
fn no_flipped_bit_changes_an_event() {
    let file = record(samples());
    let whole = texts(&samples());
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << bit;
            let Ok(mut source) = RecordingSource::new(damaged.as_slice()) else { continue };
            let mut events = Vec::new();
            while source.poll(Duration::ZERO, &mut |e| events.push(format!("{e:?}"))).expect("damage is no error")
                != Progress::End
            {}
            // One that unpacks to the same bytes does no harm: the same text may stand at two distances.
            let warnings = source.warnings();
            if warnings.is_empty() {
                assert_eq!(events, whole, "bit {bit} of byte {at}");
                continue;
            }
            let (last, told) = events.split_last().expect("the loss at least");
            assert!(last.contains("Lost"), "bit {bit} of byte {at}: {last}");
            assert_eq!(told, &whole[..told.len()], "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn a_later_version_is_refused_by_its_number() {
    let mut file = record(samples());
    file[8] = 9;
    let error = RecordingSource::new(file.as_slice()).err().expect("refused").to_string();
    assert!(error.contains("version 9") && error.contains("1 to 5"), "{error}");
}

#[test]
fn bytes_after_the_end_are_told() {
    let mut file = record(samples());
    file.push(0);
    let (_, warnings) = replay(&file);
    assert!(warnings[0].contains("goes on after its end"), "{warnings:?}");
}

/// A file whose only block has this header and frame, under a valid checksum.
fn crafted(raw_len: u32, n: u32, frame: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    for n in [raw_len, n, frame.len() as u32] {
        header.extend(n.to_le_bytes());
    }
    header.extend(checksum::crc32(&header).to_le_bytes());
    [info().encode(), header, frame.to_vec()].concat()
}

fn frame(raw: &[u8]) -> Vec<u8> {
    let info =
        lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max256KB).content_checksum(true);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(raw).expect("memory");
    encoder.finish().expect("memory")
}

fn linked(raw: &[u8]) -> Vec<u8> {
    let mut bytes = frame(raw);
    // The flag that says that blocks stand alone.
    bytes[4] &= !0x20;
    bytes
}

#[test]
fn crafted_blocks_are_refused() {
    let tick = [&9u32.to_le_bytes()[..], &[7], &5u64.to_le_bytes()].concat();
    let record = |body: &[u8]| [&(body.len() as u32).to_le_bytes(), body].concat();
    let one = |raw: &[u8]| crafted(raw.len() as u32, 1, &frame(raw));
    let with_time = |kind: u8, rest: &[u8]| [&[kind][..], &[0; 8], rest].concat();
    // A valid one first: the frame around them is right.
    assert_eq!(replay(&one(&tick)).0[0], "Tick { at: Nanos(5) }");

    let zeros = vec![0; 8 << 20];
    let cases = [
        (crafted(u32::MAX, 1, &frame(&tick)), "larger than any block"),
        // A bomb: much more comes out than the block says.
        (crafted(13, 1, &frame(&zeros)), "longer than it says"),
        (crafted(14, 1, &frame(&tick)), "cannot be unpacked"),
        (crafted(13, 1, &frame(&tick)[..10]), "not as it is written"),
        (crafted(13, 1, &linked(&tick)), "not as it is written"),
        (crafted(13, 2, &frame(&tick)), "goes beyond the block"),
        (crafted(13, 0, &frame(&tick)), "after its last record"),
        (crafted(13, 1, &[frame(&tick), frame(&tick)].concat()), "longer than it says"),
        (one(&record(&[])), "too short for its kind"),
        (one(&record(&with_time(99, b""))), "its kind is unknown"),
        (one(&record(&with_time(7, b"!"))), "too long for its kind"),
        (one(&record(&with_time(1, &[0; 8 + 5000]))), "path is too long"),
        (one(&record(&with_time(1, &[0, 0, 0, 0, 0, 0, 0, 0, 0xff]))), "not UTF-8"),
        (one(&record(&with_time(6, &[0, 1, 0, 0, 0, 0, 0, 0, 0, b'A']))), "not a name"),
        (one(&record(&with_time(6, &[3, 1, 0, 0, 0, 0, 0, 0, 0, b'a']))), "stage is unknown"),
        (one(&record(&with_time(5, &[0, 0, 0, 0, 0, 0, 0, 0, 2]))), "reason is unknown"),
        (one(&record(&with_time(4, &[&[0; 26][..], b"more than len"].concat()))), "more payload"),
        (one(&record(&with_time(4, &[0; 22]))), "too short for its kind"),
        (one(&record(&with_time(8, &[0; 11]))), "too short for its kind"),
        (one(&record(&with_time(8, &[0; 13]))), "too long for its kind"),
        (one(&record(&with_time(3, &[0; 26 + 7]))), "unreadable address"),
    ];
    for (file, what) in cases {
        let (events, warnings) = replay(&file);
        assert!(warnings[0].contains(what), "{what}: {warnings:?}");
        assert!(events.last().is_some_and(|e| e.contains("recording_corrupt")), "{what}: {events:?}");
        fuzz_capture(&file);
    }
}

#[test]
fn reasons_from_a_file_stay_few() {
    let names = codec::Names::new();
    assert_eq!(names.constant("ring_full"), "ring_full");
    let made_up: Vec<String> = (0..500).map(|i| format!("made_up_{i}")).collect();
    let kept = made_up.iter().filter(|n| names.constant(n) == n.as_str()).count();
    assert_eq!(kept, codec::MAX_NAMES - 1);
    assert_eq!(names.constant("made_up_499"), "other");
    assert_eq!(names.constant("ring_full"), "ring_full");
}

#[test]
fn a_full_disk_is_told_once_and_what_was_written_stays() {
    /// Takes the header and one block, then has no room.
    struct Full {
        left: usize,
        out: Shared,
    }
    impl Write for Full {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            if self.left == 0 {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            self.left -= 1;
            self.out.write(data)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let out = Shared::default();
    let full = Full { left: 2, out: out.clone() };
    let mut recorder = Recorder::new(Box::new(full), "disk".to_owned(), &info()).expect("the header fits");
    let errors: Vec<RecordingError> = many().iter().filter_map(|e| recorder.record(e).err()).collect();
    let [RecordingError::Write { n_events, source, .. }] = errors.as_slice() else { panic!("{errors:?}") };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert_eq!(recorder.finish().expect("it was told"), *n_events);
    let (events, warnings) = replay(&out.bytes());
    assert_eq!(events.len() as u64, n_events + 1);
    assert!(warnings[0].contains("without its end mark"), "{warnings:?}");
}

#[test]
fn the_file_is_private_even_when_it_was_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("run.lwr");
    std::fs::write(&path, vec![b'z'; 100_000]).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("set");
    let mut recorder = Recorder::create(&path, &info()).expect("created");
    samples().iter().for_each(|e| recorder.record(e).expect("room"));
    drop(recorder);
    let mode = std::fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(replay(&std::fs::read(&path).expect("read")), (texts(&samples()), vec![]));

    let link = dir.path().join("link.lwr");
    std::os::unix::fs::symlink(&path, &link).expect("linked");
    assert!(matches!(Recorder::create(&link, &info()), Err(RecordingError::Create { .. })));
}

#[test]
fn long_texts_are_cut_where_a_character_ends() {
    let long = "ü".repeat(5000);
    let many = RecordingInfo { started: Nanos(1), agent: long.clone(), kernel: String::new(), secrets: false };
    let header = many.encode();
    let (read, ..) = RecordingInfo::read(&mut header.as_slice()).expect("readable");
    assert_eq!(read.agent, "ü".repeat(128));
    let file = record([Event::CgroupSeen { at: Nanos(0), id: CgroupId(1), path: &long }]);
    assert!(replay(&file).0[0].contains(&format!("\"{}\"", "ü".repeat(2048))));
    let payload = vec![1; MAX_PAYLOAD + 1];
    let file = record([Event::Segment(Segment {
        at: Nanos(0),
        cookie: SocketCookie(1),
        dir: Direction::Tx,
        seq: 0,
        ack: None,
        len: payload.len() as u32,
        bytes: &payload,
        thread: None,
    })]);
    let mut source = RecordingSource::new(file.as_slice()).expect("a recording");
    let mut n = 0;
    let mut sink = |e: Event<'_>| {
        let Event::Segment(s) = e else { panic!("{e:?}") };
        assert_eq!((s.bytes.len(), s.len as usize), (MAX_PAYLOAD, MAX_PAYLOAD + 1));
        n += 1;
    };
    while source.poll(Duration::ZERO, &mut sink).expect("whole") != Progress::End {}
    assert_eq!(n, 1);
}

/// An event with everything owned, so that proptest can make it.
#[derive(Clone, Debug)]
enum Owned {
    Seen(u64, u64, String),
    Gone(u64, u64),
    Named(u64, SocketAddr, String),
    Opened(u64, u64, Option<u64>, SocketAddr, SocketAddr, u8, Option<u32>, Option<u32>),
    Segment(u64, u64, bool, u32, [Option<u32>; 2], u32, Vec<u8>),
    Reader(u64, u64, u32),
    Closed(u64, u64, bool),
    Lost(u64, u8, usize, u64),
    Tick(u64),
}

const REASONS: [&str; 3] = ["ring_full", "map_full", "ip_fragment"];

impl Owned {
    fn event(&self) -> Event<'_> {
        match *self {
            Self::Seen(at, id, ref path) => Event::CgroupSeen { at: Nanos(at), id: CgroupId(id), path },
            Self::Gone(at, id) => Event::CgroupGone { at: Nanos(at), id: CgroupId(id) },
            Self::Named(at, address, ref name) => Event::Named { at: Nanos(at), address, name },
            Self::Opened(at, cookie, cgroup, local, peer, role, tx_start, rx_start) => Event::Opened {
                at: Nanos(at),
                cookie: SocketCookie(cookie),
                cgroup: cgroup.map(CgroupId),
                local,
                peer,
                role: [Role::Client, Role::Server, Role::Unknown][usize::from(role)],
                tx_start,
                rx_start,
            },
            Self::Segment(at, cookie, tx, seq, [ack, thread], cut, ref bytes) => Event::Segment(Segment {
                at: Nanos(at),
                cookie: SocketCookie(cookie),
                dir: if tx { Direction::Tx } else { Direction::Rx },
                seq,
                ack,
                len: cut.saturating_add(bytes.len() as u32),
                bytes,
                thread: thread.map(ThreadId),
            }),
            Self::Reader(at, cookie, thread) => {
                Event::Reader { at: Nanos(at), cookie: SocketCookie(cookie), thread: ThreadId(thread) }
            }
            Self::Closed(at, cookie, end) => Event::Closed {
                at: Nanos(at),
                cookie: SocketCookie(cookie),
                reason: if end { CloseReason::EndOfInput } else { CloseReason::Closed },
            },
            Self::Lost(at, stage, reason, count) => Event::Lost {
                at: Nanos(at),
                stage: [LossStage::Kernel, LossStage::Agent, LossStage::Capture][usize::from(stage)],
                reason: REASONS[reason],
                count,
                of: None,
            },
            Self::Tick(at) => Event::Tick { at: Nanos(at) },
        }
    }
}

fn any_event() -> impl Strategy<Value = Owned> {
    let n = any::<u64>;
    prop_oneof![
        (n(), n(), "[/a-zß.-]{0,60}").prop_map(|(a, b, c)| Owned::Seen(a, b, c)),
        (n(), n()).prop_map(|(a, b)| Owned::Gone(a, b)),
        (n(), any::<SocketAddr>(), "[/a-zß.-]{0,60}").prop_map(|(a, b, c)| Owned::Named(a, b, c)),
        (n(), n(), any::<Option<u64>>(), any::<SocketAddr>(), any::<SocketAddr>(), 0u8..3, any::<[Option<u32>; 2]>())
            .prop_map(|(a, b, c, d, e, f, [g, h])| Owned::Opened(a, b, c, d, e, f, g, h)),
        (
            n(),
            n(),
            any::<bool>(),
            any::<u32>(),
            any::<[Option<u32>; 2]>(),
            any::<u32>(),
            prop::collection::vec(any::<u8>(), 0..4000)
        )
            .prop_map(|(a, b, c, d, e, f, g)| Owned::Segment(a, b, c, d, e, f, g)),
        (n(), n(), any::<bool>()).prop_map(|(a, b, c)| Owned::Closed(a, b, c)),
        (n(), 0u8..3, 0usize..3, n()).prop_map(|(a, b, c, d)| Owned::Lost(a, b, c, d)),
        n().prop_map(Owned::Tick),
        (n(), n(), any::<u32>()).prop_map(|(a, b, c)| Owned::Reader(a, b, c)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_events_come_back(events in prop::collection::vec(any_event(), 0..200)) {
        let expected: Vec<String> = events.iter().map(|e| format!("{:?}", e.event())).collect();
        let file = record(events.iter().map(Owned::event));
        prop_assert_eq!(replay(&file), (expected, vec![]));
    }

    #[test]
    fn damaged_recordings_are_harmless(
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        raw in prop::collection::vec(any::<u8>(), 1..200),
        n in 0u32..20,
    ) {
        let mut file = record(samples());
        for (at, byte) in hits {
            let at = at.index(file.len());
            file[at] = byte;
        }
        fuzz_capture(&file);
        // Records of any bytes, under valid checksums.
        fuzz_capture(&crafted(raw.len() as u32, n, &frame(&raw)));
        // Frames of any bytes.
        fuzz_capture(&crafted(50, n, &raw));
    }
}

/// Secrets are in a recording only where that was asked for, and come out as they went in.
#[test]
fn secrets_of_handshakes_are_recorded_by_name_only() {
    let told = HandshakeSecret {
        at: Nanos(1_700_000_000_000_000_005),
        cgroup: Some(CgroupId(4711)),
        process: Some(ProcessId(77)),
        label: SecretLabel::ServerTraffic,
        client_random: Some([9; 32]),
        secret: Secret::new(&[0x5a; 48]).expect("a secret"),
    };
    let bare = HandshakeSecret { cgroup: None, process: None, client_random: None, ..told.clone() };
    let written = |secrets: bool| {
        let out = Shared::default();
        let info = RecordingInfo { secrets, ..info() };
        let mut recorder = Recorder::new(Box::new(out.clone()), "test".to_owned(), &info).expect("writable");
        for event in [Event::TlsSecret(&told), Event::TlsSecret(&bare), Event::Tick { at: told.at }] {
            recorder.record(&event).expect("writable");
        }
        recorder.finish().expect("writable");
        out.bytes()
    };
    let (with, without) = (written(true), written(false));
    assert_eq!((with[8], without[8]), (5, 4), "an agent that knows no secrets refuses the file");
    assert_eq!(replay(&without).0.len(), 1);
    let mut source = RecordingSource::new(with.as_slice()).expect("a recording");
    let mut secrets = Vec::new();
    while source
        .poll(Duration::ZERO, &mut |e| {
            if let Event::TlsSecret(s) = e {
                secrets.push(s.clone())
            }
        })
        .expect("whole")
        != Progress::End
    {}
    assert_eq!(secrets.len(), 2);
    for (read, written) in secrets.iter().zip([&told, &bare]) {
        let fields =
            |s: &HandshakeSecret| (s.at, s.cgroup, s.process, s.label, s.client_random, s.secret.bytes().to_vec());
        assert_eq!(fields(read), fields(written));
    }
    assert!(source.info().secrets);
}
