//! Jobs whose confirmation may come on another of the worker's connections: by a handle, or, where they were read from a
//! log, by telling how far the reader has come.

use rustc_hash::FxHashMap;

use super::jobs::OpenJob;
use crate::attribute::forwarded::Relay;
use crate::model::queue::{Confirmed, Position};
use crate::model::{ConnId, Fingerprint};

/// Most deliveries that are followed.
const MAX_JOBS: usize = 65_536;
/// Most of them of one log and reader, so that one that never confirms leaves room for the others.
const MAX_OF_LOG: usize = 4_096;

/// A delivery that is not confirmed.
#[derive(Clone, Copy, Debug)]
struct Delivered {
    offset: i64,
    conn: ConnId,
    job: OpenJob,
}

/// What was delivered and is not confirmed, by worker and log or handle.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    open: FxHashMap<(Relay, Fingerprint), Vec<Delivered>>,
    n: usize,
}

impl Elsewhere {
    /// `worker` was given a message. Whether it is followed here; `Err`: no room.
    pub(super) fn delivered(&mut self, worker: Relay, how: Confirmed, conn: ConnId, job: OpenJob) -> Result<bool, ()> {
        let (name, offset) = match how {
            Confirmed::Here => return Ok(false),
            Confirmed::Anywhere => (Fingerprint(job.handle), 0),
            Confirmed::Past(position) => (position.log, position.offset),
        };
        if self.n >= MAX_JOBS {
            return Err(());
        }
        let waiting = self.open.entry((worker, name)).or_default();
        if waiting.len() >= MAX_OF_LOG {
            return Err(());
        }
        waiting.push(Delivered { offset, conn, job });
        self.n += 1;
        Ok(true)
    }

    /// `worker` has confirmed the delivery with this handle: the earliest, if it was given several.
    pub(super) fn settled(&mut self, worker: Relay, handle: u64) -> Option<(ConnId, OpenJob)> {
        let key = (worker, Fingerprint(handle));
        let waiting = self.open.get_mut(&key).filter(|w| !w.is_empty())?;
        let first = waiting.remove(0);
        if waiting.is_empty() {
            self.open.remove(&key);
        }
        self.n = self.n.saturating_sub(1);
        Some((first.conn, first.job))
    }

    /// `reader` has confirmed all that is below `to`: the jobs, in the log's order, and the connections they came on.
    pub(super) fn passed(&mut self, reader: Relay, to: Position) -> Vec<(ConnId, OpenJob)> {
        let Some(waiting) = self.open.get_mut(&(reader, to.log)) else { return Vec::new() };
        let (mut over, rest): (Vec<_>, Vec<_>) = waiting.drain(..).partition(|d| d.offset < to.offset);
        if rest.is_empty() {
            self.open.remove(&(reader, to.log));
        } else {
            *waiting = rest;
        }
        self.n = self.n.saturating_sub(over.len());
        over.sort_by_key(|d| d.offset);
        over.into_iter().map(|d| (d.conn, d.job)).collect()
    }

    /// What came on `conn` and is not confirmed is not followed any more.
    pub(super) fn lost(&mut self, conn: ConnId) -> Vec<(Relay, OpenJob)> {
        let mut lost = Vec::new();
        self.open.retain(|(reader, _), waiting| {
            waiting.retain(|d| {
                if d.conn == conn {
                    lost.push((*reader, d.job));
                }
                d.conn != conn
            });
            !waiting.is_empty()
        });
        self.n = self.n.saturating_sub(lost.len());
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Nanos, WorkloadId};

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
        assert_eq!(logs.n, 1);
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
            assert!(logs.open.values().all(|waiting| waiting.len() <= MAX_OF_LOG));
        }
        assert_eq!((room, logs.n), (MAX_JOBS, MAX_JOBS));
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
        assert_eq!((jobs.lost(ConnId(2)).len(), jobs.n), (1, 0));
    }
}
