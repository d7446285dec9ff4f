//! Jobs whose confirmation may come on another of the worker's connections: by a handle, or, where they were read from a
//! log, by telling how far the reader has come.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::open_jobs::OpenJob;
use crate::attribute::forwarded::Relay;
use crate::model::queue::Position;
use crate::model::steps::{step, walk};
use crate::model::{ConnId, Fingerprint, WorkloadId};

/// Most deliveries that are followed.
const MAX_JOBS: usize = 65_536;
/// Most of them of one log and reader, so that one that never confirms leaves room for the others.
const MAX_OF_LOG: usize = 4_096;

/// How the confirmation of a delivery names it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Name {
    /// By a handle.
    Handle(u64),
    /// By a position in a log, beyond which its reader has come.
    Position(Position),
}

/// A delivery that is not confirmed.
#[derive(Clone, Copy, Debug)]
struct Delivered {
    conn: ConnId,
    job: OpenJob,
}

/// Where a delivery stands: its worker, its log or handle, its offset there, and a number that makes it unique.
type Key = (Relay, Fingerprint, i64, u64);

/// What was delivered and is not confirmed, by worker and log or handle.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    open: BTreeMap<Key, Delivered>,
    /// How many of each log or handle.
    n_of: FxHashMap<(Relay, Fingerprint), usize>,
    by_conn: BTreeSet<(ConnId, Key)>,
    latest: u64,
}

impl Elsewhere {
    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// `worker` was given a message. False: there is no room to follow it.
    pub(super) fn delivered(&mut self, worker: Relay, name: Name, conn: ConnId, job: OpenJob) -> bool {
        let (name, offset) = match name {
            Name::Handle(handle) => (Fingerprint(handle), 0),
            Name::Position(position) => (position.log, position.offset),
        };
        if self.open.len() >= MAX_JOBS {
            return false;
        }
        let n = self.n_of.entry((worker, name)).or_default();
        if *n >= MAX_OF_LOG {
            return false;
        }
        *n += 1;
        self.latest += 1;
        let key = (worker, name, offset, self.latest);
        self.open.insert(key, Delivered { conn, job });
        self.by_conn.insert((conn, key));
        true
    }

    fn remove(&mut self, key: Key) -> Option<Delivered> {
        let found = self.open.remove(&key)?;
        self.by_conn.remove(&(found.conn, key));
        if let Entry::Occupied(mut n) = self.n_of.entry((key.0, key.1)) {
            *n.get_mut() -= 1;
            if *n.get() == 0 {
                n.remove();
            }
        }
        Some(found)
    }

    /// `worker` has confirmed the delivery with this handle: the earliest, if it was given several.
    pub(super) fn settled(&mut self, worker: Relay, handle: u64) -> Option<(ConnId, OpenJob)> {
        let name = Fingerprint(handle);
        let all = (worker, name, i64::MIN, 0)..=(worker, name, i64::MAX, u64::MAX);
        let (&key, _) = self.open.range(all).next()?;
        self.remove(key).map(|d| (d.conn, d.job))
    }

    /// `reader` has confirmed all that is below `to`: the jobs, in the log's order, and the connections they came on.
    pub(super) fn passed(&mut self, reader: Relay, to: Position) -> Vec<(ConnId, OpenJob)> {
        let below = (reader, to.log, i64::MIN, 0)..(reader, to.log, to.offset, 0);
        let keys: Vec<Key> = self.open.range(below).map(|(key, _)| *key).collect();
        walk(keys).filter_map(|key| self.remove(key)).map(|d| (d.conn, d.job)).collect()
    }

    /// What came on `conn` and is not confirmed is not followed any more.
    pub(super) fn lost(&mut self, conn: ConnId) -> Vec<(Relay, OpenJob)> {
        let mut lost = Vec::new();
        while let Some(&(of, key)) = self.by_conn.range((conn, FIRST)..).next()
            && of == conn
        {
            step();
            lost.extend(self.remove(key).map(|d| (key.0, d.job)));
        }
        lost
    }
}

/// Before every other.
const FIRST: Key = (Relay::Workload(WorkloadId(0)), Fingerprint(0), i64::MIN, 0);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Nanos;
    use crate::model::steps::tests::assert_flat;

    const READER: Relay = Relay::Workload(WorkloadId(1));
    const OTHER: Relay = Relay::Workload(WorkloadId(2));

    fn to(offset: i64) -> Position {
        Position { log: Fingerprint(7), offset }
    }

    fn at(offset: i64) -> Name {
        Name::Position(to(offset))
    }

    fn job(no: u64) -> OpenJob {
        OpenJob { no, at: Nanos(no), message: None }
    }

    fn nos(jobs: Vec<(ConnId, OpenJob)>) -> Vec<(u32, u64)> {
        jobs.into_iter().map(|(conn, job)| (conn.0, job.no)).collect()
    }

    #[test]
    fn a_position_confirms_what_is_below_it_for_its_reader_alone() {
        let mut logs = Elsewhere::default();
        for (offset, conn) in [(5, 2), (4, 1), (6, 2)] {
            assert!(logs.delivered(READER, at(offset), ConnId(conn), job(offset.cast_unsigned())));
        }
        assert!(logs.delivered(OTHER, at(4), ConnId(3), job(40)));
        let another = Name::Position(Position { log: Fingerprint(8), offset: 4 });
        assert!(logs.delivered(READER, another, ConnId(1), job(41)));
        assert_eq!(nos(logs.passed(READER, to(6))), [(1, 4), (2, 5)]);
        assert!(nos(logs.passed(READER, to(6))).is_empty());
        assert_eq!(logs.lost(ConnId(2)).len(), 1);
        assert_eq!(nos(logs.passed(OTHER, to(9))), [(3, 40)]);
        assert_eq!(logs.open.len(), 1);
    }

    #[test]
    fn what_is_held_has_bounds() {
        let mut logs = Elsewhere::default();
        let mut room = 0;
        for log in 0..20 {
            for offset in 0..5_000 {
                let position = Name::Position(Position { log: Fingerprint(log), offset });
                room += usize::from(logs.delivered(READER, position, ConnId(1), job(0)));
            }
            assert!(logs.n_of.values().all(|n| *n <= MAX_OF_LOG));
        }
        assert_eq!((room, logs.open.len()), (MAX_JOBS, MAX_JOBS));
        assert!(!logs.delivered(OTHER, at(0), ConnId(1), job(0)));
        assert_eq!(logs.passed(READER, to(i64::MAX)).len(), MAX_OF_LOG);
        assert!(logs.delivered(OTHER, at(0), ConnId(1), job(0)));
    }

    #[test]
    fn a_handle_confirms_the_earliest_of_its_worker() {
        let mut jobs = Elsewhere::default();
        for (handle, conn) in [(3, 1), (3, 2), (4, 2)] {
            assert!(jobs.delivered(READER, Name::Handle(handle), ConnId(conn), job(handle)));
        }
        assert!(jobs.settled(OTHER, 3).is_none() && jobs.settled(READER, 1).is_none());
        assert_eq!(jobs.settled(READER, 3).map(|(conn, _)| conn), Some(ConnId(1)));
        assert_eq!(jobs.settled(READER, 3).map(|(conn, _)| conn), Some(ConnId(2)));
        assert!(jobs.settled(READER, 3).is_none());
        assert_eq!((jobs.lost(ConnId(2)).len(), jobs.open.len()), (1, 0));
        assert!(jobs.n_of.is_empty() && jobs.by_conn.is_empty());
    }
    #[test]
    fn neither_a_position_nor_a_lost_connection_walks_over_other_jobs() {
        assert_flat("jobs elsewhere", 500, |n| {
            let mut jobs = Elsewhere::default();
            for i in 0..n {
                let conn = ConnId(u32::try_from(i).unwrap());
                assert!(jobs.delivered(READER, at(i.cast_signed()), conn, job(i)));
                assert!(jobs.delivered(OTHER, Name::Handle(i), conn, job(i)));
            }
            for i in 0..n {
                assert_eq!(jobs.passed(READER, to(i.cast_signed() + 1)).len(), 1);
                assert_eq!(jobs.lost(ConnId(u32::try_from(i).unwrap())).len(), 1);
            }
        });
    }
}
