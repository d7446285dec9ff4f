//! Jobs whose confirmation may come on another of the worker's connections: by a handle, or, where they were read from a
//! log, by telling how far the reader has come.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::open_jobs::OpenJob;
use crate::attribute::forwarded::Relay;
use crate::model::queue::{Confirmed, Position};
use crate::model::steps::{step, walk};
use crate::model::{ConnId, Fingerprint, WorkloadId};

/// Most deliveries that are followed.
const MAX_JOBS: usize = 65_536;
/// Most of them of one log and reader, so that one that never confirms leaves room for the others.
const MAX_OF_LOG: usize = 4_096;

/// A delivery that is not confirmed.
#[derive(Clone, Copy, Debug)]
struct Delivered {
    conn: ConnId,
    job: OpenJob,
}

/// Where a delivery stands: its worker, its log or handle, its place there, and a number that makes it unique.
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

    /// `worker` was given a message. Whether it is followed here; `Err`: no room.
    pub(super) fn delivered(&mut self, worker: Relay, how: Confirmed, conn: ConnId, job: OpenJob) -> Result<bool, ()> {
        let (name, offset) = match how {
            Confirmed::Here => return Ok(false),
            Confirmed::Anywhere => (Fingerprint(job.handle), 0),
            Confirmed::Past(position) => (position.log, position.offset),
        };
        if self.open.len() >= MAX_JOBS {
            return Err(());
        }
        let n = self.n_of.entry((worker, name)).or_default();
        if *n >= MAX_OF_LOG {
            return Err(());
        }
        *n += 1;
        self.latest += 1;
        let key = (worker, name, offset, self.latest);
        self.open.insert(key, Delivered { conn, job });
        self.by_conn.insert((conn, key));
        Ok(true)
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

    fn at(offset: i64) -> Confirmed {
        Confirmed::Past(to(offset))
    }

    fn job(no: u64) -> OpenJob {
        OpenJob { handle: no, no, at: Nanos(no), message: None }
    }

    fn nos(jobs: Vec<(ConnId, OpenJob)>) -> Vec<(u32, u64)> {
        jobs.into_iter().map(|(conn, job)| (conn.0, job.no)).collect()
    }

    #[test]
    fn a_position_confirms_what_is_below_it_for_its_reader_alone() {
        let mut logs = Elsewhere::default();
        for (offset, conn) in [(5, 2), (4, 1), (6, 2)] {
            assert_eq!(logs.delivered(READER, at(offset), ConnId(conn), job(offset.cast_unsigned())), Ok(true));
        }
        logs.delivered(OTHER, at(4), ConnId(3), job(40)).unwrap();
        let another = Confirmed::Past(Position { log: Fingerprint(8), offset: 4 });
        logs.delivered(READER, another, ConnId(1), job(41)).unwrap();
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
                let position = Confirmed::Past(Position { log: Fingerprint(log), offset });
                room += usize::from(logs.delivered(READER, position, ConnId(1), job(0)).is_ok());
            }
            assert!(logs.n_of.values().all(|n| *n <= MAX_OF_LOG));
        }
        assert_eq!((room, logs.open.len()), (MAX_JOBS, MAX_JOBS));
        assert!(logs.delivered(OTHER, at(0), ConnId(1), job(0)).is_err());
        assert_eq!(logs.passed(READER, to(i64::MAX)).len(), MAX_OF_LOG);
        assert!(logs.delivered(OTHER, at(0), ConnId(1), job(0)).is_ok());
    }

    #[test]
    fn a_handle_confirms_the_earliest_of_its_worker() {
        let mut jobs = Elsewhere::default();
        assert_eq!(jobs.delivered(READER, Confirmed::Here, ConnId(1), job(1)), Ok(false));
        for (no, conn) in [(3, 1), (3, 2), (4, 2)] {
            jobs.delivered(READER, Confirmed::Anywhere, ConnId(conn), job(no)).unwrap();
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
                jobs.delivered(READER, at(i.cast_signed()), conn, job(i)).unwrap();
                jobs.delivered(OTHER, Confirmed::Anywhere, conn, job(i)).unwrap();
            }
            for i in 0..n {
                assert_eq!(jobs.passed(READER, to(i.cast_signed() + 1)).len(), 1);
                assert_eq!(jobs.lost(ConnId(u32::try_from(i).unwrap())).len(), 1);
            }
        });
    }
}
