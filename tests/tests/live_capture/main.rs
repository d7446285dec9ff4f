//! The live source against real sockets: needs root, cgroup v2 and a build with the real probes, and fails without.
//!
//! Sockets carry the cgroup that their process had when it made them, so each test moves this process for a moment;
//! hence one at a time.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use monitor::capture::Source;
use monitor::capture::cgroups::Hierarchy;
use monitor::capture::ebpf::{CaptureConfig, LiveSource};
use monitor_core::model::{CgroupId, Direction, Event, LossStage, Role, SocketCookie, ThreadId};
use tests::lab::cgroup::Tree;

mod flows;
mod payload;
mod secrets;
mod threads;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    // A test that failed says so itself.
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `make` inside the cgroup `dir`.
fn inside<T>(dir: &Path, make: impl FnOnce() -> Result<T>) -> Result<T> {
    let hierarchy = Hierarchy::find()?;
    let pid = std::process::id().to_string();
    let enter = |dir: &Path| fs::write(dir.join("cgroup.procs"), &pid).with_context(|| format!("cannot enter {dir:?}"));
    enter(dir)?;
    let made = make();
    enter(hierarchy.mount())?;
    made
}

/// A segment, copied.
#[derive(Clone, Debug)]
struct Seg {
    dir: Direction,
    seq: u32,
    len: u32,
    bytes: Vec<u8>,
    thread: Option<ThreadId>,
}

/// What was announced of a socket.
#[derive(Clone, Debug)]
struct Open {
    cgroup: Option<CgroupId>,
    local: SocketAddr,
    peer: SocketAddr,
    role: Role,
    tx_start: Option<u32>,
    rx_start: Option<u32>,
}

/// Everything a source has delivered.
#[derive(Default)]
struct Log {
    paths: HashMap<CgroupId, String>,
    opened: HashMap<SocketCookie, Open>,
    segments: HashMap<SocketCookie, Vec<Seg>>,
    closed: Vec<SocketCookie>,
    readers: HashMap<SocketCookie, Vec<ThreadId>>,
    lost: HashMap<&'static str, u64>,
    /// Secrets of TLS handshakes: label, and the bytes in hexadecimal digits.
    secrets: Vec<(String, String)>,
    /// Segments of sockets, and sockets of cgroups, that were not announced before.
    unannounced: u64,
}

impl Log {
    fn event(&mut self, event: &Event<'_>) {
        match *event {
            Event::CgroupSeen { id, path, .. } => {
                self.paths.insert(id, path.to_owned());
            }
            Event::Opened { cookie, cgroup, local, peer, role, tx_start, rx_start, .. } => {
                if cgroup.is_some_and(|id| !self.paths.contains_key(&id)) {
                    self.unannounced += 1;
                }
                self.opened.insert(cookie, Open { cgroup, local, peer, role, tx_start, rx_start });
            }
            Event::Segment(s) => {
                if !self.opened.contains_key(&s.cookie) {
                    self.unannounced += 1;
                }
                let seg = Seg { dir: s.dir, seq: s.seq, len: s.len, bytes: s.bytes.to_vec(), thread: s.thread };
                self.segments.entry(s.cookie).or_default().push(seg);
            }
            Event::Closed { cookie, .. } => self.closed.push(cookie),
            Event::TlsSecret(told) => {
                let digits = told.secret.bytes().iter().map(|b| format!("{b:02x}")).collect();
                self.secrets.push((told.label.name().to_owned(), digits));
            }
            Event::Reader { cookie, thread, .. } => self.readers.entry(cookie).or_default().push(thread),
            Event::Lost { stage: LossStage::Kernel, reason, count, .. } => {
                *self.lost.entry(reason).or_default() += count
            }
            _ => {}
        }
    }

    /// The socket with this local and peer address.
    fn socket(&self, local: SocketAddr, peer: SocketAddr) -> Result<(SocketCookie, &Open)> {
        self.opened
            .iter()
            .find(|(_, o)| o.local == local && o.peer == peer)
            .map(|(c, o)| (*c, o))
            .with_context(|| format!("no socket {local} - {peer} among {:?}", self.opened))
    }

    /// The bytes one way, put in order; fails at a gap, a truncation, or an overlap that differs.
    fn stream(&self, cookie: SocketCookie, dir: Direction, start: u32) -> Result<Vec<u8>> {
        let mut segments: Vec<&Seg> =
            self.segments.get(&cookie).into_iter().flatten().filter(|s| s.dir == dir).collect();
        segments.sort_by_key(|s| s.seq.wrapping_sub(start));
        let mut out = Vec::new();
        for s in segments {
            ensure!(s.bytes.len() == s.len as usize, "truncated: {} of {}", s.bytes.len(), s.len);
            let at = s.seq.wrapping_sub(start) as usize;
            ensure!(at <= out.len(), "gap: {at} after {}", out.len());
            // What a retransmission brings again is skipped.
            out.extend(s.bytes.iter().skip(out.len() - at));
        }
        Ok(out)
    }
}

/// Polls until `enough`, at most two seconds.
fn gather(source: &mut LiveSource, log: &mut Log, enough: impl Fn(&Log) -> bool) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(2);
    while !enough(log) && Instant::now() < end {
        source.poll(Duration::from_millis(50), &mut |e| log.event(&e))?;
    }
    Ok(())
}

/// Polls for a while whatever comes.
fn settle(source: &mut LiveSource, log: &mut Log) -> Result<()> {
    let end = Instant::now() + Duration::from_millis(100);
    while Instant::now() < end {
        source.poll(Duration::from_millis(10), &mut |e| log.event(&e))?;
    }
    source.poll(Duration::ZERO, &mut |e| log.event(&e))?;
    Ok(())
}

fn open(tree: &Tree, config: CaptureConfig) -> Result<LiveSource> {
    let top = Hierarchy::find()?.path_of(tree.root()).context("the tree is in the hierarchy")?;
    let below = format!("{top}/");
    LiveSource::open(config, Box::new(move |path| path.starts_with(&below) && !path.contains("unwatched")))
        .context("cannot capture; run as root, with a binary built by `cargo xtask build`")
}

/// A connected pair: the client made in one cgroup, the listener in another.
struct Pair {
    client: TcpStream,
    server: TcpStream,
    client_at: SocketAddr,
    server_at: SocketAddr,
}

fn connect(client: &Path, server: &Path, listen: &str, to: &str) -> Result<Pair> {
    let listener = inside(server, || Ok(TcpListener::bind(listen)?))?;
    let port = listener.local_addr()?.port();
    let client = inside(client, || Ok(TcpStream::connect((to, port))?))?;
    let (server, _) = listener.accept()?;
    let (client_at, server_at) = (client.local_addr()?, client.peer_addr()?);
    Ok(Pair { client, server, client_at, server_at })
}

fn send(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    let mut got = vec![0; bytes.len()];
    std::thread::scope(|scope| -> Result<()> {
        let writer = scope.spawn(|| from.write_all(bytes));
        to.read_exact(&mut got)?;
        writer.join().map_err(|_| anyhow::anyhow!("writer"))??;
        Ok(())
    })?;
    ensure!(got == bytes);
    Ok(())
}

fn pattern(n: usize, salt: u8) -> Vec<u8> {
    (0..n).map(|i| (i % 251) as u8 ^ salt).collect()
}

/// Runs a Python client in `dir` (as its first act) that prints its own address.
fn python(dir: &Path, program: &str) -> Result<SocketAddr> {
    let out = Command::new("python3")
        .args(["-c", &format!("import os,socket,sys\nopen(sys.argv[1],'w').write(str(os.getpid()))\n{program}")])
        .arg(dir.join("cgroup.procs"))
        .stderr(Stdio::inherit())
        .output()
        .context("python3 is needed")?;
    ensure!(out.status.success());
    Ok(String::from_utf8(out.stdout)?.trim().parse()?)
}
