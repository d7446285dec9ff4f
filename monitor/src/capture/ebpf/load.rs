//! Loads the probes with their knobs and map sizes, and attaches them. What capture cannot do without is an error; the
//! rest is lost coverage and reported as such.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use aya::maps::{Map, MapData};
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, FEntry, FExit, Program, ProgramError, RawTracePoint, SockOps,
};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use monitor_common::knobs;
use monitor_common::maps::{MAX_SHARDS, names};
use monitor_common::records::{SegmentHeader, TIERS};

use super::btf::{Btf, BtfError};
use super::ring::{Ring, page_size};
use super::{CaptureConfig, object};
use crate::capture::{CaptureError, HookStatus};

/// A hook, our program for it, and what the operator loses without.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    /// Constant name, as the metric shows it.
    pub name: &'static str,
    /// Program in the object.
    pub program: &'static str,
    /// Further programs that belong to it, attached before it.
    with: &'static [(&'static str, Kind)],
    /// Whether capture works without it.
    pub optional: bool,
    /// What is lost without it.
    pub lost: &'static str,
    kind: Kind,
}

impl Hook {
    /// Whether whole kernels are without it, by their age or because they refuse its kind: that nothing is attached is no
    /// loss then, and no alert.
    #[must_use]
    pub fn kernel_may_lack(&self) -> bool {
        matches!(self.kind, Kind::SocketCall(_) | Kind::Entry(_) | Kind::Return(_))
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Skb(CgroupSkbAttachType),
    SockOps,
    RawTracePoint(&'static str),
    /// A raw tracepoint of the socket calls: reads the cookie of the socket that it is given.
    SocketCall(&'static str),
    /// The entry of a function of the kernel.
    Entry(&'static str),
    /// Its return.
    Return(&'static str),
}

/// Every hook, in the order they are attached: sources of knowledge before sources of data.
pub const HOOKS: [Hook; 7] = [
    Hook {
        name: "cgroup_mkdir",
        program: "lw_mkdir",
        optional: true,
        lost: "new containers are noticed only at their first segment",
        kind: Kind::RawTracePoint("cgroup_mkdir"),
        with: &[],
    },
    Hook {
        name: "cgroup_rmdir",
        program: "lw_rmdir",
        optional: true,
        lost: "removed containers stay in the tables until these are full",
        kind: Kind::RawTracePoint("cgroup_rmdir"),
        with: &[],
    },
    Hook {
        name: "sock_ops",
        program: "lw_sock_ops",
        optional: true,
        lost: "every connection counts as older than the agent: what was proved at its start is not known",
        kind: Kind::SockOps,
        with: &[],
    },
    Hook {
        name: "cgroup_skb_ingress",
        program: "lw_ingress",
        optional: false,
        lost: "nothing that watched sockets receive is seen",
        kind: Kind::Skb(CgroupSkbAttachType::Ingress),
        with: &[],
    },
    Hook {
        name: "cgroup_skb_egress",
        program: "lw_egress",
        optional: false,
        lost: "nothing that watched sockets send is seen",
        kind: Kind::Skb(CgroupSkbAttachType::Egress),
        with: &[],
    },
    Hook {
        name: "reader_thread",
        program: "lw_recv",
        optional: true,
        lost: "which thread took a request: for work done on thread pools, the tenant is known less often",
        kind: Kind::SocketCall("sock_recv_length"),
        with: &[],
    },
    Hook {
        name: "unix_sockets",
        program: "lw_unix_read",
        optional: true,
        lost: "what passes over Unix sockets (poolers and caches on the same host)",
        kind: Kind::Entry("unix_stream_recvmsg"),
        // The return comes first: a read that began before is of no use to it.
        with: &[
            ("lw_unix_close", Kind::Entry("unix_release_sock")),
            ("lw_unix_connect", Kind::Return("unix_stream_connect")),
            ("lw_unix_pair", Kind::Return("unix_socketpair")),
            ("lw_unix_read_end", Kind::Return("unix_stream_recvmsg")),
        ],
    },
];

/// Not a hook of its own but a faculty of the egress probe, reported like one: who sent a segment.
pub const SENDER_THREAD: &str = "sender_thread";
/// What the operator loses without [`SENDER_THREAD`].
pub const SENDER_THREAD_LOST: &str = "which thread sent a request or an answer; the basis `same-thread` does not speak";

/// Loaded probes, not yet attached.
pub struct Probes {
    pub(super) ebpf: Ebpf,
    pub(super) shards: u32,
    pub(super) ring_bytes: u32,
    /// Why segments do not tell who sent them.
    no_sender: Option<String>,
    /// Why socket calls cannot be followed.
    no_calls: Option<String>,
    /// The kernel's types, for programs at its functions; or why there are none.
    functions: Result<aya::Btf, String>,
}

impl Probes {
    /// Loads the object and makes its maps; programs are loaded when they are attached. Where the kernel does not tell
    /// the sending thread, loads without: [`Self::sender_problem`].
    ///
    /// # Errors
    ///
    /// The binary has no probes, or the kernel refuses the maps.
    pub fn load(config: &CaptureConfig) -> Result<Self, CaptureError> {
        let mut probes = Self::load_as_told(config)?;
        if !config.threads {
            return Ok(probes);
        }
        // Only the verifier knows. What it takes stays loaded for the attachment.
        if HOOKS.iter().filter(|h| h.sends()).any(|h| probes.load_only(h).is_err()) {
            // The maps of the first try are gone before those of the second are made.
            drop(probes);
            probes = Self::load_as_told(&CaptureConfig { threads: false, ..config.clone() })?;
            probes.no_sender =
                Some("bpf_get_current_pid_tgid is refused in cgroup_skb (there from 6.10 on)".to_owned());
        }
        Ok(probes)
    }

    /// Why segments do not tell who sent them; `None`: they do.
    pub fn sender_problem(&self) -> Option<&str> {
        self.no_sender.as_deref()
    }

    fn load_as_told(config: &CaptureConfig) -> Result<Self, CaptureError> {
        if !object::is_real() {
            return Err(CaptureError::StubObject);
        }
        raise_memlock();
        let (shards, ring_bytes) = (shards(config), ring_bytes(config.ring_bytes));
        let cap = payload_cap(ring_bytes);
        let wake = ring_bytes / 4;
        let watch_unknown = 1u32;
        let threads = u32::from(config.threads);
        let explain = u32::from(config.explain);
        let seed = seed();
        let (cookie_offset, no_calls) = match socket_calls() {
            Ok(offset) => (offset, None),
            Err(e) => (0, Some(e.to_string())),
        };
        let (unix, functions) = match unix_sockets() {
            Ok((unix, btf)) => (unix, Ok(btf)),
            Err(e) => (Vec::new(), Err(e)),
        };
        let mut loader = EbpfLoader::new();
        for (knob, value) in &unix {
            loader.override_global(knob, value, true);
        }
        loader
            .verifier_log_level(VerifierLogLevel::DISABLE)
            .override_global(knobs::SHARDS, &shards, true)
            .override_global(knobs::PAYLOAD_CAP, &cap, true)
            .override_global(knobs::WAKE_BYTES, &wake, true)
            .override_global(knobs::WATCH_UNKNOWN, &watch_unknown, true)
            .override_global(knobs::THREADS, &threads, true)
            .override_global(knobs::EXPLAIN, &explain, true)
            .override_global(knobs::COOKIE_OFFSET, &cookie_offset, true)
            .override_global(knobs::SEED, &seed, true)
            .map_max_entries(names::FLOWS, config.flows.max(1))
            .map_max_entries(names::CGROUPS, config.cgroups.max(1));
        let page = u32::try_from(page_size()).unwrap_or(4096);
        for (shard, name) in (0u32..).zip(names::RINGS) {
            loader.map_max_entries(name, if shard < shards { ring_bytes } else { page });
        }
        let ebpf = loader
            .load(object::bytes())
            .map_err(|e| CaptureError::Load { program: "object", problem: describe(&e) })?;
        let no_sender = (!config.threads).then(|| "not asked for".to_owned());
        Ok(Self { ebpf, shards, ring_bytes, no_sender, no_calls, functions })
    }

    /// Loads and attaches one hook, at the cgroup directory where that matters.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn attach(&mut self, hook: &Hook, cgroup: &Path) -> Result<(), CaptureError> {
        let open =
            || File::open(cgroup).map_err(|e| CaptureError::Cgroup { path: cgroup.to_owned(), problem: e.to_string() });
        if let (Kind::SocketCall(_), Some(problem)) = (hook.kind, &self.no_calls) {
            return Err(CaptureError::Unsupported { missing: problem.clone(), remedy: hook.remedy().to_owned() });
        }
        if let (Kind::Entry(_) | Kind::Return(_), Err(problem)) = (hook.kind, &self.functions) {
            return Err(CaptureError::Unsupported { missing: problem.clone(), remedy: hook.remedy().to_owned() });
        }
        let mut done: Vec<&'static str> = Vec::new();
        for (name, kind) in hook.with.iter().copied().chain([(hook.program, hook.kind)]) {
            let Some(program) = self.ebpf.program_mut(name) else {
                return Err(CaptureError::Load { program: name, problem: "not in the object".to_owned() });
            };
            if let Err(e) = attach_one(program, kind, self.functions.as_ref().ok(), &open) {
                // All or none.
                for name in done {
                    let _ = match self.ebpf.program_mut(name) {
                        Some(Program::FEntry(p)) => p.unload(),
                        Some(Program::FExit(p)) => p.unload(),
                        _ => Ok(()),
                    };
                }
                return Err(match e {
                    Refused::Cgroup(e) => e,
                    Refused::Program(e @ ProgramError::LoadError { .. }) => {
                        CaptureError::Load { program: name, problem: describe(&e) }
                    }
                    Refused::Program(e) => {
                        CaptureError::Attach { hook: hook.name, cgroup: cgroup.to_owned(), problem: describe(&e) }
                    }
                });
            }
            done.push(name);
        }
        Ok(())
    }

    /// How often a program at a function of the kernel was passed over because another thread, which had the processor
    /// before, was inside of it (`recursion_misses`, 5.12): on kernels that preempt. Nothing else tells.
    pub(super) fn passed_over(&self) -> u64 {
        let names = HOOKS.iter().filter(|h| matches!(h.kind, Kind::Entry(_) | Kind::Return(_)));
        let names = names.flat_map(|h| h.with.iter().map(|(name, _)| *name).chain([h.program]));
        let misses = |name| {
            let fd = match self.ebpf.program(name)? {
                Program::FEntry(p) => p.fd(),
                Program::FExit(p) => p.fd(),
                _ => return None,
            };
            let info = format!("/proc/self/fdinfo/{}", fd.ok()?.as_fd().as_raw_fd());
            passed_over(&std::fs::read_to_string(info).ok()?)
        };
        names.filter_map(misses).sum()
    }

    /// Instructions of a hook's loaded program, as the kernel runs it; `None`: it is not loaded.
    pub fn instructions(&self, hook: &Hook) -> Option<u32> {
        // Eight bytes each.
        self.ebpf.program(hook.program)?.info().ok()?.size_translated().map(|bytes| bytes / 8)
    }

    /// Loads the program of a hook without attaching it: whether the verifier takes it.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn load_only(&mut self, hook: &Hook) -> Result<(), CaptureError> {
        let refused = |e: ProgramError| CaptureError::Load { program: hook.program, problem: describe(&e) };
        match self.ebpf.program_mut(hook.program) {
            Some(Program::CgroupSkb(p)) => p.load().map_err(refused),
            Some(Program::SockOps(p)) => p.load().map_err(refused),
            Some(Program::RawTracePoint(p)) => p.load().map_err(refused),
            _ => Err(CaptureError::Load { program: hook.program, problem: "not in the object".to_owned() }),
        }
    }

    /// Attaches every hook of a kind: optional ones that fail are in the answer.
    pub(super) fn attach_all(
        &mut self,
        cgroup: &Path,
        wanted: impl Fn(&Hook) -> bool,
    ) -> Result<Vec<HookStatus>, CaptureError> {
        let mut status = Vec::new();
        for hook in HOOKS.iter().filter(|h| wanted(h)) {
            match self.attach(hook, cgroup) {
                Ok(()) => status.push(HookStatus { hook: hook.name, attached: true, problem: None }),
                Err(e) if hook.optional => {
                    status.push(HookStatus { hook: hook.name, attached: false, problem: Some(e.to_string()) });
                }
                Err(e) => return Err(e),
            }
        }
        Ok(status)
    }

    /// Takes the rings in use.
    pub(super) fn rings(&mut self) -> Result<Vec<Ring>, CaptureError> {
        let used = usize::try_from(self.shards).unwrap_or(1);
        names::RINGS
            .iter()
            .take(used)
            .map(|name| {
                let map: MapData = match self.ebpf.take_map(name) {
                    Some(Map::RingBuf(map)) => map,
                    _ => return Err(CaptureError::Map { map: name, problem: "not in the object".to_owned() }),
                };
                Ring::new(map, self.ring_bytes)
                    .map_err(|e| CaptureError::Map { map: name, problem: format!("cannot be mapped: {e}") })
            })
            .collect()
    }
}

/// Why a program is not attached.
enum Refused {
    Program(ProgramError),
    /// The cgroup's directory cannot be opened.
    Cgroup(CaptureError),
}

impl From<ProgramError> for Refused {
    fn from(e: ProgramError) -> Self {
        Self::Program(e)
    }
}

/// Loads a program and attaches it. `types`: the kernel's, for programs at its functions.
fn attach_one(
    program: &mut Program,
    kind: Kind,
    types: Option<&aya::Btf>,
    cgroup: &dyn Fn() -> Result<File, CaptureError>,
) -> Result<(), Refused> {
    let types = || types.ok_or(ProgramError::UnexpectedProgramType);
    match kind {
        Kind::Skb(kind) => {
            let program: &mut CgroupSkb = program.try_into()?;
            // It may be loaded already, to find out whether the kernel takes it.
            if program.fd().is_err() {
                program.load()?;
            }
            program.attach(cgroup().map_err(Refused::Cgroup)?, kind, CgroupAttachMode::Single)?;
        }
        Kind::SockOps => {
            let program: &mut SockOps = program.try_into()?;
            program.load()?;
            program.attach(cgroup().map_err(Refused::Cgroup)?, CgroupAttachMode::Single)?;
        }
        Kind::RawTracePoint(name) | Kind::SocketCall(name) => {
            let program: &mut RawTracePoint = program.try_into()?;
            program.load()?;
            program.attach(name)?;
        }
        Kind::Entry(function) => {
            let program: &mut FEntry = program.try_into()?;
            program.load(function, types()?)?;
            program.attach()?;
        }
        Kind::Return(function) => {
            let program: &mut FExit = program.try_into()?;
            program.load(function, types()?)?;
            program.attach()?;
        }
    }
    Ok(())
}

/// The line of a program's fdinfo.
fn passed_over(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok())
}

impl Hook {
    /// What to do about a hook that cannot be attached.
    pub fn remedy(&self) -> &'static str {
        match self.kind {
            Kind::Entry(_) | Kind::Return(_) => {
                "a kernel from 5.14 on with CONFIG_DEBUG_INFO_BTF and CONFIG_FUNCTION_TRACER that allows fentry"
            }
            Kind::SocketCall(_) => "a kernel from 6.3 on with CONFIG_DEBUG_INFO_BTF and CONFIG_BPF_EVENTS",
            _ => "a kernel with CONFIG_CGROUP_BPF and CONFIG_BPF_EVENTS, not locked down for BPF",
        }
    }

    /// Whether it only brings knowledge (containers, connections), no payload.
    pub(super) fn brings_knowledge(&self) -> bool {
        matches!(self.kind, Kind::RawTracePoint(_) | Kind::SockOps)
    }

    /// Whether it sees what is sent.
    fn sends(&self) -> bool {
        matches!(self.kind, Kind::Skb(CgroupSkbAttachType::Egress))
    }

    /// Whether it only says which thread did something.
    pub(super) fn tells_threads(&self) -> bool {
        matches!(self.kind, Kind::SocketCall(_))
    }
}

/// Where the cookie of a socket stands, if the tracepoints of socket calls are as the probes know them.
fn socket_calls() -> Result<u32, BtfError> {
    let btf = Btf::of_kernel()?;
    for hook in &HOOKS {
        if let Kind::SocketCall(name) = hook.kind {
            btf.check_socket_call(name)?;
        }
    }
    btf.cookie_offset()
}

/// Knobs by name, and what they are set to.
type KnobValues = Vec<(&'static str, u32)>;

/// What the probes of Unix sockets read of the kernel's structures, and its types; or why they cannot be used.
fn unix_sockets() -> Result<(KnobValues, aya::Btf), String> {
    let functions = HOOKS.iter().flat_map(|h| h.with.iter().map(|(_, kind)| *kind).chain([h.kind]));
    let functions: Vec<_> = functions
        .filter_map(|kind| match kind {
            Kind::Entry(name) | Kind::Return(name) => Some(name),
            _ => None,
        })
        .collect();
    let unix = Btf::of_kernel().and_then(|btf| btf.unix_sockets(&functions)).map_err(|e| e.to_string())?;
    Ok((unix, aya::Btf::from_sys_fs().map_err(|e| describe(&e))?))
}

/// Rings: one unless asked for more. Within one ring the order of records is the order of causes: what a relay sends
/// on stands behind what it received, on whichever CPU. Between rings only clocks tell, and a CPU that is held up
/// between stamping a record and reserving it (any virtual machine) makes a later cause look earlier. One ring carries
/// some two million records a second from sixteen CPUs, ten times what a busy node makes.
fn shards(config: &CaptureConfig) -> u32 {
    let wanted = config.shards.unwrap_or(1).clamp(1, MAX_SHARDS);
    1 << wanted.ilog2()
}

/// The kernel wants a power of two and at least a page.
fn ring_bytes(wanted: u32) -> u32 {
    let page = u32::try_from(page_size()).unwrap_or(4096);
    wanted.clamp(page, 1 << 30).next_power_of_two()
}

/// The largest tier of which a ring holds as many as a long segment takes, and one more.
fn payload_cap(ring_bytes: u32) -> u32 {
    let overhead = u32::try_from(size_of::<SegmentHeader>()).unwrap_or(0) + 8;
    TIERS.into_iter().rev().find(|t| (t + overhead) * 9 <= ring_bytes).unwrap_or(0)
}

/// Keys the hash of addresses in the probes. Only has to differ from run to run.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// Kernels before 5.11 charge maps to the memory-lock limit.
pub(super) fn raise_memlock() {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `unlimited` lives through the call. Failure shows when the maps are made.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) };
}

/// An error with its causes, on one line; of a verifier's log only the end, which says why.
pub(super) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = next {
        let text = e.to_string();
        let text: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        let end = text.len().saturating_sub(4);
        let text = text.get(end..).unwrap_or_default().join(" / ");
        if !parts.iter().any(|p| p.contains(&text)) {
            parts.push(text);
        }
        if let Some(e) = e.downcast_ref::<io::Error>()
            && e.kind() == io::ErrorKind::PermissionDenied
        {
            parts.push("(are CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON there?)".to_owned());
        }
        next = e.source();
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_the_kernel_takes() {
        assert_eq!(ring_bytes(0), u32::try_from(page_size()).unwrap());
        assert_eq!(ring_bytes(5000), 8192);
        assert_eq!(ring_bytes(u32::MAX), 1 << 30);
        let shards_of = |n| shards(&CaptureConfig { shards: Some(n), ..CaptureConfig::default() });
        assert_eq!([0, 1, 2, 3, 4, 9].map(shards_of), [1, 1, 2, 2, 4, 4]);
    }

    /// What whole kernels are without is no alert on every node of them.
    #[test]
    fn the_alert_and_the_panels_leave_out_what_a_kernel_may_lack() {
        let lacked = HOOKS.iter().filter(|h| h.kernel_may_lack()).map(|h| h.name).chain([SENDER_THREAD]);
        let mut lacked: Vec<&str> = lacked.collect();
        lacked.sort_unstable();
        let selector = format!("hook!~\"{}\"", lacked.join("|"));
        let dashboards = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards");
        for file in ["alerts.yaml", "overview.json", "agent-health.json"] {
            let text = std::fs::read_to_string(dashboards.join(file)).unwrap().replace("\\\"", "\"");
            assert!(text.contains(&selector), "{file} has no {selector}");
        }
    }

    #[test]
    fn what_a_program_missed_stands_in_its_fdinfo() {
        let info = "pos:\t0\nprog_type:\t26\nrun_cnt:\t9\nrecursion_misses:\t17\nverified_insns:\t5\n";
        assert_eq!((passed_over(info), passed_over("pos:\t0\n")), (Some(17), None));
    }

    #[test]
    fn two_of_the_longest_records_fit() {
        assert_eq!([4096, 8192, 32768, 65536, 1 << 22].map(payload_cap), [128, 512, 512, 4096, 16384]);
    }
}
