//! Checks of `tls`.

use monitor_core::model::settings::TlsScope;

use super::Check;
use crate::config::file;
use crate::tls::{TlsConfig, WorkloadPattern};

impl Check<'_> {
    pub(super) fn reading_tls(&mut self, tls: file::Tls) {
        let mut workloads = Vec::new();
        for (i, text) in tls.workloads.iter().enumerate() {
            let path = format!("tls.workloads[{i}]");
            if text.trim().is_empty() {
                self.problem(text.at, path, "expected a pattern, found empty text");
                continue;
            }
            match WorkloadPattern::parse(text) {
                Ok(pattern) => workloads.push(pattern),
                Err(why) => self.problem(text.at, path, format!("`{}` is no pattern: {why}", text.value)),
            }
        }
        for (i, name) in tls.services.iter().enumerate() {
            self.name(name, format!("tls.services[{i}]"));
        }
        if !tls.enabled
            && let Some(first) = tls.workloads.first().or(tls.services.first())
        {
            self.warn(first.at, "tls", "nothing is read of TLS: `enabled` is not `true`");
        }
        let services: Vec<String> = tls.services.into_iter().map(|s| s.value).collect();
        self.config.settings.tls = tls.enabled.then(|| TlsScope { services: services.clone() });
        self.config.privileges.tls = tls.enabled;
        self.config.tls = TlsConfig { enabled: tls.enabled, workloads, services };
    }
}
