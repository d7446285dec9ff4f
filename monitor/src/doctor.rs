//! `leasewarden doctor`: what this machine allows, tried and not guessed; what is lost without each thing, and what to
//! do. [`preflight`] is the short form that `run` asks first.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{is_map_supported, is_program_supported};
use serde::Serialize;

use crate::capture::CaptureError;
use crate::capture::cgroups::{Hierarchy, PART, PART_REMEDY, path_of_process};
use crate::capture::ebpf::{self, BTF_PATH, Btf, CaptureConfig, HOOKS, Probes, SENDER_THREAD, SENDER_THREAD_LOST};

mod identity;
mod local;
mod tls;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// `run` works, but sees less.
    Limited,
    /// `run` does not work.
    Missing,
    /// Good to know.
    Info,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Constant name.
    pub name: &'static str,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What is lost without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    fn new(name: &'static str, state: State, found: impl Into<String>) -> Self {
        Self { name, state, found: found.into(), lost: None, remedy: None }
    }

    fn lost(mut self, what: impl Into<String>) -> Self {
        self.lost = Some(what.into());
        self
    }

    fn remedy(mut self, what: impl Into<String>) -> Self {
        self.remedy = Some(what.into());
        self
    }
}

/// All checks.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether `run` would work.
    pub usable: bool,
    /// Every check, in the order of dependence.
    pub checks: Vec<Check>,
}

/// Checks everything and prints it: a table, or JSON. Exit status 0 when `run` would work, else 1.
pub fn run(json: bool) -> ExitCode {
    let report = examine();
    let text = if json { serde_json::to_string_pretty(&report).unwrap_or_default() + "\n" } else { table(&report) };
    // Whoever closed our standard output does not want the rest.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if report.usable { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether `run` can work at all.
///
/// # Errors
///
/// One message with everything that is missing and what to do. Hooks are tried when they are attached.
pub fn preflight() -> Result<(), CaptureError> {
    if !ebpf::is_real() {
        return Err(CaptureError::StubObject);
    }
    let missing: Vec<Check> =
        [privileges(), cgroup_mount()].into_iter().chain(features()).filter(|c| c.state == State::Missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let join = |f: fn(&Check) -> &str| missing.iter().map(f).collect::<Vec<_>>().join("; ");
    Err(CaptureError::Unsupported {
        missing: join(|c| &c.found),
        remedy: join(|c| c.remedy.as_deref().unwrap_or("see `leasewarden doctor`")),
    })
}

fn examine() -> Report {
    let mut checks = vec![probes(), kernel(), privileges(), cgroup_mount(), own_cgroup()];
    checks.extend(features());
    let ready = checks.iter().all(|c| c.state != State::Missing);
    if ready {
        checks.extend(hooks());
    } else {
        checks.extend(HOOKS.iter().map(|h| {
            Check::new(h.name, if h.optional { State::Limited } else { State::Missing }, "not tried: see above")
                .lost(h.lost)
        }));
        checks.push(Check::new(SENDER_THREAD, State::Limited, "not tried: see above").lost(SENDER_THREAD_LOST));
    }
    let reads_unix = checks.iter().any(|c| c.name == "unix_sockets" && c.state == State::Ok);
    checks.extend([btf(), bpf_statistics(), tls_libraries(), local::check(reads_unix)]);
    checks.extend(tls::checks());
    checks.extend(identity::checks());
    Report { usable: checks.iter().all(|c| c.state != State::Missing), checks }
}

fn probes() -> Check {
    if ebpf::is_real() {
        Check::new("probes", State::Ok, "embedded in this binary")
    } else {
        Check::new("probes", State::Missing, "this binary was built without the kernel probes")
            .lost("everything but `replay`")
            .remedy("build it with `cargo xtask build`")
    }
}

fn kernel() -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Check::new("kernel", State::Ok, release.trim())
}

/// What the kernel must be able to do, each tried: a distribution's kernel has more, or less, than its version says.
/// Nothing is said of what could not be tried.
fn features() -> Vec<Check> {
    let wanted = [
        ("feature_ring_buffer", is_map_supported(MapType::RingBuf).ok(), "BPF ring buffers"),
        ("feature_cgroup_skb", is_program_supported(ProgramType::CgroupSkb).ok(), "BPF programs of cgroups' sockets"),
    ];
    let judge = |(name, there, what): (&'static str, Option<bool>, &str)| {
        Some(match there? {
            true => Check::new(name, State::Ok, what),
            false => Check::new(name, State::Missing, format!("this kernel has no {what}"))
                .lost("everything")
                .remedy("a kernel with CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF, from 5.8 on or with these backported"),
        })
    };
    wanted.into_iter().filter_map(judge).collect()
}

/// Names and bits of the capabilities that matter (include/uapi/linux/capability.h).
const CAPABILITIES: [(&str, u32, &str); 5] = [
    ("CAP_BPF", 39, "loading programs"),
    ("CAP_NET_ADMIN", 12, "attaching to cgroups"),
    ("CAP_PERFMON", 38, "raw tracepoints, reading kernel memory"),
    ("CAP_DAC_READ_SEARCH", 2, "naming a cgroup by its id"),
    ("CAP_SYS_ADMIN", 21, "everything, on kernels that know no finer ones"),
];

fn privileges() -> Check {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    match effective(&status) {
        Some(bits) => judge_privileges(bits),
        None => Check::new("privileges", State::Limited, "/proc/self/status does not say"),
    }
}

fn effective(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

fn judge_privileges(bits: u64) -> Check {
    let has = |name: &str| CAPABILITIES.iter().any(|(n, bit, _)| *n == name && bits >> bit & 1 == 1);
    let needed = ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"];
    let missing: Vec<&str> =
        needed.into_iter().filter(|n| !has(n) && (*n == "CAP_NET_ADMIN" || !has("CAP_SYS_ADMIN"))).collect();
    if missing.is_empty() {
        let held: Vec<&str> = CAPABILITIES.iter().map(|(n, _, _)| *n).filter(|n| has(n)).collect();
        return Check::new("privileges", State::Ok, held.join(", "));
    }
    Check::new("privileges", State::Missing, format!("no {}", missing.join(", ")))
        .lost("nothing can be loaded or attached")
        .remedy("run as root, or with CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_DAC_READ_SEARCH")
}

fn cgroup_mount() -> Check {
    match Hierarchy::find() {
        Ok(h) => judge_mount(&h),
        Err(CaptureError::Unsupported { missing, remedy }) => {
            Check::new("cgroup_v2", State::Missing, missing).lost("everything: workloads are cgroups").remedy(remedy)
        }
        Err(e) => Check::new("cgroup_v2", State::Missing, e.to_string()).lost("everything: workloads are cgroups"),
    }
}

fn judge_mount(hierarchy: &Hierarchy) -> Check {
    let found = format!("mounted at {}", hierarchy.mount().display());
    if hierarchy.is_whole() {
        return Check::new("cgroup_v2", State::Ok, found);
    }
    Check::new("cgroup_v2", State::Limited, format!("{found}: {PART}"))
        .lost("every container outside of it")
        .remedy(PART_REMEDY)
}

fn own_cgroup() -> Check {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    match path_of_process(&text) {
        Some("/") => Check::new("own_cgroup", State::Info, "the root: the agent's own connections are told by address"),
        Some(path) => Check::new("own_cgroup", State::Ok, format!("{path}, not watched")),
        None => Check::new("own_cgroup", State::Info, "not in a cgroup v2 hierarchy"),
    }
}

/// A cgroup that nobody lives in, for trying hooks; removed when dropped.
struct Throwaway(PathBuf);

impl Throwaway {
    fn new(mount: &Path) -> Option<Self> {
        let dir = mount.join(format!("leasewarden-doctor-{}", std::process::id()));
        fs::create_dir(&dir).ok().map(|()| Self(dir))
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn small() -> CaptureConfig {
    CaptureConfig { flows: 16, cgroups: 16, ring_bytes: 4096, shards: Some(1), ..CaptureConfig::default() }
}

fn hooks() -> Vec<Check> {
    let Ok(hierarchy) = Hierarchy::find() else { return Vec::new() };
    let throwaway = Throwaway::new(hierarchy.mount());
    let dir = throwaway.as_ref().map_or_else(|| hierarchy.mount().to_owned(), |t| t.0.clone());
    let mut probes = match Probes::load(&small()) {
        Ok(probes) => probes,
        Err(e) => {
            return vec![Check::new("ring_buffer", State::Missing, e.to_string()).lost("everything").remedy(
                "a kernel with CONFIG_BPF_SYSCALL, CONFIG_CGROUP_BPF and a BPF JIT; no seccomp filter on bpf()",
            )];
        }
    };
    let mut checks = vec![Check::new("ring_buffer", State::Ok, "maps and ring buffers can be made")];
    for hook in &HOOKS {
        checks.push(match probes.attach(hook, &dir) {
            Ok(()) => Check::new(hook.name, State::Ok, "loaded, attached and detached"),
            Err(e) => {
                let state = if hook.optional { State::Limited } else { State::Missing };
                let found = match e {
                    CaptureError::Unsupported { missing, .. } => missing,
                    e => e.to_string(),
                };
                Check::new(hook.name, state, found).lost(hook.lost).remedy(hook.remedy())
            }
        });
    }
    checks.push(sender_thread(&probes));
    checks
}

fn sender_thread(probes: &Probes) -> Check {
    match probes.sender_problem() {
        None => Check::new(SENDER_THREAD, State::Ok, "bpf_get_current_pid_tgid works in cgroup_skb"),
        Some(problem) => {
            Check::new(SENDER_THREAD, State::Limited, problem).lost(SENDER_THREAD_LOST).remedy("a kernel from 6.10 on")
        }
    }
}

fn btf() -> Check {
    match Btf::of_kernel() {
        Ok(_) => Check::new("btf", State::Ok, BTF_PATH),
        Err(e) => Check::new("btf", State::Limited, e.to_string())
            .lost("the probes that need to know the kernel's types: reader_thread, unix_sockets")
            .remedy("a kernel with CONFIG_DEBUG_INFO_BTF"),
    }
}

fn bpf_statistics() -> Check {
    let on = fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").is_ok_and(|s| s.trim() == "1");
    if on {
        Check::new("bpf_statistics", State::Info, "on: run times of the probes are in the metrics")
    } else {
        Check::new("bpf_statistics", State::Info, "off: no run times of the probes in the metrics")
            .remedy("`sysctl kernel.bpf_stats_enabled=1`; costs a little time per packet")
    }
}

fn tls_libraries() -> Check {
    let mut found = Vec::new();
    let roots = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib"];
    for root in roots.map(Path::new) {
        let mut dirs = vec![root.to_owned()];
        if let Ok(entries) = fs::read_dir(root) {
            dirs.extend(entries.flatten().map(|e| e.path()).filter(|p| p.to_string_lossy().ends_with("-linux-gnu")));
        }
        for dir in dirs {
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            found.extend(
                entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with("libssl.so")).filter_map(
                    // /lib is often a link to /usr/lib.
                    |e| e.path().canonicalize().ok(),
                ),
            );
        }
    }
    found.sort();
    found.dedup();
    let what = if found.is_empty() {
        "no OpenSSL on this host (containers bring their own)".to_owned()
    } else {
        found.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
    };
    Check::new("tls_libraries", State::Info, what)
        .lost("TLS connections are counted as opaque, unless `tls.enabled` is set")
}

fn table(report: &Report) -> String {
    let width = report.checks.iter().map(|c| c.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for c in &report.checks {
        let state = match c.state {
            State::Ok => "ok",
            State::Limited => "limited",
            State::Missing => "MISSING",
            State::Info => "info",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{state:<8} {:<width$}  {}", c.name, c.found);
        for (label, text) in [("without it", &c.lost), ("to do", &c.remedy)] {
            if let Some(text) = text.as_ref().filter(|_| c.state != State::Ok) {
                let _ = writeln!(out, "{:<8} {:<width$}  {label}: {text}", "", "");
            }
        }
    }
    let verdict = if report.usable { "`leasewarden run` works here." } else { "`leasewarden run` does not work here." };
    let _ = writeln!(out, "\n{verdict}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_tree_is_not_taken_for_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy::at(dir.path().to_owned());
        assert_eq!(judge_mount(&hierarchy).state, State::Ok);
        // As the kernel has it in every directory but the root.
        fs::write(dir.path().join("cgroup.events"), "populated 1\n").unwrap();
        let part = judge_mount(&hierarchy);
        assert_eq!(part.state, State::Limited);
        assert!(part.found.contains("containers outside of it are not seen"), "{}", part.found);
        assert!(part.remedy.unwrap().contains("--cgroupns=host"));
    }

    #[test]
    fn judges_capabilities() {
        let bit = |n: u32| 1u64 << n;
        assert_eq!(judge_privileges(u64::MAX).state, State::Ok);
        assert_eq!(judge_privileges(bit(39) | bit(12) | bit(38)).state, State::Ok);
        assert_eq!(judge_privileges(bit(21) | bit(12)).state, State::Ok, "CAP_SYS_ADMIN stands for the finer ones");
        let none = judge_privileges(0);
        assert_eq!((none.state, none.found.as_str()), (State::Missing, "no CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"));
        assert!(none.remedy.unwrap().contains("root"));
        assert_eq!(judge_privileges(bit(21)).found, "no CAP_NET_ADMIN");
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("Name:\tx\n"), None);
    }

    #[test]
    fn the_table_says_what_is_lost_and_what_to_do() {
        let report = Report { usable: false, checks: vec![judge_privileges(0), kernel()] };
        let text = table(&report);
        assert!(text.contains("MISSING  privileges  no CAP_BPF"), "{text}");
        assert!(text.contains("without it: nothing can be loaded"), "{text}");
        assert!(text.contains("does not work here"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["checks"][1]["state"], "ok");
        assert!(json["checks"][1].get("remedy").is_none());
    }
}
