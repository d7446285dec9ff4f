//! A Prometheus of our own that scrapes one agent, with the rules and alerts of `dashboards/` loaded.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::net;
use super::process::{Launch, Process};

/// A running server. Its data is in a folder that the caller gave, and removes.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    port: u16,
}

/// Where the rules, alerts and dashboards are.
#[must_use]
pub fn dashboards() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards")
}

impl Prometheus {
    /// Starts it; it scrapes the agent at `agent_port` so many times a minute that graphs have points after a few
    /// seconds. `data` is a folder for its configuration and series.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub fn start(agent_port: u16, data: &Path, logs: &Path) -> Result<Self> {
        let port = net::free_port()?;
        fs::create_dir_all(data)?;
        for name in ["rules.yaml", "alerts.yaml"] {
            let rules = fs::read_to_string(dashboards().join(name)).with_context(|| format!("no dashboards/{name}"))?;
            // What groups set for a year of series would leave a test of seconds without a single evaluation.
            fs::write(data.join(name), rules.replace("interval: 30s", "interval: 1s"))?;
        }
        let file = data.join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [rules.yaml, alerts.yaml]\n\
             scrape_configs:\n  - job_name: leasewarden\n    honor_labels: true\n    static_configs:\n      \
             - {{ targets: [\"127.0.0.1:{agent_port}\"], labels: {{ cluster: default, node: this-host }} }}\n",
        );
        fs::write(&file, text)?;
        let mut process = Launch::new("prometheus", "prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", data.join("series").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .start(logs)?;
        net::wait_until(&mut process, "Prometheus", Duration::from_secs(20), || {
            net::http_get(port, "/-/ready").is_ok_and(|(status, _)| status == 200)
        })?;
        Ok(Self { process, port })
    }

    /// Where it serves.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The end of what it said.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// What an expression gives now: each sample's labels and value.
    ///
    /// # Errors
    /// When the expression is refused, or there is no answer.
    pub fn query(&self, expr: &str) -> Result<Vec<(Value, f64)>> {
        let data = self.get(&format!("/api/v1/query?query={}", encoded(expr)))?;
        let result = data.pointer("/result").and_then(Value::as_array).context("no vector")?;
        result
            .iter()
            .map(|sample| {
                let value = sample.pointer("/value/1").and_then(Value::as_str).context("a sample without a value")?;
                Ok((sample.pointer("/metric").cloned().unwrap_or_default(), value.parse()?))
            })
            .collect()
    }

    /// The alerts that fire or are about to: their labels, and `firing` or `pending`.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn alerts(&self) -> Result<Vec<(Value, String)>> {
        let data = self.get("/api/v1/alerts")?;
        let list = data.pointer("/alerts").and_then(Value::as_array).context("no alerts")?;
        let state = |a: &Value| a.pointer("/state").and_then(Value::as_str).unwrap_or("?").to_owned();
        Ok(list.iter().map(|a| (a.pointer("/labels").cloned().unwrap_or_default(), state(a))).collect())
    }

    fn get(&self, path: &str) -> Result<Value> {
        let (status, body) = net::http_get(self.port, path)?;
        let answer: Value = serde_json::from_str(&body).with_context(|| format!("status {status}: {body}"))?;
        if answer.pointer("/status").and_then(Value::as_str) != Some("success") {
            bail!("{path} failed: {body}");
        }
        Ok(answer.pointer("/data").cloned().unwrap_or_default())
    }
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}
