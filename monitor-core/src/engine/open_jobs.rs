//! Deliveries of one connection that are not settled.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Nanos;

/// A delivery that is not settled.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenJob {
    /// Its number on the connection.
    pub(super) no: u64,
    pub(super) at: Nanos,
    pub(super) message: Option<u64>,
}

/// All of them, by number and by handle. The caller bounds how many.
#[derive(Debug, Default)]
pub(super) struct OpenJobs {
    jobs: BTreeMap<u64, OpenJob>,
    by_handle: BTreeSet<(u64, u64)>,
}

impl OpenJobs {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Bytes held, about: trees are filled by two thirds.
    pub(super) fn memory(&self) -> usize {
        self.jobs.len() * (size_of::<(u64, OpenJob)>() + size_of::<(u64, u64)>()) * 3 / 2
    }

    /// One more, whose confirmation will have this handle.
    pub(super) fn push(&mut self, handle: u64, job: OpenJob) {
        self.jobs.insert(job.no, job);
        self.by_handle.insert((handle, job.no));
    }

    /// Takes the one with this handle: the earliest, if there are several.
    pub(super) fn take(&mut self, handle: u64) -> Option<OpenJob> {
        let key = *self.by_handle.range((handle, 0)..=(handle, u64::MAX)).next()?;
        self.by_handle.remove(&key);
        self.jobs.remove(&key.1)
    }

    /// Takes all of them, in the order of their delivery.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = OpenJob> + use<> {
        self.by_handle.clear();
        std::mem::take(&mut self.jobs).into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_settles_its_earliest_delivery() {
        let mut jobs = OpenJobs::default();
        for (no, handle) in [(1, 7), (2, 8), (3, 7)] {
            jobs.push(handle, OpenJob { no, at: Nanos(no), message: None });
        }
        assert_eq!(jobs.take(7).map(|j| j.no), Some(1));
        assert_eq!((jobs.take(7).map(|j| j.no), jobs.take(7).map(|j| j.no)), (Some(3), None));
        assert_eq!((jobs.len(), jobs.take_all().map(|j| j.no).collect::<Vec<_>>()), (1, vec![2]));
        assert!(jobs.take(8).is_none());
    }
}
