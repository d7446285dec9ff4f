//! What the engine hands out, to wherever it goes: sinks, a collector, the HTTP server's store, the capture budget.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use monitor_core::decode::Appetite;
use monitor_core::detect::FindingEvent;
use monitor_core::engine::{OperationView, Output, Wanted};
use monitor_core::model::{Finding, Nanos, Severity, SocketCookie};

use crate::capture::Budget;
use crate::export::otlp::Exporter;
pub(super) use crate::export::time::now;
use crate::export::{LineSink, Shared, SinkError, operations};
use crate::metrics::Metric;

/// Receives the engine's results.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    /// Where findings go.
    pub(super) findings: Vec<LineSink>,
    /// Where operations go.
    pub(super) operations: Option<LineSink>,
    /// The OpenTelemetry collector; none in a replay.
    pub(super) otlp: Option<Exporter>,
    /// The HTTP server's store; none in a replay.
    pub(super) shared: Option<Arc<Shared>>,
    /// What was asked for of sockets since the last time it was passed on.
    pub(super) wanted: Vec<(SocketCookie, Wanted)>,
    /// Sockets that are not followed any more, since the last time that was passed on.
    pub(super) forgotten: Vec<SocketCookie>,
    /// Kernel time of the bytes that are being handled; none while only time passes.
    pub(super) bytes_at: Option<Nanos>,
    /// Findings that an exception keeps silent go to `findings`, too.
    pub(super) with_suppressed: bool,
    /// Different findings made.
    pub(super) n_findings: u64,
    /// Operations handed out.
    pub(super) n_operations: u64,
    /// The most severe finding.
    pub(super) worst: Option<Severity>,
    /// Whoever read standard output has gone.
    pub(super) reader_gone: bool,
    /// Lines that could not be written.
    pub(super) unwritten: u64,
    /// The first reason why.
    pub(super) failure: Option<String>,
    /// Sinks that cannot be written to now, and why.
    pub(super) failing: BTreeMap<Option<usize>, String>,
}

impl Outputs {
    /// Writes out what is buffered.
    pub(super) fn flush(&mut self) {
        self.write_each(LineSink::flush);
        if let Some(result) = self.operations.as_mut().map(LineSink::flush) {
            self.settle(None, result);
        }
    }

    /// Writes out what could not be written before, if there is room again.
    pub(super) fn retry(&mut self) {
        if !self.failing.is_empty() {
            self.write_each(LineSink::flush);
        }
    }

    /// Opens files anew: somebody may have moved them. Says what could not be.
    pub(super) fn reopen(&mut self) -> Vec<String> {
        self.findings.iter_mut().filter_map(|sink| sink.reopen().err()).map(|e| e.to_string()).collect()
    }

    /// Where findings cannot be written now, and why.
    pub(super) fn failing(&self) -> impl Iterator<Item = &str> {
        self.failing.values().map(String::as_str)
    }

    /// Writes to every sink of findings.
    fn write_each(&mut self, mut write: impl FnMut(&mut LineSink) -> Result<(), SinkError>) {
        for i in 0..self.findings.len() {
            if let Some(result) = self.findings.get_mut(i).map(&mut write) {
                self.settle(Some(i), result);
            }
        }
    }

    /// `sink`: which one of findings; none: operations.
    fn settle(&mut self, sink: Option<usize>, result: Result<(), SinkError>) {
        match result {
            Ok(()) => {
                if let Some(why) = self.failing.remove(&sink) {
                    tracing::info!("written again after: {why}");
                }
            }
            Err(SinkError::ReaderGone) => self.reader_gone = true,
            Err(error @ SinkError::Failed { .. }) => {
                self.unwritten += 1;
                // Each time that it begins: what was mended and fails again is news.
                if let Entry::Vacant(place) = self.failing.entry(sink) {
                    tracing::error!("{error}; further failures are counted, not logged, until it works again");
                    place.insert(error.to_string());
                }
                self.failure.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

impl Output for Outputs {
    fn finding(&mut self, finding: &Finding, event: FindingEvent) {
        if event == FindingEvent::New {
            self.n_findings += 1;
            if let (Some(shared), Some(at)) = (&self.shared, self.bytes_at) {
                let delay = now().since(at).0 as f64 / 1e9;
                shared.metrics().observe(Metric::DetectionDelaySeconds, delay);
            }
        }
        self.worst = self.worst.max(Some(finding.severity));
        self.hand_out(finding, event);
    }

    fn suppressed(&mut self, finding: &Finding) {
        if let Some(shared) = &self.shared {
            shared.put_finding(finding);
        }
        if self.with_suppressed {
            self.write(finding, FindingEvent::New);
        }
    }

    fn operation(&mut self, op: &OperationView<'_>) {
        self.n_operations += 1;
        if self.reader_gone {
            return;
        }
        if let Some(sink) = &mut self.operations {
            let result = sink.line(&operations::operation(op));
            self.settle(None, result);
        }
    }

    fn capture(&mut self, cookie: SocketCookie, wanted: Wanted) {
        self.wanted.push((cookie, wanted));
    }

    fn forgotten(&mut self, cookie: SocketCookie) {
        self.forgotten.push(cookie);
    }
}

impl Outputs {
    fn hand_out(&mut self, finding: &Finding, event: FindingEvent) {
        if let Some(shared) = &self.shared {
            shared.put_finding(finding);
        }
        if let Some(otlp) = &self.otlp {
            otlp.put(finding, event);
        }
        self.write(finding, event);
    }

    fn write(&mut self, finding: &Finding, event: FindingEvent) {
        if self.reader_gone {
            return;
        }
        self.write_each(|sink| sink.finding(finding, event));
    }
}

/// What the source calls it.
pub(super) fn budget(appetite: Appetite) -> Budget {
    match appetite {
        Appetite::Nothing => Budget::Silent,
        Appetite::Head(n) => Budget::Head(n),
        Appetite::Everything => Budget::Full,
    }
}

#[cfg(all(test, feature = "otlp"))]
mod tests {
    use super::*;
    use crate::export::otlp::{Bounds, Origin, OtlpConfig};
    use crate::export::sample;

    #[test]
    fn a_disk_that_is_full_again_is_news_again() {
        let full = || SinkError::Failed { what: "f".into(), source: std::io::ErrorKind::StorageFull.into() };
        let mut out = Outputs::default();
        let said = |out: &Outputs| out.failing().count();
        out.settle(Some(0), Err(full()));
        out.settle(Some(1), Ok(()));
        out.settle(Some(0), Err(full()));
        assert_eq!((said(&out), out.unwritten), (1, 2));
        out.settle(Some(0), Ok(()));
        assert_eq!(said(&out), 0, "written again");
        out.settle(Some(0), Err(full()));
        assert_eq!((said(&out), out.unwritten), (1, 3));
        // A replay is incomplete all the same.
        assert!(out.failure.is_some());
    }

    #[test]
    fn what_could_not_be_written_is_tried_again() {
        let mut out = Outputs {
            findings: vec![
                LineSink::open(
                    &crate::export::Target::File("/dev/full".into()),
                    crate::export::sink::Existing::Append,
                    true,
                )
                .unwrap(),
            ],
            ..Outputs::default()
        };
        out.finding(&sample::finding(), FindingEvent::New);
        assert_eq!(out.failing().count(), 1);
        out.retry();
        assert_eq!((out.failing().count(), out.unwritten), (1, 2), "still full");
    }

    #[test]
    fn findings_go_to_the_collector_whoever_has_left() {
        let config = OtlpConfig {
            endpoint: "http://127.0.0.1:4318/v1/logs".parse().unwrap(),
            ca: None,
            headers: Vec::new(),
            timeout: std::time::Duration::from_secs(1),
            bounds: Bounds { records: 3, bytes: 1 << 20 },
        };
        let exporter = Exporter::new(&config, &Origin::default()).unwrap();
        let mut out = Outputs { otlp: Some(exporter.clone()), reader_gone: true, ..Outputs::default() };
        // Nobody sends: the engine's thread goes on all the same.
        for event in [FindingEvent::New, FindingEvent::Repeated, FindingEvent::Repeated, FindingEvent::Ended] {
            out.finding(&sample::finding(), event);
        }
        assert_eq!((exporter.totals().waiting, exporter.totals().queue_full), (3, 1));
    }
}
