//! The live source: kernel probes, their rings, and what makes events of their records.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use aya::programs::ProgramInfo;
use monitor_common::maps::{
    BUDGET_FULL, BUDGET_SILENT, Control, FLOW_UNTRACKED, FlowState, IGNORED, LossReason, LostCounters, MAX_SHARDS,
    TELL_READS, WATCHED, names,
};
use monitor_core::model::{CgroupId, Event, LossStage, SocketCookie};

mod btf;
mod clock;
mod convert;
mod handle;
mod load;
mod object;
mod parked;
mod ring;
mod rounds;
mod secrets;
mod skipped;
mod unix;
mod wire;

pub use btf::{Btf, PATH as BTF_PATH};
pub use load::{HOOKS, Hook, Probes, SENDER_THREAD, SENDER_THREAD_LOST};
pub use object::is_real;
pub use secrets::{Attached, SecretMaps, SecretProbes};

use super::cgroups::{self, Hierarchy, Known, WatchPolicy, path_of_process};
use super::{Budget, CaptureError, HookStatus, LossCount, ProgramStats, Progress, Source, SourceStats, TableFill};
use crate::tls::Order;
use clock::Clock;
use convert::{Converter, Kernel};
use handle::ByHandle;
use ring::{Ring, Waiter};
use skipped::SkippedLog;

/// How often loss counters are read and a tick is sent.
const HOUSEKEEPING: u64 = 1_000_000_000;
/// How long after the last record the source counts as idle.
const ACTIVE: u64 = 20_000_000;
/// While traffic flows, rings are read this often: bounds the delay, and batches the work.
const BATCH: Duration = Duration::from_millis(4);
/// Records younger than this wait until every ring has been looked at again, ns. A record is stamped before it is
/// reserved; this is far longer than lies between the two.
const YOUNG: u64 = 50_000;
/// How often stale connections are looked for.
const SWEEP: u64 = 60_000_000_000;
/// A connection whose close is not told is forgotten after so long without a segment, ns...
const STALE: u64 = 3_600_000_000_000;
/// ...and after so long when the table is nearly full.
const STALE_WHEN_FULL: u64 = 60_000_000_000;

/// What to capture, and how much memory it may take.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// Most sockets captured at a time. A socket takes about 128 bytes of kernel memory while it lives.
    pub flows: u32,
    /// Most cgroups known at a time; about 96 bytes of kernel memory each.
    pub cgroups: u32,
    /// Bytes of each ring; rounded up to a power of two and a page.
    pub ring_bytes: u32,
    /// Rings; default: one, which keeps cause before effect whatever the clocks say.
    pub shards: Option<u32>,
    /// Only sockets of this cgroup and those below: a directory, or a path below the root of the hierarchy.
    pub scope_cgroup: Option<PathBuf>,
    /// Tell which thread sends and which reads, where the kernel can. Costs a little time per segment, and per read of
    /// any socket on this host.
    pub threads: bool,
    /// Count why packets are not captured, and log it now and then. When off, it costs nothing.
    pub explain: bool,
    /// The agent's own listeners: connections with them are not captured.
    pub own_listeners: Vec<SocketAddr>,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self {
            flows: 100_000,
            cgroups: 16_384,
            ring_bytes: 16 << 20,
            shards: None,
            scope_cgroup: None,
            threads: true,
            explain: false,
            own_listeners: Vec::new(),
        }
    }
}

/// Whose handshakes' secrets are told, and who looks for what tells them.
struct Secrets {
    cgroups: HashMap<MapData, u64, u32>,
    counters: PerCpuArray<MapData, monitor_common::secrets::Counters>,
    orders: SyncSender<Order>,
    /// Orders that found no room; each cgroup's are few.
    waiting: VecDeque<Order>,
}

impl Secrets {
    fn order(&mut self, order: Order) {
        self.waiting.push_back(order);
        self.hand_over();
    }

    /// A cgroup is looked at soon enough anyway: that it should be at once is not kept.
    fn look(&mut self, id: CgroupId) {
        self.hand_over();
        if self.waiting.is_empty() {
            let _ = self.orders.try_send(Order::Look(id));
        }
    }

    fn hand_over(&mut self) {
        while let Some(order) = self.waiting.pop_front() {
            if let Err(TrySendError::Full(order)) = self.orders.try_send(order) {
                self.waiting.push_front(order);
                return;
            }
        }
    }
}

/// Events from the kernel this runs on.
pub struct LiveSource {
    rings: Vec<Ring>,
    waiter: Waiter,
    convert: Converter,
    control: Array<MapData, Control>,
    lost: PerCpuArray<MapData, LostCounters>,
    /// How often probes of Unix sockets had been passed over when last asked.
    passed_over: u64,
    /// Loss last seen, by shard and reason.
    seen: [[u64; LossReason::COUNT]; MAX_SHARDS as usize],
    hooks: Vec<HookStatus>,
    warnings: Vec<String>,
    /// Why packets are not captured, if somebody wants to know.
    skipped: Option<SkippedLog>,
    root: PathBuf,
    limits: CaptureConfig,
    /// A ring was more than half full at the last batch.
    pressed: bool,
    last_record: u64,
    last_housekeeping: u64,
    last_sweep: u64,
    last_removed: u64,
    /// Where TLS is read.
    secrets: Option<Secrets>,
    /// Holds the programs; dropping it detaches them.
    probes: Probes,
}

impl LiveSource {
    /// Loads and attaches the probes; `policy` says which cgroups are watched.
    ///
    /// # Errors
    ///
    /// No probes in this binary, no cgroup v2, or a kernel that refuses `cgroup_skb`.
    pub fn open(config: CaptureConfig, policy: WatchPolicy) -> Result<Self, CaptureError> {
        let mut hierarchy = Hierarchy::find()?;
        if let Some(scope) = &config.scope_cgroup {
            hierarchy = hierarchy.narrowed(scope)?;
        }
        let (dir, whole) = (hierarchy.dir(), hierarchy.is_whole());
        let mut probes = Probes::load(&config)?;
        let rings = probes.rings()?;
        let waiter = Waiter::new(&rings).map_err(|source| CaptureError::System { what: "epoll", source })?;
        let control = take(&mut probes, names::CONTROL, array)?;
        let lost = take(&mut probes, names::LOST, |m| PerCpuArray::try_from(m).ok())?;
        let skipped = take(&mut probes, names::SKIPPED, |m| PerCpuArray::try_from(m).ok())?;
        let flows = take(&mut probes, names::FLOWS, |m| HashMap::try_from(m).ok())?;
        let decisions = take(&mut probes, names::CGROUPS, |m| HashMap::try_from(m).ok())?;
        let decision_cache = take(&mut probes, names::CGROUP_CACHE, array)?;
        let flow_cache = take(&mut probes, names::FLOW_CACHE, array)?;
        let own = std::fs::read_to_string("/proc/self/cgroup")
            .ok()
            .and_then(|text| path_of_process(&text).map(str::to_owned))
            .filter(|path| path != "/")
            .and_then(|path| hierarchy.id(&path));
        let by_handle = ByHandle::new(hierarchy.mount()).ok();
        let known = Known::new(hierarchy, policy, own, usize::try_from(config.cgroups).unwrap_or(usize::MAX));
        let unix_read = take(&mut probes, names::UNIX_READ, |m| HashMap::try_from(m).ok())?;
        let kernel = Kernel { flows, unix_read, decisions, decision_cache, flow_cache, by_handle };
        let mut convert = Converter::new(Clock::new(), known, kernel, config.own_listeners.clone());

        // Containers that come from now on are reported; those that are there already are walked; only then data.
        let mut hooks = probes.attach_all(&dir, Hook::brings_knowledge)?;
        convert.walk(&mut |_| ());
        let threads = config.threads;
        hooks.extend(probes.attach_all(&dir, |h| !h.brings_knowledge() && (threads || !h.tells_threads()))?);
        if threads {
            let problem = probes.sender_problem().map(str::to_owned);
            hooks.push(HookStatus { hook: SENDER_THREAD, attached: problem.is_none(), problem });
        }
        let mut warnings: Vec<String> = hooks
            .iter()
            .filter_map(|h| h.problem.as_ref().map(|p| (h.hook, p)))
            .map(|(name, problem)| {
                let lost = HOOKS.iter().find(|h| h.name == name).map_or(SENDER_THREAD_LOST, |h| h.lost);
                format!("hook {name} is not attached: {lost} ({problem})")
            })
            .collect();
        if !whole {
            warnings.push(format!("{}: {}; {}", dir.display(), cgroups::PART, cgroups::PART_REMEDY));
        }
        let now = Clock::monotonic();
        Ok(Self {
            rings,
            waiter,
            convert,
            control,
            lost,
            passed_over: 0,
            seen: Default::default(),
            hooks,
            warnings,
            skipped: config.explain.then(|| SkippedLog::new(skipped)),
            root: dir,
            limits: config,
            pressed: false,
            last_record: 0,
            last_housekeeping: now,
            last_sweep: now,
            last_removed: now,
            secrets: None,
            probes,
        })
    }

    /// Reads the ring of handshakes' secrets from now on, too; whoever attaches the probes takes `orders`.
    ///
    /// # Errors
    /// The ring cannot be waited for.
    pub fn read_secrets(&mut self, maps: SecretMaps, orders: SyncSender<Order>) -> Result<(), CaptureError> {
        let SecretMaps { ring, cgroups, counters } = maps;
        self.rings.push(ring);
        self.waiter = Waiter::new(&self.rings).map_err(|source| CaptureError::System { what: "epoll", source })?;
        self.secrets = Some(Secrets { cgroups, counters, orders, waiting: VecDeque::new() });
        Ok(())
    }

    /// Whether TLS of the processes in a cgroup is read, from now on.
    pub fn set_tls(&mut self, id: CgroupId, on: bool) {
        let Some(secrets) = &mut self.secrets else { return };
        if self.convert.read_tls(id, on).is_none() {
            return;
        }
        if on {
            let Some(dir) = self.convert.dir_of(id) else { return };
            // A table that is full leaves the cgroup's secrets unread: its connections are opaque.
            let _ = secrets.cgroups.insert(id.0, 1, 0);
            secrets.order(Order::Watch(id, dir));
        } else {
            let _ = secrets.cgroups.remove(&id.0);
            secrets.order(Order::Forget(id));
        }
    }

    /// Calls of probed functions by processes whose TLS is read, by what came of them; empty where none is.
    pub fn secrets(&self) -> Vec<(&'static str, u64)> {
        self.secrets.as_ref().map(|s| secrets::counts(&s.counters).to_vec()).unwrap_or_default()
    }

    /// The directory at which the probes are attached: what lives below it is seen.
    pub fn root(&self) -> &std::path::Path {
        &self.root
    }

    /// Packets that were not captured though nothing went wrong, by why, and the cgroup of the last of each; empty unless
    /// [`CaptureConfig::explain`] is on.
    pub fn skipped(&self) -> Vec<(&'static str, u64, CgroupId)> {
        self.skipped.as_ref().map(SkippedLog::totals).unwrap_or_default()
    }

    /// Hands over what is in the rings now, by time. `true`: there was something.
    fn drain(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> bool {
        // The rings are looked at one after the other, so that a later one may hold what came after the end of an
        // earlier one. What is that young waits for the next batch: between rings, too, cause comes before effect.
        let until = if self.rings.len() > 1 { Clock::monotonic().saturating_sub(YOUNG) } else { u64::MAX };
        let mut pressed = false;
        for ring in &mut self.rings {
            ring.begin();
            pressed |= ring.backlog() > ring.size() / 2;
        }
        if pressed || self.pressed {
            // A ring was nearly full, now or in the batch before: what was lost up to here is said before what came
            // after it, so that nobody concludes anything from what is missing.
            self.report_loss(sink);
        }
        self.pressed = pressed;
        let mut any = false;
        // At most four: looking at each head is as fast as anything clever.
        let mut heads: Vec<Option<u64>> = self.rings.iter_mut().map(head).collect();
        while let Some((i, at)) =
            heads.iter().enumerate().filter_map(|(i, h)| Some((i, (*h)?))).min_by_key(|(_, at)| *at)
        {
            if at > until {
                break;
            }
            let (Some(ring), Some(slot)) = (self.rings.get_mut(i), heads.get_mut(i)) else { break };
            if let Some(record) = ring.peek() {
                let len = record.len();
                self.convert.record(record, sink);
                ring.skip(len);
            }
            *slot = head(ring);
            any = true;
        }
        for ring in &mut self.rings {
            ring.give_back();
        }
        if any {
            self.last_record = Clock::monotonic();
        }
        any
    }

    fn set_want_wakeup(&mut self, on: bool) -> Result<(), CaptureError> {
        self.control
            .set(0, Control { want_wakeup: u32::from(on) }, 0)
            .map_err(|e| CaptureError::Map { map: names::CONTROL, problem: e.to_string() })
    }

    /// Sleeps until it is worth while to look again.
    fn wait(&mut self, timeout: Duration) -> Result<(), CaptureError> {
        let system = |source: io::Error| CaptureError::System { what: "epoll_wait", source };
        if self.rings.iter().any(|r| r.backlog() > r.size() / 4) {
            return Ok(());
        }
        let now = Clock::monotonic();
        if now.saturating_sub(self.last_record) < ACTIVE {
            return self.waiter.wait(BATCH.min(timeout)).map_err(system);
        }
        self.set_want_wakeup(true)?;
        // What came before the switch was seen has woken nobody.
        if self.rings.iter().all(|r| r.backlog() == 0) {
            let tick = Duration::from_nanos((self.last_housekeeping + HOUSEKEEPING).saturating_sub(now));
            self.waiter.wait(timeout.min(tick.max(Duration::from_millis(1)))).map_err(system)?;
        }
        self.set_want_wakeup(false)
    }

    fn counters(&self) -> [[u64; LossReason::COUNT]; MAX_SHARDS as usize] {
        let mut sum = [[0u64; LossReason::COUNT]; MAX_SHARDS as usize];
        for (shard, sums) in (0u32..).zip(sum.iter_mut()) {
            let Ok(cpus) = self.lost.get(&shard, 0) else { continue };
            for cpu in cpus.iter() {
                for (total, n) in sums.iter_mut().zip(cpu.by_reason) {
                    *total = total.wrapping_add(n);
                }
            }
        }
        sum
    }

    fn report_loss(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let now = self.counters();
        let at = self.convert.now();
        let mut lost_closes = false;
        for (i, (reason, name)) in LossReason::ALL.iter().enumerate() {
            let count: u64 = now
                .iter()
                .zip(&self.seen)
                .map(|(a, b)| a.get(i).copied().unwrap_or(0).wrapping_sub(b.get(i).copied().unwrap_or(0)))
                .sum();
            if count == 0 || *reason == LossReason::CGROUPS_FULL {
                continue;
            }
            lost_closes |= *reason == LossReason::RING_CLOSE;
            if *reason == LossReason::RING_CGROUP {
                self.convert.look_for_removed();
            }
            sink(Event::Lost { at, stage: LossStage::Kernel, reason: name, count, of: None });
        }
        self.seen = now;
        let passed_over = self.probes.passed_over();
        if passed_over > self.passed_over {
            // A read that was not seen: what comes next on that socket does not follow on what came before, and nobody knows
            // on which.
            let count = passed_over - std::mem::replace(&mut self.passed_over, passed_over);
            self.convert.begin_unix_anew(sink);
            sink(Event::Lost { at, stage: LossStage::Kernel, reason: "probe_passed_over", count, of: None });
        }
        if lost_closes {
            self.convert.closes_were_lost();
        }
        for (reason, count, of) in self.convert.take_lost() {
            sink(Event::Lost { at, stage: LossStage::Agent, reason, count, of });
        }
    }

    fn housekeeping(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let now = Clock::monotonic();
        if now.saturating_sub(self.last_housekeeping) < HOUSEKEEPING {
            return;
        }
        self.last_housekeeping = now;
        self.convert.settle();
        self.convert.sweep_parked();
        self.report_loss(sink);
        if let Some(skipped) = &mut self.skipped {
            skipped.tell(now, &self.convert);
        }
        self.convert.close_what_is_gone(sink);
        if now.saturating_sub(self.last_removed) >= SWEEP {
            self.last_removed = now;
            self.convert.look_for_removed();
        }
        self.convert.forget_removed(sink);
        let full = self.convert.open_flows() >= usize::try_from(self.limits.flows / 4 * 3).unwrap_or(usize::MAX);
        if now.saturating_sub(self.last_sweep) >= if full { HOUSEKEEPING * 5 } else { SWEEP } {
            self.last_sweep = now;
            self.convert.sweep_stale(now, if full { STALE_WHEN_FULL } else { STALE }, sink);
        }
        sink(Event::Tick { at: self.convert.now() });
    }
}

fn array<V: aya::Pod>(map: Map) -> Option<Array<MapData, V>> {
    Array::try_from(map).ok()
}

fn head(ring: &mut Ring) -> Option<u64> {
    ring.peek().map(wire::time)
}

fn take<T>(probes: &mut Probes, name: &'static str, make: impl FnOnce(Map) -> Option<T>) -> Result<T, CaptureError> {
    probes
        .ebpf
        .take_map(name)
        .and_then(make)
        .ok_or(CaptureError::Map { map: name, problem: "not in the object, or of another kind".to_owned() })
}

impl Source for LiveSource {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<Progress, CaptureError> {
        self.convert.pending(sink);
        self.wait(timeout)?;
        let any = self.drain(sink);
        if let Some(secrets) = &mut self.secrets {
            for id in self.convert.take_opened() {
                secrets.look(id);
            }
            secrets.hand_over();
        }
        self.housekeeping(sink);
        if timeout.is_zero() {
            // Whoever does not wait is draining at the end: nothing may stay unsaid.
            self.report_loss(sink);
        }
        Ok(if any { Progress::Busy } else { Progress::Idle })
    }

    fn set_budget(&mut self, cookie: SocketCookie, tx: Budget, rx: Budget, reads: bool) {
        let told = if reads { TELL_READS } else { 0 };
        self.convert.set_budget(cookie.0, [encode(tx) | told, encode(rx)]);
    }

    fn forget(&mut self, cookie: SocketCookie) {
        self.convert.forget_flow(cookie.0);
    }

    fn stats(&mut self) -> SourceStats {
        let mut stats = SourceStats {
            segments: self.convert.segments,
            bytes: self.convert.bytes,
            hooks: self.hooks.clone(),
            ..SourceStats::default()
        };
        for (shard, by_reason) in (0u32..).zip(self.counters()) {
            for ((_, reason), count) in LossReason::ALL.into_iter().zip(by_reason) {
                if count != 0 {
                    stats.lost.push(LossCount { stage: LossStage::Kernel, reason, shard: Some(shard), count });
                }
            }
        }
        for (reason, count) in self.convert.lost_in_total() {
            if count != 0 {
                stats.lost.push(LossCount { stage: LossStage::Agent, reason, shard: None, count });
            }
        }
        for hook in &HOOKS {
            let info = self.probes.ebpf.program(hook.program).and_then(|p| p.info().ok());
            if let Some(info) = info.filter(|i: &ProgramInfo| i.run_count() > 0) {
                stats.programs.push(ProgramStats { program: hook.name, runs: info.run_count(), time: info.run_time() });
            }
        }
        let fill = |table, entries: usize, limit: u32| TableFill {
            table,
            entries: u64::try_from(entries).unwrap_or(u64::MAX),
            limit: u64::from(limit),
        };
        stats.tables = vec![
            fill("kernel_flows", self.convert.open_flows(), self.limits.flows),
            fill("kernel_cgroups", self.convert.known_cgroups(), self.limits.cgroups),
            fill("parked_handshakes", self.convert.parked(), u32::try_from(parked::Lot::limit()).unwrap_or(u32::MAX)),
        ];
        stats
    }

    fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }
}

/// As the probes want it: one more than the bytes to copy.
fn encode(budget: Budget) -> u32 {
    match budget {
        Budget::Silent => BUDGET_SILENT,
        Budget::Head(n) => n.saturating_add(1).min(BUDGET_FULL),
        Budget::Full => BUDGET_FULL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_told_apart() {
        assert_eq!(encode(Budget::Silent), 0);
        assert_eq!(encode(Budget::Head(0)), 1);
        assert_eq!(encode(Budget::Head(100)), 101);
        assert_eq!(encode(Budget::Full), BUDGET_FULL);
        assert_eq!(encode(Budget::Head(u32::MAX)), BUDGET_FULL);
        assert_eq!(BUDGET_FULL & TELL_READS, 0);
    }
}
