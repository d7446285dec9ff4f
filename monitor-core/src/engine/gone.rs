//! Who is gone is forgotten: containers come and go for as long as the agent runs. Not at once: a restart of the same
//! container goes on as the same workload, and connections may outlive their cgroup.

use rustc_hash::FxHashSet;

use super::Engine;
use super::index::Party;
use crate::model::{Nanos, Owner, WorkloadId};

/// How long a workload is remembered that has no place any more.
const KEEP: Nanos = Nanos::secs(600);
/// Most of them; of more the longest gone are forgotten before that.
const MAX_GONE: usize = 4_096;
/// Most forgotten at a time: what else is kept of them is found by one look at all.
const AT_A_TIME: usize = 256;

impl Engine {
    /// A workload has lost its last place.
    pub(super) fn leaves(&mut self, at: Nanos, who: Option<WorkloadId>) {
        self.parts.gone.extend(who.map(|id| (at, id)));
    }

    /// Forgets who has been gone for long, unless a connection still needs to know.
    pub(super) fn forget_gone(&mut self, now: Nanos) {
        let mut forgotten = FxHashSet::default();
        for _ in 0..AT_A_TIME {
            let full = self.parts.gone.len() > MAX_GONE;
            let due = |(since, _): &mut (Nanos, WorkloadId)| full || now.since(*since) >= KEEP;
            let Some((_, id)) = self.parts.gone.pop_front_if(due) else { break };
            if self.table.has(Party::Workload(id)) {
                self.parts.gone.push_back((now, id));
                continue;
            }
            // Who has come back meanwhile stays.
            if let Some(workload) = self.parts.ctx.directory.forget(id) {
                self.parts.ctx.names.release(workload.name);
                self.parts.ctx.names.release(workload.cgroup);
                for name in workload.owner.into_iter().flat_map(Owner::names) {
                    self.parts.ctx.names.release(name);
                }
                forgotten.insert(id);
            }
        }
        if !forgotten.is_empty() {
            self.parts.forget_workloads(&forgotten);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Output, WorkloadFact};
    use crate::model::{CgroupId, Event, Finding, Role, Settings, SocketCookie};

    struct Nothing;

    impl Output for Nothing {
        fn finding(&mut self, _: &Finding, _: crate::detect::FindingEvent) {}
    }

    fn fact(n: u64) -> WorkloadFact {
        let tenants = vec![format!("tenant-{}", n % 7)];
        WorkloadFact {
            name: format!("pod-{n}"),
            cgroup: format!("/kubepods/pod-{n}"),
            tenants,
            role: None,
            owner: None,
        }
    }

    fn opened(at: Nanos, cookie: u64, cgroup: u64) -> Event<'static> {
        Event::Opened {
            at,
            cookie: SocketCookie(cookie),
            cgroup: Some(CgroupId(cgroup)),
            local: "10.0.0.1:4000".parse().unwrap(),
            peer: "10.0.0.2:6379".parse().unwrap(),
            role: Role::Client,
            tx_start: Some(1),
            rx_start: Some(1),
        }
    }

    /// One a second for five days: what is kept is bounded, whatever was there before is gone, and who has a connection
    /// stays known.
    #[test]
    fn containers_that_come_and_go_leave_nothing_behind() {
        let mut engine = Engine::new(Settings::default());
        let second = |n: u64| Nanos::secs(1 + n);
        engine.learn_cgroup(second(0), CgroupId(1), &fact(1));
        let first = engine.parts.ctx.directory.of_cgroup(CgroupId(1)).unwrap();
        engine.handle(&opened(second(0), 1, 1), &mut Nothing);
        engine.forget_cgroup(second(0), CgroupId(1));
        for n in 2..400_000 {
            engine.learn_cgroup(second(n), CgroupId(n), &fact(n));
            engine.forget_cgroup(second(n), CgroupId(n));
            engine.handle(&Event::Tick { at: second(n) }, &mut Nothing);
        }
        let (workloads, names) = (engine.parts.ctx.directory.len(), engine.parts.ctx.names.len());
        assert!(workloads < 1_000 && names < 2_100, "{workloads} workloads, {names} names");
        assert_eq!(engine.parts.ctx.names.n_overflowed(), 0);
        assert!(engine.parts.ctx.directory.get(first).is_some(), "its connection is still open");
        let closed =
            Event::Closed { at: second(400_000), cookie: SocketCookie(1), reason: crate::model::CloseReason::Closed };
        engine.handle(&closed, &mut Nothing);
        engine.handle(&Event::Tick { at: second(401_000) }, &mut Nothing);
        engine.handle(&Event::Tick { at: second(402_000) }, &mut Nothing);
        assert!(engine.parts.ctx.directory.get(first).is_none());
    }

    #[test]
    fn a_restart_goes_on_as_the_same_and_an_id_used_again_is_anothers() {
        let mut engine = Engine::new(Settings::default());
        let at = Nanos::secs(5);
        engine.learn_cgroup(at, CgroupId(1), &fact(1));
        let first = engine.parts.ctx.directory.of_cgroup(CgroupId(1));
        engine.forget_cgroup(at, CgroupId(1));
        engine.handle(&Event::Tick { at: Nanos::secs(60) }, &mut Nothing);
        engine.learn_cgroup(at, CgroupId(2), &fact(1));
        assert_eq!(engine.parts.ctx.directory.of_cgroup(CgroupId(2)), first);
        // The kernel gives the id of the first to another container.
        engine.learn_cgroup(at, CgroupId(1), &fact(2));
        assert_ne!(engine.parts.ctx.directory.of_cgroup(CgroupId(1)), first);
        engine.handle(&Event::Tick { at: Nanos::secs(1_000) }, &mut Nothing);
        engine.handle(&Event::Tick { at: Nanos::secs(1_002) }, &mut Nothing);
        assert_eq!(engine.parts.ctx.directory.len(), 2, "who came back is there");
    }

    #[test]
    fn many_at_once_are_forgotten_before_their_time() {
        let mut engine = Engine::new(Settings::default());
        for n in 0..20_000 {
            engine.learn_cgroup(Nanos::secs(1), CgroupId(n), &fact(n));
            engine.forget_cgroup(Nanos::secs(1), CgroupId(n));
        }
        for n in 0..200 {
            engine.handle(&Event::Tick { at: Nanos::secs(2 + n) }, &mut Nothing);
        }
        assert!(engine.parts.ctx.directory.len() <= MAX_GONE);
    }
}
