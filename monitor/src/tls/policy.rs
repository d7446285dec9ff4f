//! Whose TLS is read: nobody's, unless the configuration says so.

use globset::{Glob, GlobMatcher};

/// The `tls` section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// Off unless it is switched on.
    pub enabled: bool,
    /// Whose; none: every watched workload's.
    pub workloads: Vec<WorkloadPattern>,
    /// Connections to these services only, by name; none: to every one.
    pub services: Vec<String>,
}

/// Names of workloads, or paths of their cgroups.
#[derive(Clone, Debug)]
pub struct WorkloadPattern {
    text: String,
    glob: GlobMatcher,
}

impl PartialEq for WorkloadPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for WorkloadPattern {}

impl WorkloadPattern {
    /// Reads a pattern: with a `/` at its beginning a glob on the path of a cgroup, and of all that is nested below;
    /// otherwise one on a workload's name.
    ///
    /// # Errors
    /// It is no glob.
    pub fn parse(text: &str) -> Result<Self, String> {
        let glob = Glob::new(text).map_err(|e| e.kind().to_string())?;
        Ok(Self { text: text.to_owned(), glob: glob.compile_matcher() })
    }

    fn covers(&self, name: Option<&str>, path: &str) -> bool {
        if !self.text.starts_with('/') {
            return name.is_some_and(|name| self.glob.is_match(name));
        }
        let mut ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0).collect();
        ends.push(path.len());
        ends.into_iter().filter_map(|end| path.get(..end)).any(|above| self.glob.is_match(above))
    }
}

impl TlsConfig {
    /// Whether TLS is read of the processes in a cgroup, whose workload has this name, as far as that is known.
    pub fn reads(&self, name: Option<&str>, path: &str) -> bool {
        self.enabled && (self.workloads.is_empty() || self.workloads.iter().any(|w| w.covers(name, path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(workloads: &[&str]) -> TlsConfig {
        let workloads = workloads.iter().map(|w| WorkloadPattern::parse(w).unwrap()).collect();
        TlsConfig { enabled: true, workloads, services: Vec::new() }
    }

    #[test]
    fn nobody_s_unless_switched_on() {
        assert!(!TlsConfig::default().reads(Some("a"), "/a"));
        assert!(config(&[]).reads(None, "/a"));
        assert!(!TlsConfig { enabled: false, ..config(&["/a"]) }.reads(None, "/a"));
    }

    #[test]
    fn by_name_or_by_path_and_what_is_below() {
        let by_name = config(&["pay*"]);
        assert!(by_name.reads(Some("payments"), "/x"));
        assert!(!by_name.reads(None, "/payments"), "the name is not known yet");
        assert!(!by_name.reads(Some("a-payments"), "/x"));
        let by_path = config(&["/kubepods/pod*"]);
        assert!(by_path.reads(None, "/kubepods/pod1/container"));
        assert!(!by_path.reads(Some("x"), "/kubepods"));
        assert!(!by_path.reads(Some("x"), "/other/kubepods/pod1"));
    }

    #[test]
    fn near_misses_are_told() {
        assert!(WorkloadPattern::parse("a[").is_err());
    }
}
