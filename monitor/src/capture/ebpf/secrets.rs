//! The probes of TLS libraries: an object of its own, loaded only where reading TLS is switched on. What they tell comes
//! through a ring of their own, which is read together with the others, by time.

use std::path::Path;

use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use aya::programs::uprobe::{UProbeAttachLocation, UProbeLink, UProbeScope};
use aya::programs::{ProgramError, UProbe};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use monitor_common::secrets::{Call, Calls, Counters, KNOB_ARM, Outcome, names};

use super::load::{describe, raise_memlock};
use super::object;
use super::ring::Ring;
use crate::capture::CaptureError;
use crate::tls::find::{Found, Layout};

/// Bytes of the ring: some nineteen hundred secrets, of which a handshake has four or five.
const RING_BYTES: u32 = 256 << 10;

/// Programs of a layout: at the entry of the function, and at its return. Each has a twin that may sleep, which is taken
/// where the kernel has those.
const PROGRAMS: [(Layout, &str, bool); 4] = [
    (Layout::C, "lw_tls_c", true),
    (Layout::Go, "lw_tls_go", true),
    (Layout::Rust, "lw_tls_rust", false),
    (Layout::Rust, "lw_tls_rust_ret", false),
];

/// Loaded probes of TLS libraries, and where they are attached from.
pub struct SecretProbes {
    ebpf: Ebpf,
    /// The program to use for each of [`PROGRAMS`], and why there is none.
    programs: Vec<(Layout, Result<String, String>)>,
    calls: HashMap<MapData, Call, Calls>,
}

/// What their reader needs.
pub struct SecretMaps {
    pub(super) ring: Ring,
    pub(super) cgroups: HashMap<MapData, u64, u32>,
    pub(super) counters: PerCpuArray<MapData, Counters>,
}

/// Probes at one function. Dropping it takes them away.
#[derive(Debug)]
pub struct Attached {
    _links: Vec<UProbeLink>,
}

impl SecretProbes {
    /// Loads them, for so many cgroups at most. Programs that the kernel refuses are told when they are needed.
    ///
    /// # Errors
    /// The binary has no probes, or the kernel refuses the maps.
    pub fn load(cgroups: u32) -> Result<(Self, SecretMaps), CaptureError> {
        if object::secrets().is_empty() {
            return Err(CaptureError::StubObject);
        }
        raise_memlock();
        lock_memory();
        let arm = u32::from(cfg!(target_arch = "aarch64"));
        let mut ebpf = EbpfLoader::new()
            .verifier_log_level(VerifierLogLevel::DISABLE)
            .override_global(KNOB_ARM, &arm, true)
            .map_max_entries(names::CGROUPS, cgroups.max(1))
            .map_max_entries(names::RING, RING_BYTES)
            .load(object::secrets())
            .map_err(|e| CaptureError::Load { program: "TLS probes", problem: describe(&e) })?;
        let missing = |map| CaptureError::Map { map, problem: "not in the object, or of another kind".to_owned() };
        let ring: MapData = match ebpf.take_map(names::RING) {
            Some(Map::RingBuf(map)) => map,
            _ => return Err(missing(names::RING)),
        };
        let ring = Ring::new(ring, RING_BYTES)
            .map_err(|e| CaptureError::Map { map: names::RING, problem: format!("cannot be mapped: {e}") })?;
        let cgroups = ebpf.take_map(names::CGROUPS).and_then(|m| HashMap::try_from(m).ok());
        let counters = ebpf.take_map(names::COUNTERS).and_then(|m| PerCpuArray::try_from(m).ok());
        let maps = SecretMaps {
            ring,
            cgroups: cgroups.ok_or_else(|| missing(names::CGROUPS))?,
            counters: counters.ok_or_else(|| missing(names::COUNTERS))?,
        };
        let calls = ebpf.take_map(names::CALLS).and_then(|m| HashMap::try_from(m).ok());
        let calls = calls.ok_or_else(|| missing(names::CALLS))?;
        let programs = PROGRAMS.iter().map(|(layout, name, twin)| (*layout, load(&mut ebpf, name, *twin))).collect();
        Ok((Self { ebpf, programs, calls }, maps))
    }

    /// Why the function of a layout cannot be probed; `None`: it can.
    pub fn problem(&self, layout: Layout) -> Option<&str> {
        self.programs.iter().filter(|(l, _)| *l == layout).find_map(|(_, p)| p.as_ref().err()).map(String::as_str)
    }

    /// How often which process has called what it was probed at; those that called it longest ago may be forgotten.
    pub fn calls(&self) -> Vec<(Call, Calls)> {
        self.calls.iter().flatten().collect()
    }

    /// Probes a function of the file at `path`, in whatever process runs it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn attach(&mut self, path: &Path, found: &Found) -> Result<Attached, String> {
        let mut links = Vec::new();
        for (_, program) in self.programs.iter().filter(|(layout, _)| *layout == found.layout) {
            let name = program.as_ref().map_err(Clone::clone)?;
            let program = uprobe(&mut self.ebpf, name)?;
            let point = UProbeAttachLocation::AbsoluteOffset(found.offset);
            let link = program
                .attach(point, path, UProbeScope::AllProcesses)
                .and_then(|id| program.take_link(id))
                .map_err(|e| describe(&e))?;
            links.push(link);
        }
        Ok(Attached { _links: links })
    }
}

/// Keeps all of the agent's memory, as it is used, out of swap: secrets pass through more of it than one place. Where that
/// is refused and there is swap, it is said.
fn lock_memory() {
    // SAFETY: a plain request about this process.
    let done = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    if done != 0 && swaps.lines().count() > 1 {
        let error = std::io::Error::last_os_error();
        tracing::warn!("memory cannot be locked ({error}): secrets of TLS may get into swap; raise RLIMIT_MEMLOCK");
    }
}

/// Loads a program: its twin that may sleep, if there is one and the kernel takes it. Gives the name of what was loaded.
fn load(ebpf: &mut Ebpf, name: &str, twin: bool) -> Result<String, String> {
    if twin {
        let twin = format!("{name}_s");
        if uprobe(ebpf, &twin).is_ok_and(|p| p.load().is_ok()) {
            return Ok(twin);
        }
    }
    uprobe(ebpf, name)?.load().map_err(|e| describe(&e))?;
    Ok(name.to_owned())
}

fn uprobe<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut UProbe, String> {
    let program = ebpf.program_mut(name).ok_or_else(|| format!("no program {name} in the object"))?;
    program.try_into().map_err(|e: ProgramError| describe(&e))
}

/// Calls of probed functions by watched processes, by what came of them.
pub(super) fn counts(counters: &PerCpuArray<MapData, Counters>) -> [(&'static str, u64); Outcome::COUNT] {
    let mut counts = Outcome::ALL.map(|(_, name)| (name, 0u64));
    if let Ok(cpus) = counters.get(&0, 0) {
        for cpu in cpus.iter() {
            for ((_, total), n) in counts.iter_mut().zip(cpu.by_outcome) {
                *total = total.wrapping_add(n);
            }
        }
    }
    counts
}
