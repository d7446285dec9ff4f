//! How many connections there are, and how long each may take.
//!
//! A newcomer always gets a seat: where none is free, whoever has the most gives up the one that has waited longest.
//! A flood from one address so costs its sender only, and the kubelet's or Prometheus' requests go on.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{oneshot, watch};

use super::access::Who;
use crate::metrics::{Metric, Metrics};

/// Most connections at a time.
pub(super) const MAX: usize = 128;
/// How long a client may take for the head of a request, and stay idle between two.
const HEAD: Duration = Duration::from_secs(10);
/// The same with what comes before it: a TLS handshake.
const WAIT: Duration = Duration::from_secs(15);
/// How long an answer may take until its client has it.
const ANSWER: Duration = Duration::from_secs(30);
/// Most bytes of a request's head.
const HEAD_BYTES: usize = 16 << 10;
/// Most headers of a request.
const HEADERS: usize = 64;
/// Name of the table in metrics.
const TABLE: &str = "http_connections";

/// Where connections come from, as far as they share one lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The Unix socket.
    Here,
    /// One IPv4 address, or one IPv6 network of 64 bits, which is what one host has.
    Net(IpAddr),
}

impl Origin {
    pub(super) fn of(ip: IpAddr) -> Self {
        Self::Net(match ip.to_canonical() {
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & !u128::from(u64::MAX)).into()),
            ip => ip,
        })
    }
}

struct Entry {
    id: u64,
    origin: Origin,
    /// Since when it has waited for a request, or has had one.
    since: Instant,
    /// It has asked, and has not got all of its answer.
    busy: bool,
    /// Dropping it ends the connection.
    _held: oneshot::Sender<()>,
}

#[derive(Default)]
struct Table {
    next: u64,
    entries: Vec<Entry>,
    /// Connections that were ended for others' sake or because they took too long.
    ended: u64,
}

impl Table {
    /// Whose connection must go for a new one from `origin`.
    fn victim(&self, origin: Origin) -> Option<usize> {
        let lot = |o: Origin| self.entries.iter().filter(|e| e.origin == o).count() + usize::from(o == origin);
        let greediest = self.entries.iter().max_by_key(|e| lot(e.origin))?.origin;
        let theirs = self.entries.iter().enumerate().filter(|(_, e)| e.origin == greediest);
        theirs.min_by_key(|(_, e)| (e.busy, e.since)).map(|(i, _)| i)
    }

    fn end(&mut self, i: usize) {
        self.entries.swap_remove(i);
        self.ended += 1;
        if self.ended.is_power_of_two() {
            tracing::warn!(
                "{} HTTP connections were ended so far: more than {MAX} at a time, or no request within {} s",
                self.ended,
                HEAD.as_secs()
            );
        }
    }
}

/// The connections of a server.
#[derive(Clone)]
pub(super) struct Connections {
    table: Arc<Mutex<Table>>,
    metrics: Arc<Metrics>,
}

fn locked(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let this = Self { table: Arc::default(), metrics };
        this.sweep(Instant::now());
        this
    }

    /// Gives a seat to a connection.
    pub(super) fn admit(&self, origin: Origin) -> Seat {
        let mut table = locked(&self.table);
        if table.entries.len() >= MAX
            && let Some(i) = table.victim(origin)
        {
            table.end(i);
        }
        let (held, dismissed) = oneshot::channel();
        table.next += 1;
        let id = table.next;
        table.entries.push(Entry { id, origin, since: Instant::now(), busy: false, _held: held });
        drop(table);
        Seat { share: Share { id, table: self.table.clone() }, dismissed }
    }

    /// Ends those that take too long, and tells how many there are.
    pub(super) fn sweep(&self, now: Instant) {
        let mut table = locked(&self.table);
        let late = |e: &Entry| now.saturating_duration_since(e.since) > if e.busy { ANSWER } else { WAIT };
        while let Some(i) = table.entries.iter().position(late) {
            table.end(i);
        }
        let n = table.entries.len();
        drop(table);
        self.metrics.set(Metric::TableEntries, &[TABLE], n as f64);
        self.metrics.set(Metric::TableLimit, &[TABLE], MAX as f64);
    }

    pub(super) fn is_empty(&self) -> bool {
        locked(&self.table).entries.is_empty()
    }
}

/// A way to a connection's entry.
#[derive(Clone)]
struct Share {
    id: u64,
    table: Arc<Mutex<Table>>,
}

impl Share {
    fn turn(&self, busy: bool) {
        if let Some(entry) = locked(&self.table).entries.iter_mut().find(|e| e.id == self.id) {
            (entry.busy, entry.since) = (busy, Instant::now());
        }
    }
}

/// A connection's place in the table, given back when dropped.
pub(super) struct Seat {
    share: Share,
    dismissed: oneshot::Receiver<()>,
}

impl Seat {
    /// Does something as long as the seat is not taken away.
    pub(super) async fn while_held<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            _ = &mut self.dismissed => None,
            done = work => Some(done),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        locked(&self.share.table).entries.retain(|e| e.id != self.share.id);
    }
}

/// An answer that is being made or sent.
struct Answering(Share);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.turn(false);
    }
}

/// Answers what comes on a connection, until it or the server ends.
pub(super) async fn converse<S>(
    stream: S,
    router: axum::Router,
    who: Who,
    mut seat: Seat,
    mut ended: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let share = seat.share.clone();
    let inner = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        share.turn(true);
        let answering = Answering(share.clone());
        request.extensions_mut().insert(who);
        let answer = inner.call(request);
        async move {
            let answer = answer.await?;
            // Held by the body: the answer is not done before it has been taken.
            Ok::<_, std::convert::Infallible>(answer.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _ = &answering;
                    frame
                }))
            }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_header_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let talk = async {
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = ended.wait_for(|ended| *ended) => connection.as_mut().graceful_shutdown(),
        }
        // What goes wrong on a connection is its client's business.
        let _ = connection.await;
    };
    seat.while_held(talk).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Connections {
        Connections::new(Arc::new(Metrics::new().unwrap()))
    }

    fn from(text: &str) -> Origin {
        Origin::of(text.parse().unwrap())
    }

    fn lot(c: &Connections, origin: Origin) -> usize {
        locked(&c.table).entries.iter().filter(|e| e.origin == origin).count()
    }

    #[test]
    fn one_host_is_one_origin() {
        assert_eq!(from("2001:db8::1"), from("2001:db8::ffff:1"));
        assert_ne!(from("2001:db8::1"), from("2001:db8:0:1::1"));
        assert_eq!(from("10.0.0.1"), from("::ffff:10.0.0.1"));
        assert_ne!(from("10.0.0.1"), from("10.0.0.2"));
    }

    #[test]
    fn a_flood_costs_its_sender_only() {
        let all = table();
        let (scraper, prober) = (all.admit(from("10.0.0.1")), all.admit(from("10.0.0.2")));
        let flood: Vec<Seat> = (0..1000).map(|_| all.admit(from("10.9.9.9"))).collect();
        assert_eq!(locked(&all.table).entries.len(), MAX);
        assert_eq!((lot(&all, from("10.0.0.1")), lot(&all, from("10.0.0.2"))), (1, 1));
        // And a third finds a place while it lasts.
        let late = all.admit(from("10.0.0.3"));
        assert_eq!((lot(&all, from("10.0.0.3")), lot(&all, from("10.9.9.9"))), (1, MAX - 3));
        drop((scraper, prober, late, flood));
        assert!(all.is_empty());
    }

    #[test]
    fn those_that_wait_go_before_those_that_are_answered_and_the_oldest_first() {
        let all = table();
        let seats: Vec<Seat> = (0..MAX).map(|_| all.admit(from("10.0.0.1"))).collect();
        seats[0].share.turn(true);
        let _new = all.admit(from("10.0.0.1"));
        let ids: Vec<u64> = locked(&all.table).entries.iter().map(|e| e.id).collect();
        assert!(ids.contains(&seats[0].share.id) && !ids.contains(&seats[1].share.id));
    }

    #[test]
    fn nobody_waits_or_is_answered_for_ever() {
        let all = table();
        let (waits, asks) = (all.admit(from("10.0.0.1")), all.admit(from("10.0.0.1")));
        asks.share.turn(true);
        let now = Instant::now();
        all.sweep(now + WAIT - Duration::from_secs(1));
        assert_eq!(lot(&all, from("10.0.0.1")), 2);
        all.sweep(now + WAIT + Duration::from_secs(1));
        assert_eq!(lot(&all, from("10.0.0.1")), 1);
        all.sweep(now + ANSWER + Duration::from_secs(1));
        assert!(all.is_empty());
        drop((waits, asks));
    }
}
