//! The whole way, against a collector that answers as it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Instant;

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::export::sample;

/// What the collector does with a request.
#[derive(Clone, Debug)]
enum Answer {
    /// Status line and headers, body.
    Say(&'static str, Vec<u8>),
    /// Nothing, and keeps the connection.
    Hang,
    /// Closes the connection.
    HangUp,
}

fn ok() -> Answer {
    Answer::Say("200 OK", Vec::new())
}

#[derive(Debug)]
struct Heard {
    at: Instant,
    head: String,
    messages: Vec<String>,
}

/// Answers each request by the next of the script, the last one for ever.
#[derive(Debug)]
struct Collector {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    task: JoinHandle<()>,
}

impl Collector {
    async fn new(script: impl IntoIterator<Item = Answer>) -> Self {
        Self::at(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
    }

    fn at(listener: TcpListener, script: impl IntoIterator<Item = Answer>) -> Self {
        let address = listener.local_addr().unwrap();
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let script: Arc<Mutex<VecDeque<Answer>>> = Arc::new(Mutex::new(script.into_iter().collect()));
        let log = heard.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(talk(stream, script.clone(), log.clone()));
            }
        });
        Self { address, heard, task }
    }

    fn messages(&self) -> Vec<Vec<String>> {
        self.heard.lock().unwrap().iter().map(|h| h.messages.clone()).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn talk(mut stream: TcpStream, script: Arc<Mutex<VecDeque<Answer>>>, heard: Arc<Mutex<Vec<Heard>>>) {
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8(bytes.drain(..head_end).collect()).unwrap().to_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
        while bytes.len() < length {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body: Vec<u8> = bytes.drain(..length).collect();
        let request = ExportLogsServiceRequest::decode(body.as_slice()).unwrap();
        heard.lock().unwrap().push(Heard { at: Instant::now(), head, messages: messages(&request) });
        let answer = {
            let mut script = script.lock().unwrap();
            if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
        };
        match answer.unwrap() {
            Answer::Say(head, body) => {
                let head = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len());
                if stream.write_all(&[head.as_bytes(), &body].concat()).await.is_err() {
                    return;
                }
            }
            Answer::Hang => std::future::pending().await,
            Answer::HangUp => return,
        }
    }
}

fn messages(request: &ExportLogsServiceRequest) -> Vec<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let records = request.resource_logs.iter().flat_map(|r| &r.scope_logs).flat_map(|s| &s.log_records);
    records
        .map(|r| match r.body.clone().and_then(|b| b.value) {
            Some(Value::StringValue(text)) => text,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn config(address: SocketAddr) -> OtlpConfig {
    OtlpConfig {
        endpoint: format!("http://{address}/v1/logs").parse().unwrap(),
        ca: None,
        headers: Vec::new(),
        timeout: Duration::from_secs(10),
        bounds: Bounds::default(),
    }
}

fn start(config: &OtlpConfig) -> (Exporter, JoinHandle<()>) {
    let exporter = Exporter::new(config, &Origin::default()).unwrap();
    let worker = tokio::spawn(exporter.clone().work());
    (exporter, worker)
}

fn put(exporter: &Exporter, names: std::ops::Range<u32>) {
    for name in names {
        let mut f = sample::finding();
        f.message = name.to_string();
        exporter.put(&f, FindingEvent::New);
    }
}

/// Waits until the totals are as wanted.
async fn until(exporter: &Exporter, wanted: impl Fn(&Totals) -> bool) -> Totals {
    let began = Instant::now();
    loop {
        let totals = exporter.totals();
        if wanted(&totals) {
            return totals;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{totals:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn findings_arrive_together_once_and_in_order() {
    let collector = Collector::new([ok()]).await;
    let mut config = config(collector.address);
    config.headers = vec![(HeaderName::from_static("x-scope-orgid"), HeaderValue::from_static("platform"))];
    let (exporter, worker) = start(&config);
    put(&exporter, 0..3);
    let totals = until(&exporter, |t| t.sent == 3).await;
    assert_eq!((totals.requests_ok, totals.waiting, totals.waiting_bytes), (1, 0, 0));
    put(&exporter, 3..4);
    until(&exporter, |t| t.sent == 4).await;
    exporter.finish(worker).await;
    assert_eq!(collector.messages(), [vec!["0", "1", "2"], vec!["3"]]);
    let heard = collector.heard.lock().unwrap();
    let head = &heard.first().unwrap().head;
    assert!(head.starts_with("post /v1/logs http/1.1\r\n"), "{head}");
    for line in ["content-type: application/x-protobuf", "x-scope-orgid: platform", "user-agent: leasewarden/"] {
        assert!(head.contains(&format!("\r\n{line}")), "{head}");
    }
}

#[tokio::test]
async fn what_the_collector_puts_off_is_sent_again_when_it_asks_for_it() {
    let collector = Collector::new([Answer::Say("503 Busy\r\nretry-after: 2", Vec::new()), ok()]).await;
    let (exporter, worker) = start(&config(collector.address));
    put(&exporter, 0..2);
    let totals = until(&exporter, |t| t.sent == 2).await;
    assert_eq!((totals.requests_busy, totals.requests_ok), (1, 1));
    exporter.finish(worker).await;
    assert_eq!(collector.messages(), [["0", "1"], ["0", "1"]]);
    let heard = collector.heard.lock().unwrap();
    let waited = heard.get(1).unwrap().at - heard.first().unwrap().at;
    assert!((2.0..10.0).contains(&waited.as_secs_f64()), "{waited:?}");
}

#[tokio::test]
async fn what_the_collector_refuses_is_dropped_and_counted() {
    let partial = ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess { rejected_log_records: 2, error_message: "too old".into() }),
    };
    let script = [Answer::Say("400 Bad Request", Vec::new()), Answer::Say("200 OK", partial.encode_to_vec()), ok()];
    let collector = Collector::new(script).await;
    let (exporter, worker) = start(&config(collector.address));
    put(&exporter, 0..2);
    let totals = until(&exporter, |t| t.refused == 2).await;
    assert_eq!((totals.requests_refused, totals.waiting), (1, 0));
    put(&exporter, 2..5);
    let totals = until(&exporter, |t| t.rejected == 2).await;
    assert_eq!((totals.sent, totals.requests_ok), (1, 1));
    put(&exporter, 5..6);
    until(&exporter, |t| t.sent == 2).await;
    exporter.finish(worker).await;
    assert_eq!(collector.messages().concat(), ["0", "1", "2", "3", "4", "5"], "nothing was sent twice");
}

#[tokio::test]
async fn a_collector_that_hangs_or_hangs_up_gets_it_again() {
    let collector = Collector::new([Answer::Hang, Answer::HangUp, ok()]).await;
    let mut config = config(collector.address);
    config.timeout = Duration::from_millis(500);
    let (exporter, worker) = start(&config);
    put(&exporter, 0..1);
    let totals = until(&exporter, |t| t.sent == 1).await;
    assert_eq!((totals.requests_timeout, totals.requests_unreachable, totals.requests_ok), (1, 1, 1));
    exporter.finish(worker).await;
    assert_eq!(collector.messages(), [["0"], ["0"], ["0"]]);
}

#[tokio::test]
async fn without_a_collector_the_newest_wait_and_the_rest_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut config = config(address);
    config.bounds = Bounds { records: 10, bytes: 1 << 20 };
    let (exporter, worker) = start(&config);
    put(&exporter, 0..4);
    until(&exporter, |t| t.requests_unreachable > 0).await;
    let began = Instant::now();
    put(&exporter, 4..1_000);
    assert!(began.elapsed() < Duration::from_secs(1), "the engine's thread does not wait: {:?}", began.elapsed());
    let totals = exporter.totals();
    assert_eq!((totals.queue_full, totals.waiting), (990, 10));
    assert!(totals.waiting_bytes <= 1 << 20);
    // The collector comes up.
    let collector = Collector::at(TcpListener::bind(address).await.unwrap(), [ok()]);
    until(&exporter, |t| t.sent == 10).await;
    exporter.finish(worker).await;
    let expected: Vec<String> = (990..1_000).map(|n| n.to_string()).collect();
    assert_eq!(collector.messages().concat(), expected);
}

#[tokio::test]
async fn a_stopping_agent_sends_what_it_has_at_once() {
    let collector = Collector::new([Answer::Say("503 Busy\r\nretry-after: 60", Vec::new()), ok()]).await;
    let (exporter, worker) = start(&config(collector.address));
    put(&exporter, 0..1);
    until(&exporter, |t| t.requests_busy == 1).await;
    put(&exporter, 1..1_500);
    let began = Instant::now();
    exporter.clone().finish(worker).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!((exporter.totals().sent, exporter.totals().shutdown), (1_500, 0));
    assert_eq!(collector.messages().len(), 4, "the first once more, in batches of 512");
}

#[tokio::test]
async fn a_stopping_agent_waits_for_nobody_longer_than_two_seconds() {
    let collector = Collector::new([Answer::Hang]).await;
    let mut config = config(collector.address);
    config.timeout = Duration::from_secs(60);
    let (exporter, worker) = start(&config);
    put(&exporter, 0..3);
    let began = Instant::now();
    while collector.messages().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    put(&exporter, 3..5);
    let began = Instant::now();
    exporter.clone().finish(worker).await;
    assert!((1.9..10.0).contains(&began.elapsed().as_secs_f64()), "{:?}", began.elapsed());
    assert_eq!((exporter.totals().sent, exporter.totals().shutdown, exporter.totals().waiting), (0, 5, 0));
    put(&exporter, 5..6);
    assert_eq!(exporter.totals().shutdown, 6, "what comes later is counted, too");
}

#[test]
fn nothing_prints_a_secret() {
    let mut value = HeaderValue::from_static("Bearer very-secret-value");
    value.set_sensitive(true);
    let mut config = config("127.0.0.1:4318".parse().unwrap());
    config.headers = vec![(HeaderName::from_static("authorization"), value)];
    let exporter = Exporter::new(&config, &Origin::default()).unwrap();
    assert!(!format!("{config:?}{exporter:?}").contains("very-secret"));
}
