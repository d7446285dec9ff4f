//! Checks of `export`.

use std::path::{Path, PathBuf};

use monitor_core::model::settings::Show;

use super::Check;
use crate::config::file;
use crate::config::located::Located;
use crate::export::http::{self, TlsFiles};

/// Largest file of certificates or keys that is read, in bytes.
const MAX_PEM: u64 = 4 << 20;
/// Largest file of tokens that is read, in bytes.
const MAX_TOKENS: u64 = 64 << 10;
/// Most patterns of names that may be shown, of each kind.
const MAX_SHOWN: usize = 256;
/// Longest such pattern, in bytes.
const MAX_PATTERN: usize = 256;

impl Check<'_> {
    pub(super) fn export(&mut self, export: file::Export) {
        self.http(&export);
        if let Some(findings) = export.findings {
            if findings.is_empty() {
                self.problem(findings.at, "export.findings", "expected the path of a file, found empty text");
            }
            self.config.findings = Some(PathBuf::from(findings.value));
        }
        if let Some(rotate) = export.rotate {
            self.rotate(&rotate);
        }
        if let Some(cluster) = export.cluster {
            self.name(&cluster, "export.cluster");
            self.config.cluster = Some(cluster.value);
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
        if let Some(show) = export.show {
            self.show(show);
        }
    }

    fn show(&mut self, show: file::Show) {
        let mut list = |what: &str, patterns: Vec<Located<String>>| -> Vec<String> {
            let path = format!("export.show.{what}");
            if let Some(pattern) = patterns.get(MAX_SHOWN) {
                self.problem(pattern.at, &path, format!("expected at most {MAX_SHOWN} patterns"));
            }
            for (i, pattern) in patterns.iter().enumerate() {
                let path = format!("{path}[{i}]");
                if pattern.trim().is_empty() || pattern.len() > MAX_PATTERN {
                    let expected = format!("expected a pattern of 1 to {MAX_PATTERN} bytes");
                    self.problem(pattern.at, path, expected);
                } else if what == "routes" && !pattern.starts_with('/') {
                    self.problem(pattern.at, path, "expected a route that begins with `/`, such as `/hooks/*/events`");
                } else if what != "names" && pattern.trim_end_matches("**").contains("**") {
                    self.problem(pattern.at, path, "expected `**` at the end only");
                }
            }
            patterns.into_iter().map(|p| p.value).collect()
        };
        let show = Show {
            routes: list("routes", show.routes),
            keys: list("keys", show.keys),
            names: list("names", show.names),
        };
        self.config.settings.show = show;
    }

    /// Where it is listened, and who may read what there.
    fn http(&mut self, export: &file::Export) {
        if let Some(listen) = &export.listen {
            if listen.eq_ignore_ascii_case("off") {
                self.config.http.listen = None;
            } else {
                match listen.parse() {
                    Ok(address) => self.config.http.listen = Some(address),
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
        if let Some(socket) = &export.socket {
            // As much as an address of a Unix socket holds, with the zero at its end.
            if !socket.starts_with('/') || socket.len() > 107 {
                let message = "expected the absolute path of a socket, of at most 107 bytes";
                self.problem(socket.at, "export.socket", message);
            }
            self.config.http.socket = Some(PathBuf::from(&socket.value));
        }
        if let Some(tls) = &export.tls {
            self.tls(tls);
        }
        if let Some(file) = &export.token_file {
            if let Some(Err(why)) = self.text_of(file, "export.token_file", MAX_TOKENS).map(|t| http::check_tokens(&t))
            {
                self.problem(file.at, "export.token_file", format!("{}: {why}", file.value));
            }
            self.config.http.token_file = Some(PathBuf::from(&file.value));
            if export.tls.is_none() {
                let message =
                    "has no effect: a token counts only where `export.tls` keeps it from being read on the way";
                self.warn(file.at, "export.token_file", message);
            }
        }
        if let (Some(listen), Some(address)) = (&export.listen, self.config.http.listen)
            && !address.ip().to_canonical().is_loopback()
            && !self.config.http.opens_to_others()
        {
            let message = format!(
                "`{address}` is not loopback: `/findings`, `/services` and `/tools` are refused to whoever comes from \
                 elsewhere; to open them, give `tls` with `token_file` or `tls.client_ca`"
            );
            self.warn(listen.at, "export.listen", message);
        }
    }

    fn tls(&mut self, tls: &file::HttpTls) {
        let path = |file: &Located<String>| PathBuf::from(&file.value);
        let files = TlsFiles {
            certificate: path(&tls.certificate),
            key: path(&tls.key),
            client_ca: tls.client_ca.as_ref().map(path),
        };
        let read = |path: &Path| (self.files)(path, MAX_PEM).map_err(|e| format!("cannot be read: {e}"));
        if let Err((file, why)) = http::check_tls(&files, &read) {
            let of = [
                ("certificate", Some(&tls.certificate)),
                ("key", Some(&tls.key)),
                ("client_ca", tls.client_ca.as_ref()),
            ];
            let wrong = of.into_iter().find_map(|(key, at)| at.filter(|at| path(at) == file).map(|at| (key, at.at)));
            let (key, at) = wrong.unwrap_or(("certificate", tls.certificate.at));
            self.problem(at, format!("export.tls.{key}"), format!("{}: {why}", file.display()));
        }
        self.config.http.tls = Some(files);
    }

    fn rotate(&mut self, rotate: &file::Rotation) {
        for (value, key, min, max) in [(&rotate.max_mb, "max_mb", 0, 1_048_576), (&rotate.keep, "keep", 1, 100)] {
            if let Some(value) = value.as_ref().filter(|v| !(min..=max).contains(&v.value)) {
                let message = format!("expected a whole number from {min} to {max}, found {}", value.value);
                self.problem(value.at, format!("export.rotate.{key}"), message);
            }
        }
        if let Some(mb) = &rotate.max_mb {
            self.config.rotate.max_bytes = u64::from(mb.value) << 20;
        }
        if let Some(keep) = &rotate.keep {
            self.config.rotate.keep = keep.value;
        }
    }
}
