//! Checks of `export`.

use std::path::PathBuf;

use super::Check;
use crate::config::file;

impl Check<'_> {
    pub(super) fn export(&mut self, export: file::Export) {
        if let Some(listen) = export.listen {
            if listen.eq_ignore_ascii_case("off") {
                self.config.listen = None;
            } else {
                match listen.parse() {
                    Ok(address) => self.config.listen = Some(address),
                    Err(_) => self.problem(
                        listen.at,
                        "export.listen",
                        format!(
                            "expected an address with a port such as `127.0.0.1:9464`, or `off`, found `{}`",
                            listen.value
                        ),
                    ),
                }
            }
        }
        if let Some(findings) = export.findings {
            if findings.is_empty() {
                self.problem(findings.at, "export.findings", "expected the path of a file, found empty text");
            }
            self.config.findings = Some(PathBuf::from(findings.value));
        }
        #[cfg(feature = "otlp")]
        if let Some(otlp) = export.otlp {
            self.otlp(otlp);
        }
        #[cfg(not(feature = "otlp"))]
        if let Some(otlp) = export.otlp {
            let message = "this build cannot send findings to a collector (the feature `otlp` is off)";
            self.problem(otlp.endpoint.at, "export.otlp", message);
        }
    }
}
