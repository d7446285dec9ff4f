//! What of the TLS of this machine's workloads can be read, file by file: how the function was found that is told secrets,
//! or why not. Nothing is probed for that.

use std::fmt::Write as _;
use std::time::Instant;

use super::{Check, State};
use crate::capture::cgroups::Hierarchy;
use crate::capture::ebpf::SecretProbes;
use crate::identity::watch;
use crate::tls::find::Layout;
use crate::tls::{Attacher, FileStatus, Looking, Order, Shared};

/// Most files that are shown.
const MOST: usize = 64;

pub(super) fn checks() -> Vec<Check> {
    let Ok(hierarchy) = Hierarchy::find() else { return Vec::new() };
    let mut attacher = Attacher::new(Looking, Shared::default());
    for (id, path) in hierarchy.walk(usize::MAX).into_iter().filter(|(_, path)| watch(path)) {
        let dir = hierarchy.mount().join(path.trim_start_matches('/'));
        attacher.obey(Order::Watch(id, dir));
    }
    attacher.round(Instant::now());
    let status = attacher.status();
    let mut checks = vec![privileges(), probes()];
    checks.extend(status.files.iter().take(MOST).map(check));
    if let Some(problem) = status.problem {
        checks.push(
            Check::new("tls_processes", State::Info, problem)
                .lost("where `tls.enabled` is set: TLS of these processes"),
        );
    }
    if checks.len() == 2 {
        checks.push(Check::new("tls_files", State::Info, "no watched process runs anything with TLS in it"));
    }
    checks
}

/// Whether the kernel takes the probes.
fn probes() -> Check {
    let name = "tls_probes";
    let lost = "reading TLS, where `tls.enabled` is set";
    let loaded = match SecretProbes::load(16) {
        Ok((probes, _)) => probes,
        Err(e) => return Check::new(name, State::Limited, e.to_string()).lost(lost),
    };
    let refused: Vec<String> = [Layout::C, Layout::Go, Layout::Rust]
        .into_iter()
        .filter_map(|layout| Some(format!("{}: {}", layout.name(), loaded.problem(layout)?)))
        .collect();
    if refused.is_empty() {
        return Check::new(name, State::Ok, "loaded");
    }
    Check::new(name, State::Limited, refused.join("; ")).lost(lost)
}

/// What is missing for attaching, whether or not it is switched on.
fn privileges() -> Check {
    let held = super::effective(&std::fs::read_to_string("/proc/self/status").unwrap_or_default()).unwrap_or(0);
    let missing: Vec<&str> = [("CAP_SYS_ADMIN", 21), ("CAP_SYS_PTRACE", 19)]
        .into_iter()
        .filter(|(_, bit)| held >> bit & 1 == 0)
        .map(|(name, _)| name)
        .collect();
    if missing.is_empty() {
        return Check::new("tls_privileges", State::Ok, "CAP_SYS_ADMIN, CAP_SYS_PTRACE");
    }
    Check::new("tls_privileges", State::Info, format!("no {}", missing.join(", ")))
        .lost("reading TLS, where `tls.enabled` is set")
        .remedy("give the agent these; one thread of it keeps them")
}

fn check(file: &FileStatus) -> Check {
    let (names, count) = &file.processes;
    let mut found = format!("{}: ", file.path);
    match (&file.reason, file.found.as_slice()) {
        (Some(reason), _) => found.push_str(reason.name()),
        (None, functions) => {
            let how: Vec<String> =
                functions.iter().map(|(layout, way)| format!("{} by {}", layout.name(), way.name())).collect();
            found.push_str(&how.join(", "));
        }
    }
    // Writing to a String cannot fail.
    let _ = write!(found, "; {} ({count} processes)", names.join(", "));
    let check = Check::new("tls_files", State::Info, found);
    match (&file.problem, file.reason) {
        (Some(problem), _) => check.lost(format!("TLS of these processes: {problem}")),
        (None, Some(_)) => check.lost("TLS of these processes, if they do any"),
        (None, None) => check.remedy("`tls.enabled` reads it (docs/security.md)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Reason;
    use crate::tls::find::Way;

    #[test]
    fn each_file_is_told_with_how_or_why_not() {
        let file = FileStatus {
            path: "/lib/libssl.so.3".into(),
            found: vec![(Layout::C, Way::Label)],
            reason: None,
            problem: None,
            processes: (vec!["psql".into(), "python3".into()], 3),
        };
        let told = check(&file);
        assert_eq!(told.found, "/lib/libssl.so.3: c by label; psql, python3 (3 processes)");
        assert!(told.remedy.unwrap().contains("tls.enabled"));
        let java = FileStatus { found: vec![], reason: Some(Reason::Java), problem: Some("so it is".into()), ..file };
        let told = check(&java);
        assert!(told.found.starts_with("/lib/libssl.so.3: java; "), "{}", told.found);
        assert_eq!(told.lost.as_deref(), Some("TLS of these processes: so it is"));
    }
}
