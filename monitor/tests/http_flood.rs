//! Clients that mean no good: many, slow, and with much to say. A process of its own, so that its memory is the server's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use monitor::export::Shared;
use monitor::export::http::{HttpConfig, Server};
use monitor::metrics::Metrics;

/// Resident memory, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

fn serve() -> (SocketAddr, tokio::runtime::Runtime, tokio::sync::oneshot::Sender<()>) {
    let listen = Some("127.0.0.1:0".parse().expect("an address"));
    let server = Server::bind(&HttpConfig { listen, ..HttpConfig::default() }).expect("bound");
    let address = server.address().expect("an address");
    let shared = Arc::new(Shared::new(Arc::new(Metrics::new().expect("metrics"))));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    runtime.spawn(server.serve(shared, async { drop(stopped.await) }));
    (address, runtime, stop)
}

fn healthy(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text.starts_with("HTTP/1.1 200")
}

/// Whether the other side has ended it.
fn ended(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("set");
    let mut bytes = [0; 1024];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn half_open_requests_and_a_flood_of_long_heads_cost_no_memory_and_end() {
    let (address, runtime, stop) = serve();
    assert!(healthy(address));
    let before = resident();

    // 200 requests that do not go on.
    let began = Instant::now();
    let mut half: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(address).expect("connected");
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ").expect("sent");
            stream
        })
        .collect();
    assert!(healthy(address), "somebody else is still answered");

    // 2,000 with 380 KiB of head each, all held open.
    let piece = vec![b'a'; 38 << 10];
    let flood: Vec<TcpStream> = (0..2_000)
        .filter_map(|_| {
            let mut stream = TcpStream::connect(address).ok()?;
            stream.set_write_timeout(Some(Duration::from_millis(100))).ok()?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Long: ").ok()?;
            for _ in 0..10 {
                if stream.write_all(&piece).is_err() {
                    break;
                }
            }
            Some(stream)
        })
        .collect();
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB for {} floods", flood.len());
    assert!(healthy(address), "somebody else is still answered");

    // A client that says a byte now and then holds nothing either.
    while !half.iter_mut().all(ended) {
        for stream in &mut half {
            let _ = stream.write_all(b"a");
        }
        std::thread::sleep(Duration::from_millis(500));
        assert!(began.elapsed() < Duration::from_secs(300), "half-open requests are held");
    }
    drop(flood);
    drop(stop);
    runtime.shutdown_timeout(Duration::from_secs(1));
}
