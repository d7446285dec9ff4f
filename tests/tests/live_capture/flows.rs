//! Which connections are seen, and where each begins and ends.

use monitor::capture::Budget;
use monitor::capture::ebpf::{HOOKS, Probes};

use super::*;

#[test]
fn an_older_connection_is_picked_up_and_its_end_is_told() -> Result<()> {
    let _alone = alone();
    let tree = Tree::new("lw-live-older")?;
    let dir = tree.dir("tenants/acme")?;
    let mut pair = connect(&dir, &dir, "127.0.0.1:0", "127.0.0.1")?;
    send(&mut pair.client, &mut pair.server, b"before")?;
    let mut source = open(&tree, CaptureConfig::default())?;
    let mut log = Log::default();
    send(&mut pair.client, &mut pair.server, b"after")?;
    let (client_at, server_at) = (pair.client_at, pair.server_at);
    drop(pair);
    gather(&mut source, &mut log, |l| l.closed.len() >= 2)?;
    let (cookie, open) = log.socket(client_at, server_at)?;
    assert_eq!((open.role, open.tx_start, open.rx_start), (Role::Unknown, None, None));
    assert_eq!(log.segments[&cookie].iter().map(|s| s.bytes.as_slice()).collect::<Vec<_>>(), [b"after"]);
    assert!(log.closed.contains(&cookie));
    Ok(())
}

#[test]
fn unwatched_cgroups_are_silent_and_new_ones_are_decided() -> Result<()> {
    let _alone = alone();
    let tree = Tree::new("lw-live-policy")?;
    let unwatched = tree.dir("unwatched")?;
    let mut source = open(&tree, CaptureConfig::default())?;
    let mut log = Log::default();
    let mut pair = connect(&unwatched, &unwatched, "127.0.0.1:0", "127.0.0.1")?;
    send(&mut pair.client, &mut pair.server, b"nobody listens")?;
    let later = tree.dir("tenants/later/nested")?;
    let unwatched_later = tree.dir("unwatched/nested")?;
    // Below an ignored directory a new cgroup is ignored until the agent has decided about it.
    settle(&mut source, &mut log)?;
    let mut seen = connect(&later, &unwatched_later, "127.0.0.1:0", "127.0.0.1")?;
    send(&mut seen.client, &mut seen.server, b"hello")?;
    settle(&mut source, &mut log)?;
    assert_eq!(log.opened.len(), 1, "{:?}", log.opened);
    let (_, open) = log.socket(seen.client_at, seen.server_at)?;
    let path = open.cgroup.and_then(|id| log.paths.get(&id)).context("announced")?;
    assert!(path.ends_with("/tenants/later/nested"));
    // Below a watched one it is watched from its first packet on, before the agent has heard of it.
    let below = tree.dir("tenants/later/nested/deeper")?;
    let mut at_once = connect(&below, &unwatched, "127.0.0.1:0", "127.0.0.1")?;
    send(&mut at_once.client, &mut at_once.server, b"hello")?;
    settle(&mut source, &mut log)?;
    let (cookie, open) = log.socket(at_once.client_at, at_once.server_at)?;
    assert_eq!(open.role, Role::Client);
    assert_eq!(log.segments.get(&cookie).map(Vec::len), Some(1));
    assert_eq!(log.unannounced, 0);
    Ok(())
}

/// `run --probe-log`: each reason is counted where it applies, with the cgroup it applied to; and without it the programs
/// are as short as if there were no such thing.
#[test]
fn why_a_packet_is_not_captured_is_told_and_costs_nothing_unless_asked() -> Result<()> {
    let _alone = alone();
    let tree = Tree::new("lw-live-skipped")?;
    let (unwatched, watched) = (tree.dir("unwatched")?, tree.dir("tenants/acme")?);
    let mut source = open(&tree, CaptureConfig { explain: true, ..CaptureConfig::default() })?;
    let mut log = Log::default();
    let mut pair = connect(&unwatched, &unwatched, "127.0.0.1:0", "127.0.0.1")?;
    send(&mut pair.client, &mut pair.server, b"nobody listens")?;
    let mut seen = connect(&watched, &watched, "127.0.0.1:0", "127.0.0.1")?;
    send(&mut seen.client, &mut seen.server, b"hello")?;
    settle(&mut source, &mut log)?;
    let cookies: Vec<SocketCookie> = log.opened.keys().copied().collect();
    cookies.iter().for_each(|c| source.set_budget(*c, Budget::Silent, Budget::Silent, false));
    send(&mut seen.client, &mut seen.server, b"nobody wants this")?;
    // A datagram.
    let program = "\
u=socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('127.0.0.1',0)); u.sendto(b'no tcp', u.getsockname())
print('127.0.0.1:%d' % u.getsockname()[1])";
    python(&watched, program)?;
    settle(&mut source, &mut log)?;
    let skipped: HashMap<&str, (u64, CgroupId)> = source.skipped().into_iter().map(|(r, n, c)| (r, (n, c))).collect();
    for (reason, dir) in
        [("not_watched", &unwatched), ("not_tcp", &watched), ("no_payload", &watched), ("not_wanted", &watched)]
    {
        let (n, cgroup) = skipped.get(reason).copied().context(reason)?;
        ensure!(n > 0, "{reason}: {skipped:?}");
        // Other sockets of this host are not watched either.
        let hierarchy = Hierarchy::find()?;
        let there = hierarchy.path_of(dir).and_then(|path| hierarchy.id(&path));
        ensure!(reason == "not_watched" || Some(cgroup) == there, "{reason}: {cgroup:?}, not {there:?}");
    }
    drop(source);

    let lengths = |explain| -> Result<Vec<u32>> {
        let mut probes = Probes::load(&CaptureConfig { explain, ..CaptureConfig::default() })?;
        let hooks = HOOKS.iter().filter(|h| h.program == "lw_egress" || h.program == "lw_ingress");
        hooks
            .map(|hook| {
                // One of them may be loaded already, to find out what the kernel takes.
                let _ = probes.load_only(hook);
                probes.instructions(hook).context("not loaded")
            })
            .collect()
    };
    for (without, with) in lengths(false)?.into_iter().zip(lengths(true)?) {
        println!("{without} instructions, with reasons {with}");
        ensure!(without < with, "{without} instructions without reasons, {with} with them");
    }
    let mut silent = open(&tree, CaptureConfig::default())?;
    send(&mut pair.client, &mut pair.server, b"nobody counts")?;
    settle(&mut silent, &mut log)?;
    assert!(silent.skipped().is_empty());
    Ok(())
}

#[test]
fn payload_that_completes_a_handshake_is_joined_with_its_connection() -> Result<()> {
    let _alone = alone();
    let tree = Tree::new("lw-live-deferred")?;
    let dir = tree.dir("tenants/acme")?;
    let mut source = open(&tree, CaptureConfig::default())?;
    let mut log = Log::default();
    // With TCP_DEFER_ACCEPT the bare acknowledgement is ignored and the payload meets the listener.
    let program = "\
l=socket.create_server(('127.0.0.1',0)); l.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
c=socket.create_connection(l.getsockname()); c.sendall(b'first words')
s,_=l.accept(); assert s.recv(100)==b'first words'
c.sendall(b', more'); assert s.recv(100)==b', more'
print('%s:%d' % c.getsockname())";
    let client = python(&dir, program)?;
    settle(&mut source, &mut log)?;
    let (cookie, open) = log.opened.iter().find(|(_, o)| o.peer == client).context("the server's socket")?;
    assert_eq!(open.role, Role::Server);
    let start = open.rx_start.context("start")?;
    assert_eq!(log.stream(*cookie, Direction::Rx, start)?, b"first words, more");
    assert_eq!(log.unannounced, 0);
    Ok(())
}

/// Anybody with CAP_NET_RAW, which every Docker container has, can send to a listener what belongs to no connection, and
/// so does a client whose server has closed at once. None of it is of the next connection between the same addresses.
#[test]
fn a_segment_to_the_listener_is_never_of_the_next_connection() -> Result<()> {
    let _alone = alone();
    let tree = Tree::new("lw-live-forged")?;
    let dir = tree.dir("tenants/acme")?;
    let mut source = open(&tree, CaptureConfig::default())?;
    let mut log = Log::default();
    // Before each connection a raw segment from its port: of an older connection, or one that acknowledges anything.
    // Then one that a SYN announces and whose handshake is never completed: the right place, the wrong acknowledgement.
    let program = "\
import struct
def total(b): s=sum(struct.unpack('!%dH'%(len(b)//2), b)); s=(s>>16)+(s&0xffff); return ~(s+(s>>16))&0xffff
l=socket.create_server(('127.0.0.1',0)); port=l.getsockname()[1]
r=socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
lo=socket.inet_aton('127.0.0.1')
def raw(src, seq, ack, flags, data=b''):
  data+=b'\\0'*(len(data)%2)
  def head(c): return struct.pack('!HHIIBBHHH', src, port, seq, ack, 5<<4, flags, 8192, c, 0)
  pseudo=lo+lo+struct.pack('!BBH', 0, 6, 20+len(data))
  r.sendto(head(total(pseudo+head(0)+data))+data, ('127.0.0.1', 0))
first=0
for i in range(16):
  c=socket.socket(); c.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); c.bind(('127.0.0.1', first and first+i))
  src=c.getsockname()[1]; first=first or src
  raw(src, 0x10000000*i+7, 99, 0x18, b'forged %04d!' % i)
  raw(src, 5000, 0, 0x02); raw(src, 5001, 99, 0x18, b'announced %03d' % i)
  c.connect(l.getsockname()); c.sendall(b'the true words')
  s,_=l.accept(); assert s.recv(100)==b'the true words'
  for x in (s, c): x.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); x.close()
print('127.0.0.1:%d' % first)";
    let first = python(&dir, program)?;
    settle(&mut source, &mut log)?;
    let mut n = 0;
    for (cookie, open) in log.opened.iter().filter(|(_, o)| o.role == Role::Server) {
        ensure!(open.peer.port() >= first.port(), "{open:?}");
        let start = open.rx_start.context("start")?;
        assert_eq!(log.stream(*cookie, Direction::Rx, start)?, b"the true words");
        n += 1;
    }
    assert_eq!((n, log.unannounced), (16, 0));
    assert!(log.lost.is_empty(), "{:?}", log.lost);
    Ok(())
}
