//! Events were lost: who is disturbed by it. Only whom it can concern: else whoever can make the agent lose something of
//! his own would blind it for everybody.

use super::shared::Shared;
use crate::attribute::forwarded::Relay;
use crate::model::{CgroupId, Nanos, ServiceId};

impl Shared {
    /// Events were lost; `of`: what the sockets of this cgroup received, else nobody can say whose.
    pub(super) fn lost(&mut self, at: Nanos, of: Option<CgroupId>) {
        // Somebody's request may be among it: nobody can be singled out by elimination now.
        let Some(workload) = of.and_then(|id| self.directory.of_cgroup(id)) else {
            self.forwarding.disturbed_all(at);
            self.missed.anywhere(at);
            for place in self.places.values_mut() {
                place.miss(at);
            }
            return;
        };
        let relay = Relay::Workload(workload);
        self.forwarding.distrusts(relay, at);
        if let Some(place) = self.places.get_mut(&relay) {
            place.miss(at);
        }
        let services = (0u32..).zip(&self.services).filter(|(_, s)| s.workload == Some(workload));
        for (id, _) in services {
            self.missed.on(Some(ServiceId(id)), None, None, at);
        }
        // Whoever sent it.
        self.missed.on(None, None, None, at);
    }
}
