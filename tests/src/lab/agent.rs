//! The agent under test: the real binary with the real probes, watching one cgroup.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::net;
use super::process::{Launch, Process};

/// Name of the environment variable with the agent's binary.
pub const BINARY: &str = "LEASEWARDEN_BIN";

/// The agent's binary.
///
/// # Errors
/// When the caller did not say which.
pub fn binary() -> Result<PathBuf> {
    let path = std::env::var_os(BINARY)
        .map(PathBuf::from)
        .with_context(|| format!("{BINARY} is not set: run this through `cargo xtask test`"))?;
    if !path.exists() {
        bail!("{BINARY} names {}, which is not there", path.display());
    }
    Ok(path)
}

/// What one finding says, as far as tests look.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The rule's permanent id.
    pub rule: String,
    /// `info low medium high critical`.
    pub severity: String,
    /// `wire endpoint inferred`.
    pub class: String,
    /// `tenant.use`.
    pub used_for: Option<String>,
    /// `tenant.bound`.
    pub bound: Option<String>,
    /// `workload.name`.
    pub workload: Option<String>,
    /// The whole line.
    pub line: String,
}

impl Finding {
    fn parse(line: &str) -> Result<(String, Self)> {
        let value: Value = serde_json::from_str(line).with_context(|| format!("a finding is no JSON: {line}"))?;
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let need = |pointer: &str| text(pointer).with_context(|| format!("a finding has no {pointer}: {line}"));
        if need("/schema")? != "leasewarden.finding/v1" {
            bail!("a finding has another schema: {line}");
        }
        let finding = Self {
            rule: need("/rule")?,
            severity: need("/severity")?,
            class: need("/evidence_class")?,
            used_for: text("/tenant/use"),
            bound: text("/tenant/bound"),
            workload: text("/workload/name"),
            line: line.to_owned(),
        };
        Ok((need("/id")?, finding))
    }
}

/// Parses a findings file: the last line of each id counts. A line without its end is one being written.
///
/// # Errors
/// When a line is no finding.
pub fn parse_findings(text: &str) -> Result<Vec<Finding>> {
    let mut by_id = BTreeMap::new();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let (id, finding) = Finding::parse(line.trim_end())?;
        by_id.insert(id, finding);
    }
    Ok(by_id.into_values().collect())
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    port: u16,
    findings: PathBuf,
}

impl Agent {
    /// Starts the agent on `parent` and waits until `/readyz` says ready. `config` is appended to the smallest
    /// configuration.
    ///
    /// # Errors
    /// When it does not come up: with the end of its log.
    pub fn start(parent: &Path, config: &str, logs: &Path) -> Result<Self> {
        Self::start_as(&binary()?, parent, config, None, logs)
    }

    /// Like [`Self::start`], with another binary, and recording what it takes from the kernel; where it reads TLS, the
    /// secrets too.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_as(program: &Path, parent: &Path, config: &str, record: Option<&Path>, logs: &Path) -> Result<Self> {
        fs::create_dir_all(logs)?;
        let port = net::free_port()?;
        let findings = logs.join("findings.jsonl");
        let _ = fs::remove_file(&findings);
        let file = logs.join("leasewarden.yaml");
        fs::write(&file, format!("version: 1\nexport:\n  listen: \"127.0.0.1:{port}\"\n{config}"))?;
        let mut launch = Launch::new("agent", program).arg("run");
        if let Some(file) = record {
            let _ = fs::remove_file(file);
            launch = launch.arg("--record").arg(file);
            if config.contains("tls: { enabled: true") {
                launch = launch.arg("--record-tls-secrets");
            }
        }
        let mut process = launch
            .arg("--config")
            .arg(&file)
            .arg("--cgroup")
            .arg(parent)
            .arg("--findings")
            .arg(&findings)
            .start(logs)?;
        net::wait_until(&mut process, "the agent", Duration::from_secs(30), || {
            net::http_get(port, "/readyz").is_ok_and(|(status, _)| status == 200)
        })?;
        Ok(Self { process, port, findings })
    }

    /// What a replay of this recording finds with the configuration that the agent of these logs had.
    ///
    /// # Errors
    /// When it cannot be replayed.
    pub fn replay(recording: &Path, logs: &Path) -> Result<Vec<Finding>> {
        let output = std::process::Command::new(binary()?)
            .arg("replay")
            .arg(recording)
            .args(["--findings", "-", "--config"])
            .arg(logs.join("leasewarden.yaml"))
            .output()
            .context("cannot start the agent")?;
        if !output.status.success() {
            bail!("replay: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        parse_findings(&String::from_utf8_lossy(&output.stdout))
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// What it has found so far.
    ///
    /// # Errors
    /// When the file holds something else.
    pub fn findings(&self) -> Result<Vec<Finding>> {
        parse_findings(&fs::read_to_string(&self.findings).unwrap_or_default())
    }

    /// Waits until a finding of this rule is there.
    ///
    /// # Errors
    /// When none comes within `limit`.
    pub fn wait_for(&self, rule: &str, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        while !self.findings()?.iter().any(|finding| finding.rule == rule) {
            if Instant::now() > until {
                bail!("no {rule} within {limit:?}; the agent said:\n{}", self.process.log_tail());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Waits until a metric is above zero.
    ///
    /// # Errors
    /// When it does not become so within `limit`.
    pub fn wait_for_metric(&self, name: &str, limit: Duration) -> Result<()> {
        self.wait_for_sum(name, &[], limit)
    }

    /// Waits until a connection is counted that was read through TLS.
    ///
    /// # Errors
    /// When there is none within ten seconds.
    pub fn wait_until_tls_is_read(&self) -> Result<()> {
        self.wait_for_sum("leasewarden_tls_connections_total", &[("result", "read")], Duration::from_secs(10))
    }

    fn wait_for_sum(&self, name: &str, labels: &[(&str, &str)], limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        while self.metrics()?.sum(name, labels) <= 0.0 {
            if Instant::now() > until {
                bail!("{name}{labels:?} is 0 after {limit:?}; the agent said:\n{}", self.process.log_tail());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Its metrics now.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn metrics(&self) -> Result<Metrics> {
        let (status, body) = net::http_get(self.port, "/metrics")?;
        if status != 200 {
            bail!("/metrics answered {status}");
        }
        Ok(Metrics(body))
    }

    /// Where its HTTP side is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The answer of another path of its HTTP side.
    ///
    /// # Errors
    /// When it is not 200.
    pub fn get(&self, path: &str) -> Result<String> {
        let (status, body) = net::http_get(self.port, path)?;
        if status != 200 {
            bail!("{path} answered {status}: {body}");
        }
        Ok(body)
    }

    /// Waits until everything that was sent is decoded: the segment counters stand still and data operations do too.
    /// Counters are refreshed about once a second.
    ///
    /// # Errors
    /// When the metrics cannot be read.
    pub fn settle(&self) -> Result<()> {
        let mut last = None;
        let mut same = 0;
        for _ in 0..40 {
            let metrics = self.metrics()?;
            let now = (
                metrics.sum("leasewarden_capture_segments_total", &[]).to_bits(),
                metrics.sum("leasewarden_operations_total", &[]).to_bits(),
            );
            // Metrics come once a second, later on a busy machine: nothing at all is no answer yet.
            let nothing = now == (0.0f64.to_bits(), 0.0f64.to_bits());
            same = if last == Some(now) && !nothing { same + 1 } else { 0 };
            last = Some(now);
            if same >= 6 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        bail!("the agent's counters do not come to rest");
    }

    /// Ends it with SIGTERM, demands exit status 0, and gives everything that it found.
    ///
    /// # Errors
    /// When it does not drain and exit with 0.
    pub fn stop(mut self) -> Result<Vec<Finding>> {
        let status = self.process.stop()?;
        if !status.success() {
            bail!("the agent ended with {status} at SIGTERM:\n{}", self.process.log_tail());
        }
        self.findings()
    }
}

/// A scrape in Prometheus' text format.
#[derive(Debug)]
pub struct Metrics(pub String);

impl Metrics {
    /// The agent's own samples that are not zero, without help texts and buckets: for people.
    #[must_use]
    pub fn told(&self) -> String {
        let tells =
            |line: &&str| line.starts_with("leasewarden_") && !line.ends_with(" 0") && !line.contains("_bucket{");
        self.0.lines().filter(tells).collect::<Vec<_>>().join("\n")
    }

    /// Sum of the samples of one metric that have all these labels.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.0
            .lines()
            .filter_map(|line| {
                let rest = line.strip_prefix(name)?;
                if !rest.starts_with(['{', ' ']) {
                    return None;
                }
                let (head, value) = rest.rsplit_once(' ')?;
                let wanted = |(key, value): &(&str, &str)| head.contains(&format!("{key}=\"{value}\""));
                labels.iter().all(wanted).then(|| value.parse::<f64>().ok())?
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_an_id_counts_and_an_unfinished_line_does_not() {
        let line = |count| {
            format!(
                "{{\"schema\":\"leasewarden.finding/v1\",\"id\":\"a\",\"rule\":\"r\",\"severity\":\"high\",\"evidence_class\":\"wire\",\"count\":{count}}}\n"
            )
        };
        let found = parse_findings(&format!("{}{}{{\"schema\":", line(1), line(2))).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].line.contains("\"count\":2"));
        assert!(parse_findings("{}\n").is_err());
    }

    #[test]
    fn samples_are_summed_by_label() {
        let metrics = Metrics("# HELP x y\nx{a=\"1\",b=\"2\"} 3\nx{a=\"1\",b=\"3\"} 4\nx_total 9\nx 1\n".into());
        assert!((metrics.sum("x", &[("a", "1")]) - 7.0).abs() < 1e-9);
        assert!((metrics.sum("x", &[]) - 8.0).abs() < 1e-9);
    }
}
