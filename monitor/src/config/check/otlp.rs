//! Checks of `export.otlp`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

use super::Check;
use crate::config::file;
use crate::config::located::{Located, Table};
use crate::config::problem::Pos;
use crate::export::otlp::{self, Bounds, LOGS_PATH, OtlpConfig};

/// Largest file of certificates that is read, in bytes.
const MAX_CA: u64 = 4 << 20;
/// Longest value of a header, in bytes, and what may stand after it in a file.
const MAX_VALUE: u64 = 16 << 10;
/// Headers that are not the configuration's to set.
const OURS: [&str; 8] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
/// Shortest, default and longest time for a request.
const TIMEOUT: [Duration; 3] = [Duration::from_millis(100), Duration::from_secs(10), Duration::from_secs(60)];

impl Check<'_> {
    pub(super) fn otlp(&mut self, otlp: file::Otlp) {
        let endpoint = self.endpoint(&otlp.endpoint);
        let ca = otlp.ca.as_ref().and_then(|file| self.ca(file));
        let headers = self.otlp_headers(otlp.headers);
        let timeout = otlp.timeout.as_ref().map_or(TIMEOUT[1], |text| self.timeout(text));
        let mut bounds = Bounds::default();
        if let Some(queue) = &otlp.queue {
            self.bound(&mut bounds.records, queue.records.as_ref(), "records", 1, 1_000_000);
            self.bound(&mut bounds.bytes, queue.bytes.as_ref(), "bytes", 64 << 10, 1 << 30);
        }
        let Some(endpoint) = endpoint else { return };
        if let Some(file) = otlp.ca.filter(|_| endpoint.scheme_str() == Some("http")) {
            self.warn(file.at, "export.otlp.ca", "has no effect: `endpoint` is `http`");
        }
        if !headers.is_empty() && endpoint.scheme_str() == Some("http") && !is_here(&endpoint) {
            self.warn(
                otlp.endpoint.at,
                "export.otlp.endpoint",
                "`headers` are sent to another host without encryption; use `https`",
            );
        }
        self.config.otlp = Some(OtlpConfig { endpoint, ca, headers, timeout, bounds });
    }

    /// No message repeats the URL: somebody may have written a password into it.
    fn endpoint(&mut self, text: &Located<String>) -> Option<Uri> {
        let path = "export.otlp.endpoint";
        let expected = "expected a URL such as `http://collector:4318`";
        let uri: Uri = match text.trim().parse() {
            Ok(uri) => uri,
            Err(why) => {
                self.problem(text.at, path, format!("{expected}: {why}"));
                return None;
            }
        };
        let Some(authority) = uri.authority().filter(|_| matches!(uri.scheme_str(), Some("http" | "https"))) else {
            self.problem(text.at, path, format!("{expected}, beginning with `http://` or `https://`"));
            return None;
        };
        if authority.as_str().contains('@') || uri.query().is_some() {
            self.problem(text.at, path, "expected a URL without user, password or query; secrets go into `headers`");
            return None;
        }
        if !matches!(uri.path(), "" | "/") {
            return Some(uri);
        }
        let mut parts = uri.into_parts();
        parts.path_and_query = LOGS_PATH.parse().ok();
        Uri::from_parts(parts).ok()
    }

    fn ca(&mut self, file: &Located<String>) -> Option<Arc<rustls::RootCertStore>> {
        let path = "export.otlp.ca";
        let text = self.text_of(file, path, MAX_CA)?;
        match otlp::roots(&text) {
            Ok(roots) => Some(Arc::new(roots)),
            Err(why) => {
                self.problem(file.at, path, format!("{}: {why}", file.value));
                None
            }
        }
    }

    fn otlp_headers(&mut self, table: Table<file::HeaderFrom>) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::new();
        let mut known: HashMap<HeaderName, Pos> = HashMap::new();
        for (key, from) in table.0 {
            let path = format!("export.otlp.headers.{}", key.value);
            let Ok(name) = key.parse::<HeaderName>() else {
                self.problem(key.at, "export.otlp.headers", "expected the name of a header");
                continue;
            };
            if OURS.contains(&name.as_str()) {
                self.problem(key.at, path, format!("`{name}` is not the configuration's to set"));
                continue;
            }
            if let Some(first) = known.insert(name.clone(), key.at) {
                let message = format!("`{name}` is given twice (first in line {}); case does not matter", first.line);
                self.problem(key.at, path, message);
                continue;
            }
            let found = match (from.file, from.env) {
                (Some(file), None) => {
                    let path = format!("{path}.file");
                    self.text_of(&file, &path, MAX_VALUE).map(|text| (file.at, path, text))
                }
                (None, Some(variable)) => self.variable(&variable, format!("{path}.env")),
                (Some(_), Some(_)) => {
                    self.problem(key.at, path, "expected `file` or `env`, found both");
                    None
                }
                (None, None) => {
                    if self.whole {
                        self.problem(key.at, path, "expected `file` or `env`");
                    }
                    None
                }
            };
            let Some((at, path, text)) = found else { continue };
            if let Some(value) = self.header_value(at, path, &text) {
                headers.push((name, value));
            }
        }
        headers
    }

    fn variable(&mut self, name: &Located<String>, path: String) -> Option<(Pos, String, String)> {
        // The library panics at such names.
        let possible = !name.is_empty() && !name.contains(['=', '\0']);
        match possible.then(|| std::env::var(&name.value)) {
            Some(Ok(text)) => Some((name.at, path, text)),
            Some(Err(std::env::VarError::NotPresent)) => {
                self.problem(name.at, path, format!("the environment variable `{}` is not set", name.value));
                None
            }
            Some(Err(std::env::VarError::NotUnicode(_))) => {
                self.problem(name.at, path, format!("the environment variable `{}` is no text", name.value));
                None
            }
            None => {
                self.problem(name.at, path, "expected the name of an environment variable");
                None
            }
        }
    }

    /// No message repeats a value.
    fn header_value(&mut self, at: Pos, path: String, text: &str) -> Option<HeaderValue> {
        let text = text.strip_suffix('\n').map_or(text, |t| t.strip_suffix('\r').unwrap_or(t));
        if text.trim().is_empty() {
            self.problem(at, path, "expected the value of a header, found empty text");
            return None;
        }
        match HeaderValue::from_str(text) {
            Ok(mut value) => {
                value.set_sensitive(true);
                Some(value)
            }
            Err(_) => {
                self.problem(
                    at,
                    path,
                    "no header can have this value: there is a line's end or a control character in it",
                );
                None
            }
        }
    }

    fn timeout(&mut self, text: &Located<String>) -> Duration {
        match humantime::parse_duration(text) {
            Ok(d) if (TIMEOUT[0]..=TIMEOUT[2]).contains(&d) => d,
            _ => {
                let message = format!("expected a duration from 100ms to 60s, such as `10s`, found `{}`", text.value);
                self.problem(text.at, "export.otlp.timeout", message);
                TIMEOUT[1]
            }
        }
    }

    fn bound(&mut self, bound: &mut usize, value: Option<&Located<u32>>, key: &str, min: u32, max: u32) {
        let Some(value) = value else { return };
        if !(min..=max).contains(&value.value) {
            let message = format!("expected a whole number from {min} to {max}, found {}", value.value);
            self.problem(value.at, format!("export.otlp.queue.{key}"), message);
        }
        *bound = usize::try_from(value.value).unwrap_or(usize::MAX);
    }
}

/// Whether what is sent there stays on this host.
fn is_here(endpoint: &Uri) -> bool {
    let host = endpoint.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|a| a.is_loopback())
}
