//! What the probes cost in the kernel, against a program that does nothing on the same hook: part of `cargo xtask
//! bench`. Needs root, and a build with the real probes (`LEASEWARDEN_BPF_OBJECT`).
//!
//! Prints JSON: nanoseconds per run as the kernel's BPF statistics have them, medians over alternating rounds.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType};
use monitor::capture::Source;
use monitor::capture::ebpf::{CaptureConfig, LiveSource};
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
    for _ in 0..ROUNDS {
        empty.push(cost_of_empty(&tree, &watched)?);
        captured.push(cost_of_probes(&tree, &watched, 2 * TRIPS as u64)?);
        empty.push(cost_of_empty(&tree, &unwatched)?);
        passed.push(cost_of_probes(&tree, &unwatched, 0)?);
    }
    let (empty, captured, passed) = (median(empty), median(captured), median(passed));
    println!(
        "{{\"payload\":{PAYLOAD},\"empty_ns\":{empty:.0},\"captured_ns\":{captured:.0},\"unwatched_ns\":{passed:.0},\
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

/// Nanoseconds per run of the two packet programs together, with the socket's cgroup watched or not.
fn cost_of_probes(tree: &Tree, cgroup: &Path, at_least: u64) -> Result<f64> {
    let config = CaptureConfig { scope_cgroup: Some(tree.root().to_owned()), ..CaptureConfig::default() };
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
    Ok(packet().map(|p| p.time.as_nanos() as f64).sum::<f64>() / runs as f64)
}

/// Round trips between two sockets of one cgroup; `now_and_then` runs between them.
fn traffic(cgroup: &Path, now_and_then: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    let enter = |dir: &Path| fs::write(dir.join("cgroup.procs"), std::process::id().to_string());
    enter(cgroup).with_context(|| format!("cannot enter {}", cgroup.display()))?;
    let pair = (|| -> Result<_> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        Ok((client, listener.accept()?.0))
    })();
    enter(&mount()?)?;
    let (mut client, mut server) = pair?;
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
