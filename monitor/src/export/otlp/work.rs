//! From the queue to the collector: batches, and when to try again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::client::{Client, Outcome, Trouble};
use super::queue::Queue;
use super::record::Head;
use super::totals::Bounds;

/// How long the first record waits for others.
const LINGER: Duration = Duration::from_millis(200);
/// Most records and bytes of a request. Collectors usually read up to 4 MiB.
const BATCH: Bounds = Bounds { records: 512, bytes: 1 << 20 };
/// How long to wait after the first failure, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// What follows a complaint in the log.
const ONCE: &str = "further ones are counted, not logged";
/// Longest wait that a collector may ask for.
const LONGEST: Duration = Duration::from_secs(300);

/// Sends what comes. Returns when the queue is closed and empty, or closed and the collector fails.
pub(super) async fn work(queue: &Queue, client: &Client, head: &Head) {
    let bounds = queue.totals().bounds;
    // A request takes half of what may wait, so that the oldest can give way to what comes meanwhile.
    let most =
        Bounds { records: BATCH.records.min(bounds.records.div_ceil(2)), bytes: BATCH.bytes.min(bounds.bytes / 2) };
    let place = client.endpoint();
    let mut failures = 0;
    // A collector that takes nothing, or not all, says so with every request: once is enough.
    let mut complained = false;
    while queue.wait().await {
        pause(queue, LINGER).await;
        let batch = queue.take(most);
        if batch.is_empty() {
            continue;
        }
        let in_batch = batch.len();
        match client.send(head.request(&batch)).await {
            Outcome::Taken { rejected, words } => {
                queue.done(&batch, |t, n| {
                    let rejected = rejected.min(n);
                    t.requests_ok += 1;
                    t.sent += n - rejected;
                    t.rejected += rejected;
                });
                if rejected > 0 && !complained {
                    tracing::warn!("OTLP: {place} has rejected {rejected} of {in_batch} findings: {words}; {ONCE}");
                } else if failures > 0 || (complained && rejected == 0) {
                    tracing::info!("OTLP: {place} takes findings again");
                }
                (failures, complained) = (0, rejected > 0);
            }
            Outcome::Refused(why) => {
                queue.done(&batch, |t, n| {
                    t.requests_refused += 1;
                    t.refused += n;
                });
                if !complained {
                    tracing::warn!("OTLP: {place} has refused {in_batch} findings: {why}; {ONCE}");
                }
                (failures, complained) = (0, true);
            }
            Outcome::Again { trouble, why, after } => {
                queue.put_back(batch, |t| match trouble {
                    Trouble::Busy => t.requests_busy += 1,
                    Trouble::Timeout => t.requests_timeout += 1,
                    Trouble::Unreachable => t.requests_unreachable += 1,
                });
                if failures == 0 {
                    tracing::warn!("OTLP: {place}: {why}; findings wait, and are sent when it takes them");
                }
                if queue.closing() {
                    return;
                }
                pause(queue, delay(failures, after, jitter())).await;
                failures += 1;
            }
        }
    }
}

/// Waits so long, or until the agent stops.
async fn pause(queue: &Queue, time: Duration) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = queue.closed() => {}
    }
}

/// Doubles from failure to failure; `jitter`, from 0 to 1, takes up to half of it off, so that the agents of a cluster do
/// not all come back at once. What the collector asks for is waited for in any case.
fn delay(failures: u32, asked: Option<Duration>, jitter: f64) -> Duration {
    let grown = BACKOFF.0.saturating_mul(2u32.saturating_pow(failures)).min(BACKOFF.1);
    let ours = grown.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0);
    asked.map_or(ours, |asked| asked.min(LONGEST).max(ours))
}

/// The clock's digits below a microsecond's are as good as drawn.
fn jitter() -> f64 {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    f64::from(nanos % 1_000) / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound_and_never_undercut_what_was_asked() {
        let s = Duration::from_secs;
        let waits: Vec<Duration> = (0..7).map(|n| delay(n, None, 0.0)).collect();
        assert_eq!(waits, [s(1), s(2), s(4), s(8), s(16), s(30), s(30)]);
        assert_eq!(delay(1, None, 1.0), s(1));
        assert_eq!(delay(0, Some(s(20)), 0.5), s(20));
        assert_eq!(delay(5, Some(s(2)), 0.0), s(30));
        assert_eq!(delay(u32::MAX, Some(s(100_000)), 0.0), s(300));
        assert!((0..100).all(|_| (0.0..1.0).contains(&jitter())));
    }
}
