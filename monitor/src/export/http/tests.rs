//! The whole server, asked over real connections.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;

use axum::http::StatusCode;
use monitor_core::model::{Nanos, Severity};
use tokio::sync::oneshot;

use super::*;
use crate::export::{Readiness, sample};
use crate::metrics::Metrics;

/// A server that runs until this is dropped.
struct Running {
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
    stop: Option<oneshot::Sender<()>>,
}

impl Running {
    fn start(config: HttpConfig, shared: Arc<Shared>) -> Self {
        let server = Server::bind(&config).unwrap();
        let address = server.address().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        runtime.spawn(server.serve(shared, async { drop(stopped.await) }));
        Self { address, runtime: Some(runtime), stop: Some(stop) }
    }

    fn at(&self, ip: IpAddr) -> SocketAddr {
        SocketAddr::new(ip, self.address.port())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(1));
    }
}

/// Asks, and reads until the server ends the connection: (status, head, body).
fn ask_over(mut stream: impl Read + Write, path: &str, headers: &str) -> (u16, String, String) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n").unwrap();
    let mut text = Vec::new();
    // Who ends TLS without saying so is none of our business here.
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

fn on_loopback() -> HttpConfig {
    HttpConfig { listen: Some("127.0.0.1:0".parse().unwrap()), ..HttpConfig::default() }
}

/// Serves `shared` while `client` asks; gives each answer as (status, head, body).
fn ask(shared: Arc<Shared>, paths: &[&str]) -> Vec<(u16, String, String)> {
    let server = Running::start(on_loopback(), shared);
    paths.iter().map(|path| ask_over(TcpStream::connect(server.address).unwrap(), path, "")).collect()
}

fn shared() -> Arc<Shared> {
    Arc::new(Shared::new(Arc::new(Metrics::new().unwrap())))
}

/// An address of this host that is not loopback: as good as another host's. No packet is sent for this.
fn elsewhere() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[test]
fn health_readiness_metrics_and_services() {
    let shared = shared();
    shared.set_services("[{\"name\":\"orders-db\"}]".into());
    shared.set_tools("[{\"tool\":\"search\"}]".into());
    shared.metrics().set(crate::metrics::Metric::Flows, &["decoded"], 3.0);
    let not_ready = ask(shared.clone(), &["/healthz", "/readyz", "/metrics", "/services", "/nothing", "/tools"]);
    assert_eq!(not_ready.iter().map(|a| a.0).collect::<Vec<_>>(), [200, 503, 200, 200, 404, 200]);
    assert_eq!(not_ready[5].2, "[{\"tool\":\"search\"}]\n");
    assert!(not_ready[2].1.contains("text/plain; version=0.0.4"), "{}", not_ready[2].1);
    assert!(not_ready[2].2.contains("leasewarden_flows{state=\"decoded\"} 3"));
    assert_eq!(not_ready[3].2, "[{\"name\":\"orders-db\"}]\n");
    let well = Readiness { hooks: true, identity: true, ..Readiness::default() };
    shared.set_readiness(Readiness { lost: vec!["hook x".into()], ..well.clone() });
    let ready = ask(shared.clone(), &["/readyz"]);
    assert_eq!((ready[0].0, ready[0].2.as_str()), (200, r#"{"hooks":true,"identity":true,"lost":["hook x"]}"#));
    // Stale knowledge is shown, and no reason to take the agent out of service.
    let stale = vec!["kubernetes pods: connection refused".into()];
    shared.set_readiness(Readiness { stale, ..well.clone() });
    let stale = ask(shared.clone(), &["/readyz"]);
    assert_eq!(stale[0].0, 200);
    assert!(stale[0].2.contains(r#""stale":["kubernetes pods: connection refused"]"#), "{}", stale[0].2);
    // Findings that go nowhere are.
    let unwritten = vec!["cannot write to f: No space left on device".into()];
    shared.set_readiness(Readiness { unwritten, ..well });
    let full = ask(shared, &["/readyz", "/healthz"]);
    assert_eq!((full[0].0, full[1].0), (503, 200));
    assert!(full[0].2.contains("No space left"), "{}", full[0].2);
}

fn ids(body: &str) -> Vec<String> {
    let list: Vec<serde_json::Value> = serde_json::from_str(body).unwrap();
    list.iter().map(|f| f["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn findings_with_filters() {
    let shared = shared();
    let mut f = sample::finding();
    shared.put_finding(&f);
    f.id = "7a".into();
    f.severity = Severity::Medium;
    f.tenants.used = Some("umbrella".into());
    f.last_seen = Nanos(f.last_seen.0 + 1);
    shared.put_finding(&f);
    shared.put_finding(&sample::of_a_pod());
    let answers = ask(
        shared,
        &[
            "/findings",
            "/findings?limit=1",
            "/findings?severity=critical&rule=pool-stale-binding",
            "/findings?tenant=nobody",
            "/findings?severity=worst",
            "/findings?servce=x",
            "/findings?service=orders-db&min_severity=high&since=2020-01-01T00:00:00Z",
            "/findings?since=yesterday",
            "/findings/7a",
            "/findings/7b",
            "/findings?suppressed=true",
            "/findings?suppressed=all",
            "/findings?suppressed=perhaps",
        ],
    );
    assert_eq!(ids(&answers[0].2), ["7a", "6c1f"]);
    assert_eq!(ids(&answers[1].2), ["7a"]);
    assert_eq!(ids(&answers[2].2), ["6c1f"]);
    assert!(ids(&answers[3].2).is_empty());
    assert_eq!((answers[4].0, answers[5].0), (400, 400));
    assert!(answers[4].2.contains("info, low, medium, high, critical"));
    assert_eq!(ids(&answers[6].2), ["6c1f"]);
    assert_eq!(answers[7].0, 400);
    let one: serde_json::Value = serde_json::from_str(&answers[8].2).unwrap();
    assert_eq!((one["id"].as_str(), answers[9].0), (Some("7a"), 404));
    assert_eq!(ids(&answers[10].2), ["7a01"]);
    assert!(answers[10].2.contains(r#""suppressed":{"reason":"known""#));
    assert_eq!((ids(&answers[11].2).len(), answers[12].0), (3, 400));
}

#[test]
fn pages_show_everything_once() {
    let shared = shared();
    for i in 0..25u64 {
        let mut f = sample::finding();
        f.id = format!("{i:02}");
        // Several at one time: the id decides.
        f.last_seen = Nanos(1_000_000 + i / 3);
        shared.put_finding(&f);
    }
    let server = Running::start(on_loopback(), shared);
    let (mut path, mut seen, mut pages) = ("/findings?limit=10&service=orders-db".to_owned(), Vec::new(), 0);
    loop {
        let (status, head, body) = ask_over(TcpStream::connect(server.address).unwrap(), &path, "");
        assert_eq!(status, 200, "{body}");
        seen.extend(ids(&body));
        pages += 1;
        let link = head.lines().find_map(|l| l.strip_prefix("link: <")).map(|l| l.split('>').next().unwrap());
        match link {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    let all: Vec<String> = (0..25).rev().map(|i| format!("{i:02}")).collect();
    assert_eq!((pages, seen), (3, all));
}

#[test]
fn a_stuck_engine_is_not_healthy() {
    assert_eq!(routes::health(Duration::from_secs(2)).status(), StatusCode::OK);
    assert_eq!(routes::health(Duration::from_secs(31)).status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn an_address_in_use_is_said_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = listen(taken.local_addr().unwrap()).unwrap_err().to_string();
    assert!(error.contains("in use") && error.contains("`export.listen`"), "{error}");
}

#[test]
fn what_tells_of_tenants_is_for_this_host() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let config = HttpConfig {
        listen: Some("0.0.0.0:0".parse().unwrap()),
        socket: Some(socket.clone()),
        ..HttpConfig::default()
    };
    let server = Running::start(config, shared());
    let private = ["/findings", "/findings?limit=1", "/findings/6c1f", "/services", "/tools"];
    for path in private {
        let local = ask_over(TcpStream::connect(server.at(Ipv4Addr::LOCALHOST.into())).unwrap(), path, "");
        let beside = ask_over(UnixStream::connect(&socket).unwrap(), path, "");
        assert!([200, 404].contains(&local.0) && local.0 == beside.0, "{path}: {local:?} {beside:?}");
    }
    let Some(ip) = elsewhere() else {
        eprintln!("NOT RUN: this host has no address but loopback");
        return;
    };
    let token = "Authorization: Bearer a-token-of-enough-bytes\r\n";
    for path in private {
        let answer = ask_over(TcpStream::connect(server.at(ip)).unwrap(), path, token);
        assert_eq!(answer.0, 403, "{path}: {answer:?}");
        for word in ["export.socket", "export.tls", "export.token_file", "port-forward"] {
            assert!(answer.2.contains(word), "{word}: {}", answer.2);
        }
        // Nobody learns from it what there is.
        assert!(!answer.2.contains("6c1f"));
    }
    for path in ["/metrics", "/healthz", "/"] {
        assert_eq!(ask_over(TcpStream::connect(server.at(ip)).unwrap(), path, "").0, 200, "{path}");
    }
    assert_eq!(ask_over(TcpStream::connect(server.at(ip)).unwrap(), "/readyz", "").0, 503, "not ready, but answered");
}

#[test]
fn every_address_is_both_families() {
    let server =
        Running::start(HttpConfig { listen: Some("[::]:0".parse().unwrap()), ..HttpConfig::default() }, shared());
    let v4 = ask_over(TcpStream::connect(server.at(Ipv4Addr::LOCALHOST.into())).unwrap(), "/services", "");
    assert_eq!(v4.0, 200, "IPv4 loopback is loopback on such a socket too");
    if let Ok(stream) = TcpStream::connect(server.at(Ipv6Addr::LOCALHOST.into())) {
        assert_eq!(ask_over(stream, "/services", "").0, 200);
    }
}

#[test]
fn heads_are_bounded_and_bodies_are_not_read() {
    let server = Running::start(on_loopback(), shared());
    let connect = || TcpStream::connect(server.address).unwrap();
    let long = format!("X: {}\r\n", "a".repeat(20 << 10));
    assert_eq!(ask_over(connect(), "/healthz", &long).0, 431);
    let many: String = (0..100).map(|i| format!("X-{i}: a\r\n")).collect();
    assert_eq!(ask_over(connect(), "/healthz", &many).0, 431);
    let answer = ask_over(connect(), "/healthz", "Content-Length: 1000000000\r\n");
    assert_eq!(answer.0, 413, "{answer:?}");
    assert_eq!(ask_over(connect(), "/healthz", "Transfer-Encoding: chunked\r\n").0, 413);
    let mut post = connect();
    post.write_all(b"POST /findings HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde").unwrap();
    let mut line = String::new();
    BufReader::new(post).read_line(&mut line).unwrap();
    assert!(line.contains("405"), "{line}");
    assert_eq!(ask_over(connect(), "/healthz", "Content-Length: 0\r\n").0, 200);
}

#[cfg(feature = "tls")]
#[path = "tls_tests.rs"]
mod tls;
