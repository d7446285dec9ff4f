//! What the probes cost in the kernel, against a program that does nothing on the same hook: part of `cargo xtask
//! bench`. Needs root, and a build with the real probes (`LEASEWARDEN_BPF_OBJECT`).
//!
//! Prints JSON: nanoseconds per run as the kernel's BPF statistics have them, medians over alternating rounds. What it
//! costs to know the threads: segments captured without, and the probe on reads of sockets, watched and not.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType};
use monitor::capture::ebpf::{CaptureConfig, LiveSource};
use monitor::capture::{ProgramStats, Source};
use tests::lab::cgroup::{Tree, mount};

/// Round trips of one measurement.
const TRIPS: usize = 20_000;
/// Payload of each segment: the size for which the design gives a limit.
const PAYLOAD: usize = 400;
/// Measurements of each kind.
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let _statistics = Statistics::on()?;
    let tree = Tree::new("leasewarden-bench")?;
    let watched = tree.dir("watched")?;
    let unwatched = tree.dir("unwatched")?;
    let (mut empty, mut captured, mut passed) = (Vec::new(), Vec::new(), Vec::new());
    let (mut anonymous, mut read, mut read_unwatched) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        empty.push(cost_of_empty(&tree, &watched)?);
        let both_ends = 2 * TRIPS as u64;
        let cost = cost_of_probes(&tree, &watched, both_ends, true)?;
        captured.push(cost.packet);
        read.extend(cost.read);
        anonymous.push(cost_of_probes(&tree, &watched, both_ends, false)?.packet);
        empty.push(cost_of_empty(&tree, &unwatched)?);
        let cost = cost_of_probes(&tree, &unwatched, 0, true)?;
        passed.push(cost.packet);
        read_unwatched.extend(cost.read);
    }
    let (empty, captured, passed) = (median(empty), median(captured), median(passed));
    // No such tracepoint: null.
    let known = |values: Vec<f64>| if values.is_empty() { "null".to_owned() } else { format!("{:.0}", median(values)) };
    let (anonymous, read, read_unwatched) = (median(anonymous), known(read), known(read_unwatched));
    println!(
        "{{\"payload\":{PAYLOAD},\"empty_ns\":{empty:.0},\"captured_ns\":{captured:.0},\"unwatched_ns\":{passed:.0},\
         \"captured_without_threads_ns\":{anonymous:.0},\"read_ns\":{read},\"read_unwatched_ns\":{read_unwatched},\
         \"captured_ratio\":{:.2},\"unwatched_ratio\":{:.2}}}",
        captured / empty,
        passed / empty
    );
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Switches the kernel's statistics on, and back when dropped.
struct Statistics(String);

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

impl Statistics {
    fn on() -> Result<Self> {
        let before = fs::read_to_string(SWITCH).with_context(|| format!("no {SWITCH}"))?;
        fs::write(SWITCH, "1").context("cannot switch BPF statistics on; this needs root")?;
        Ok(Self(before))
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        let _ = fs::write(SWITCH, &self.0);
    }
}

fn cost_of_empty(tree: &Tree, cgroup: &Path) -> Result<f64> {
    let object = std::env::var_os("LEASEWARDEN_BPF_OBJECT").context("LEASEWARDEN_BPF_OBJECT is not set")?;
    let mut ebpf = aya::Ebpf::load(&fs::read(object)?)?;
    let program: &mut CgroupSkb = ebpf.program_mut("lw_empty").context("no lw_empty in the object")?.try_into()?;
    program.load()?;
    program.attach(fs::File::open(tree.root())?, CgroupSkbAttachType::Egress, CgroupAttachMode::Single)?;
    traffic(cgroup, &mut || Ok(()))?;
    let program: &mut CgroupSkb = ebpf.program_mut("lw_empty").context("no lw_empty in the object")?.try_into()?;
    let info = program.info()?;
    ensure!(info.run_count() >= 2 * TRIPS as u64, "the empty program ran only {} times", info.run_count());
    Ok(info.run_time().as_nanos() as f64 / info.run_count() as f64)
}

/// Nanoseconds per run.
struct Cost {
    /// Of the two packet programs together.
    packet: f64,
    /// Of the program that follows reads, if this kernel has its tracepoint.
    read: Option<f64>,
}

/// What the probes cost with the socket's cgroup watched or not, with threads or without.
fn cost_of_probes(tree: &Tree, cgroup: &Path, at_least: u64, threads: bool) -> Result<Cost> {
    let config = CaptureConfig { scope_cgroup: Some(tree.root().to_owned()), threads, ..CaptureConfig::default() };
    let mut source = LiveSource::open(config, Box::new(|path: &str| path.ends_with("/watched")))?;
    let mut n_segments = 0;
    traffic(cgroup, &mut || {
        source.poll(Duration::ZERO, &mut |event| {
            n_segments += u64::from(matches!(event, monitor_core::model::Event::Segment(_)));
        })?;
        Ok(())
    })?;
    source.poll(Duration::from_millis(50), &mut |event| {
        n_segments += u64::from(matches!(event, monitor_core::model::Event::Segment(_)));
    })?;
    ensure!(n_segments >= at_least, "only {n_segments} of {at_least} segments were captured");
    ensure!(at_least > 0 || n_segments == 0, "{n_segments} segments of an unwatched cgroup were captured");
    let programs = source.stats().programs;
    let packet = || programs.iter().filter(|p| p.program.contains("gress"));
    let runs: u64 = packet().map(|p| p.runs).sum();
    ensure!(runs >= 2 * TRIPS as u64, "the probes ran only {runs} times");
    let per_run = |p: &ProgramStats| p.time.as_nanos() as f64 / p.runs as f64;
    Ok(Cost {
        packet: packet().map(|p| p.time.as_nanos() as f64).sum::<f64>() / runs as f64,
        read: programs.iter().find(|p| p.program == "reader_thread").map(per_run),
    })
}

/// Round trips between two sockets of one cgroup, by a thread in it; `now_and_then` runs between them.
fn traffic(cgroup: &Path, now_and_then: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    let enter = |dir: &Path| fs::write(dir.join("cgroup.procs"), std::process::id().to_string());
    enter(cgroup).with_context(|| format!("cannot enter {}", cgroup.display()))?;
    let result = round_trips(now_and_then);
    enter(&mount()?)?;
    result
}

fn round_trips(now_and_then: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (payload, mut got) = ([7u8; PAYLOAD], [0u8; PAYLOAD]);
    for trip in 0..TRIPS {
        client.write_all(&payload)?;
        server.read_exact(&mut got)?;
        server.write_all(&payload)?;
        client.read_exact(&mut got)?;
        if trip % 100 == 0 {
            now_and_then()?;
        }
    }
    Ok(())
}
