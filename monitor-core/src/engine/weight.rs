//! What all connections share takes memory, too. Each table has a bound of its own; here is about what they come to.
//! Sizes of entries are those of `tests/memory.rs`, which compares them with what the allocator says.

use super::parts::Parts;
use crate::detect::Table;
use crate::model::Finding;

impl Parts {
    /// Bytes held by what connections share, about. Looks at each table's length, and at at shared processes.
    pub(super) fn memory(&mut self) -> usize {
        let remembered = self.judge.remembered();
        let stats = &self.stats;
        let counted: [&dyn Table; 4] = [&stats.operations, &stats.switches, &stats.findings, &stats.bases];
        let maps = self.map.tables().into_iter().chain(self.attributor.tables()).chain(self.learned.tables());
        let maps: usize = maps.chain(counted).chain([self.judge.held.waiting()]).map(|map| map.memory()).sum();
        let (missed, place) = self.judge.missed.level();
        [
            (self.sealing.memory(), 1),
            (self.ctx.names.len(), 128),
            (self.ctx.directory.len(), 160),
            (self.map.services.len(), 1_024),
            (self.attributor.forwarding.len(), 192),
            (self.attributor.n_requests(), 320),
            (self.learned.owners.len(), 64),
            (self.learned.lookups.level().0, 96),
            (self.learned.selectors.level().0, 144),
            (self.queues.messages.len(), 256),
            (self.learned.habits.len(), 96),
            (self.map.tools.len(), 512),
            (self.tokens.len(), 256),
            (self.judge.store.len(), size_of::<Finding>() + 1_024),
            (self.decoders.postgres.n_shapes(), 768),
            (self.gone.len(), 16),
            (self.learned.jars.level().0, 128),
            (self.queues.elsewhere.len(), 256),
            (self.map.downstream.len(), 64),
            (missed, 2 * place),
        ]
        .into_iter()
        .map(|(n, each)| n * each)
        .sum::<usize>()
            + self.timers.memory()
            + remembered
            + maps
    }
}
