//! Which thread sends and which reads.

use monitor::capture::Budget;
use monitor::capture::ebpf::SENDER_THREAD;

use super::*;

/// This thread as the kernel calls it.
fn this_thread() -> Result<ThreadId> {
    let link = fs::read_link("/proc/thread-self")?;
    let tid = link.file_name().and_then(|n| n.to_str()).context("no thread in /proc/thread-self")?;
    Ok(ThreadId(tid.parse()?))
}

/// Runs `work` on a thread of its own; gives that thread.
fn elsewhere(work: impl FnOnce() -> Result<()> + Send) -> Result<ThreadId> {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                work()?;
                this_thread()
            })
            .join()
            .map_err(|_| anyhow::anyhow!("the thread panicked"))?
    })
}

/// Whether a hook works; says so if not, for on some kernels it cannot.
fn works(source: &mut LiveSource, hook: &str) -> bool {
    let status = source.stats().hooks.into_iter().find(|h| h.hook == hook);
    let works = status.as_ref().is_some_and(|h| h.attached);
    if !works {
        eprintln!("NOT TESTED, this kernel does not allow it: {status:?}");
    }
    works
}

#[test]
fn a_segment_names_the_thread_that_sent_it() -> Result<()> {
    let _alone = alone();
    let tree = Tree::new("lw-live-sender")?;
    let (acme, globex) = (tree.dir("acme")?, tree.dir("globex")?);
    let mut source = open(&tree, CaptureConfig::default())?;
    if !works(&mut source, SENDER_THREAD) {
        return Ok(());
    }
    let mut pair = connect(&acme, &globex, "127.0.0.1:0", "127.0.0.1")?;
    pair.client.set_nodelay(true)?;
    pair.server.set_nodelay(true)?;
    let mut senders = Vec::new();
    for i in 0..20u8 {
        let mut got = [0; 4];
        let (client, server) = (&mut pair.client, &mut pair.server);
        let by = elsewhere(|| Ok(client.write_all(&[i; 4])?))?;
        server.read_exact(&mut got)?;
        let answered_by = elsewhere(|| Ok(server.write_all(&[i; 4])?))?;
        client.read_exact(&mut got)?;
        senders.push((by, answered_by));
    }
    let (client_at, server_at) = (pair.client_at, pair.server_at);
    drop(pair);
    let mut log = Log::default();
    gather(&mut source, &mut log, |l| l.closed.len() >= 2)?;
    let (client, _) = log.socket(client_at, server_at)?;
    let (server, _) = log.socket(server_at, client_at)?;
    let of = |cookie, dir| log.segments[&cookie].iter().filter(move |s| s.dir == dir).map(|s| s.thread);
    assert_eq!(of(client, Direction::Tx).collect::<Vec<_>>(), senders.iter().map(|s| Some(s.0)).collect::<Vec<_>>());
    assert_eq!(of(server, Direction::Tx).collect::<Vec<_>>(), senders.iter().map(|s| Some(s.1)).collect::<Vec<_>>());
    // Whoever ran when it came in is nobody's sender.
    assert!(of(client, Direction::Rx).chain(of(server, Direction::Rx)).all(|t| t.is_none()));

    // Without, nothing is told.
    let mut source = open(&tree, CaptureConfig { threads: false, ..CaptureConfig::default() })?;
    let mut log = Log::default();
    let mut pair = connect(&acme, &globex, "127.0.0.1:0", "127.0.0.1")?;
    send(&mut pair.client, &mut pair.server, b"anonymous")?;
    gather(&mut source, &mut log, |l| l.segments.len() >= 2)?;
    assert!(log.segments.len() == 2 && log.segments.values().flatten().all(|s| s.thread.is_none()));
    assert!(log.readers.is_empty());
    Ok(())
}

/// What did not fit into the receiver's window is sent by the kernel when the receiver makes room: on top of the
/// receiver's thread, which must not be taken for the sender.
#[test]
fn what_the_kernel_sends_later_has_no_sender() -> Result<()> {
    let _alone = alone();
    let tree = Tree::new("lw-live-later")?;
    let dir = tree.dir("acme")?;
    let config = CaptureConfig { ring_bytes: 32 << 20, ..CaptureConfig::default() };
    let mut source = open(&tree, config)?;
    if !works(&mut source, SENDER_THREAD) {
        return Ok(());
    }
    let listener = inside(&dir, || Ok(TcpListener::bind("127.0.0.1:0")?))?;
    let port = listener.local_addr()?.port();
    let mut reader = Command::new("bash")
        .args(["-c", &format!("exec 3<>/dev/tcp/127.0.0.1/{port}; sleep 0.3; exec cat <&3 >/dev/null")])
        .stdin(Stdio::null())
        .spawn()?;
    let (mut server, client_at) = listener.accept()?;
    let server_at = server.local_addr()?;
    // This thread sleeps meanwhile: the kernel has no other of this process to borrow.
    let sender = elsewhere(move || {
        server.write_all(&pattern(8 << 20, 3))?;
        drop(server);
        Ok(())
    })?;
    ensure!(reader.wait()?.success());
    let mut log = Log::default();
    gather(&mut source, &mut log, |l| !l.closed.is_empty())?;
    let (server, _) = log.socket(server_at, client_at)?;
    let sent: Vec<_> = log.segments[&server].iter().filter(|s| s.dir == Direction::Tx).map(|s| s.thread).collect();
    let by_thread = sent.iter().filter(|t| **t == Some(sender)).count();
    let by_nobody = sent.iter().filter(|t| t.is_none()).count();
    assert!(by_thread > 0 && by_nobody > 0, "{by_thread} by the thread, {by_nobody} by nobody of {}", sent.len());
    assert_eq!(by_thread + by_nobody, sent.len(), "{sent:?}, sent by {sender:?}");
    Ok(())
}

#[test]
fn each_read_is_told_where_that_is_asked_for() -> Result<()> {
    let _alone = alone();
    let tree = Tree::new("lw-live-reads")?;
    let (acme, globex) = (tree.dir("acme")?, tree.dir("globex")?);
    let mut source = open(&tree, CaptureConfig::default())?;
    if !works(&mut source, "reader_thread") {
        return Ok(());
    }
    let mut pair = connect(&acme, &globex, "127.0.0.1:0", "127.0.0.1")?;
    let mut log = Log::default();
    gather(&mut source, &mut log, |l| l.opened.len() >= 2)?;
    let (server, _) = log.socket(pair.server_at, pair.client_at)?;
    source.set_budget(server, Budget::Full, Budget::Full, true);
    inside(&globex, || {
        for _ in 0..5 {
            pair.client.write_all(b"ping")?;
            pair.server.read_exact(&mut [0; 4])?;
        }
        Ok(())
    })?;
    settle(&mut source, &mut log)?;
    let me = this_thread()?;
    assert_eq!(log.readers.get(&server), Some(&vec![me; 5]));
    let segments = log.segments.get(&server).map_or(0, Vec::len);
    assert_eq!(segments, 5, "the budget for what is sent and received is as before");
    source.set_budget(server, Budget::Full, Budget::Full, false);
    inside(&globex, || {
        pair.client.write_all(b"ping")?;
        Ok(pair.server.read_exact(&mut [0; 4])?)
    })?;
    settle(&mut source, &mut log)?;
    assert_eq!(log.readers.get(&server).map(Vec::len), Some(5), "the same reader as before");
    Ok(())
}

#[test]
fn a_change_of_reader_is_told() -> Result<()> {
    let _alone = alone();
    let tree = Tree::new("lw-live-reader")?;
    let (acme, globex) = (tree.dir("acme")?, tree.dir("globex")?);
    let unwatched = tree.dir("unwatched")?;
    let mut source = open(&tree, CaptureConfig::default())?;
    if !works(&mut source, "reader_thread") {
        return Ok(());
    }
    let mut pair = connect(&acme, &globex, "127.0.0.1:0", "127.0.0.1")?;
    let mut other = connect(&unwatched, &unwatched, "127.0.0.1:0", "127.0.0.1")?;
    let mut expected = Vec::new();
    let mut got = [0; 4];
    let mut round = || {
        let (client, server) = (&mut pair.client, &mut pair.server);
        // Twice by one thread: told once. A look at what is there is no reading, nor is finding nothing.
        expected.push(elsewhere(|| {
            for _ in 0..2 {
                client.write_all(b"ping")?;
                server.read_exact(&mut [0; 4])?;
            }
            Ok(())
        })?);
        client.write_all(b"ping")?;
        elsewhere(|| {
            ensure!(server.peek(&mut [0; 4])? == 4);
            Ok(())
        })?;
        server.read_exact(&mut got)?;
        expected.push(this_thread()?);
        elsewhere(|| {
            server.set_nonblocking(true)?;
            ensure!(server.read(&mut [0; 4]).is_err());
            Ok(server.set_nonblocking(false)?)
        })?;
        send(&mut other.client, &mut other.server, b"nobody's business")
    };
    // Threads are told by their own cgroup first.
    for _ in 0..3 {
        inside(&globex, &mut round)?;
    }
    let (client_at, server_at) = (pair.client_at, pair.server_at);
    drop(pair);
    let mut log = Log::default();
    gather(&mut source, &mut log, |l| l.closed.len() >= 2)?;
    let (server, _) = log.socket(server_at, client_at)?;
    assert_eq!(log.readers.get(&server), Some(&expected));
    assert_eq!(log.readers.len(), 1, "the client has read nothing, and nobody asked about the others");
    Ok(())
}
