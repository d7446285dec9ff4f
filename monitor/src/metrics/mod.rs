//! Metrics. Counting is the engine's and the source's business, in plain integers; about once a second the totals are
//! copied here under their names, so that no event ever formats a label.

use prometheus::process_collector::ProcessCollector;
use prometheus::{CounterVec, Encoder, GaugeVec, Histogram, HistogramOpts, Opts, Registry, TextEncoder};

mod names;
mod update;

pub use names::{ALL, Info, Kind, Metric, json, markdown};
pub use update::{Sources, Updater};

/// Upper bounds of the detection delay's buckets, in seconds. The design asks for p99 of 10 ms.
const DELAY_BUCKETS: [f64; 12] = [0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.02, 0.05, 0.1, 1.0, 10.0];

enum Family {
    Counter(CounterVec),
    Gauge(GaugeVec),
    Histogram(Histogram),
}

/// The registry and one handle per declared metric.
pub struct Metrics {
    registry: Registry,
    families: Vec<Family>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Registers every declared metric.
    ///
    /// # Errors
    /// A declaration that Prometheus does not accept.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let mut families = Vec::with_capacity(ALL.len());
        for info in ALL {
            let family = match info.kind {
                Kind::Counter => {
                    let vec = CounterVec::new(Opts::new(info.name, info.help), info.labels)?;
                    registry.register(Box::new(vec.clone()))?;
                    Family::Counter(vec)
                }
                Kind::Gauge => {
                    let vec = GaugeVec::new(Opts::new(info.name, info.help), info.labels)?;
                    registry.register(Box::new(vec.clone()))?;
                    Family::Gauge(vec)
                }
                Kind::Histogram => {
                    let opts = HistogramOpts::new(info.name, info.help).buckets(DELAY_BUCKETS.to_vec());
                    let histogram = Histogram::with_opts(opts)?;
                    registry.register(Box::new(histogram.clone()))?;
                    Family::Histogram(histogram)
                }
            };
            families.push(family);
        }
        // The agent's own processor time, memory and descriptors, under the names that every Prometheus client uses.
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self { registry, families })
    }

    /// Sets a gauge, or raises a counter to its new total. A counter never goes back.
    pub fn set(&self, metric: Metric, labels: &[&str], value: f64) {
        match self.families.get(metric as usize) {
            Some(Family::Counter(vec)) => {
                if let Ok(counter) = vec.get_metric_with_label_values(labels) {
                    let more = value - counter.get();
                    if more > 0.0 {
                        counter.inc_by(more);
                    }
                }
            }
            Some(Family::Gauge(vec)) => {
                if let Ok(gauge) = vec.get_metric_with_label_values(labels) {
                    gauge.set(value);
                }
            }
            Some(Family::Histogram(_)) | None => debug_assert!(false, "{metric:?} is not set"),
        }
    }

    /// Adds to a counter that is counted here.
    pub fn add(&self, metric: Metric, labels: &[&str], more: f64) {
        if let Some(Family::Counter(vec)) = self.families.get(metric as usize)
            && let Ok(counter) = vec.get_metric_with_label_values(labels)
        {
            counter.inc_by(more);
        }
    }

    /// Forgets every series of a gauge: what they spoke of may be gone.
    pub fn clear(&self, metric: Metric) {
        if let Some(Family::Gauge(vec)) = self.families.get(metric as usize) {
            vec.reset();
        }
    }

    /// Forgets one series of a gauge: what it spoke of is gone.
    pub fn remove(&self, metric: Metric, labels: &[&str]) {
        if let Some(Family::Gauge(vec)) = self.families.get(metric as usize) {
            // That there is none is what is wanted.
            let _ = vec.remove_label_values(labels);
        }
    }

    /// Adds an observation to a histogram.
    pub fn observe(&self, metric: Metric, value: f64) {
        if let Some(Family::Histogram(histogram)) = self.families.get(metric as usize) {
            histogram.observe(value);
        }
    }

    /// The Prometheus text format.
    ///
    /// # Errors
    /// What the encoder says.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_follow_totals_and_never_go_back() {
        let m = Metrics::new().unwrap();
        m.set(Metric::CaptureBytesTotal, &["tx"], 5.0);
        m.set(Metric::CaptureBytesTotal, &["tx"], 9.0);
        m.set(Metric::CaptureBytesTotal, &["tx"], 3.0);
        m.set(Metric::Flows, &["decoded"], 7.0);
        m.observe(Metric::DetectionDelaySeconds, 0.003);
        let text = m.render().unwrap();
        assert!(text.contains("leasewarden_capture_bytes_total{direction=\"tx\"} 9\n"), "{text}");
        assert!(text.contains("leasewarden_flows{state=\"decoded\"} 7\n"), "{text}");
        assert!(text.contains("leasewarden_detection_delay_seconds_bucket{le=\"0.004\"} 1\n"), "{text}");
    }
}
