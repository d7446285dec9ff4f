//! What all connections share takes memory, too. Each table has a bound of its own; here is about what they come to.
//! Sizes of entries are those of `tests/memory.rs`, which compares them with what the allocator says.

use super::shared::Shared;
use crate::detect::Table;
use crate::model::Finding;

impl Shared {
    /// Bytes held by what connections share, about. Looks at each table's length, and at the places of shared processes.
    pub(super) fn memory(&mut self) -> usize {
        let rules = self.rules.iter_mut().flat_map(|(_, rule)| rule.tables());
        let remembered: usize = rules.map(|table| table.memory()).sum();
        let maps: [&dyn Table; 14] = [
            &self.doubted,
            &self.works_for,
            &self.listeners,
            &self.addresses,
            &self.aliases,
            &self.binds_sessions,
            &self.service_keys,
            &self.asked_over_http,
            &self.deserted,
            &self.stats.operations,
            &self.stats.switches,
            &self.stats.findings,
            &self.stats.bases,
            self.held_hits.waiting(),
        ];
        let maps: usize = maps.iter().map(|map| map.memory()).sum();
        let (missed, place) = self.missed.level();
        let requests: usize = self.places.values().map(|p| p.len()).sum();
        [
            (self.names.len(), 128),
            (self.directory.len(), 160),
            (self.services.len(), 1_024),
            (self.forwarding.len(), 192),
            (requests, 320),
            (self.owners.len(), 64),
            (self.lookups.level().0, 96),
            (self.selectors.level().0, 144),
            (self.messages.len(), 256),
            (self.habits.len(), 96),
            (self.tools.len(), 512),
            (self.tokens.len(), 256),
            (self.store.len(), size_of::<Finding>() + 1_024),
            (self.decoders.postgres.n_shapes(), 768),
            (self.waiting.len() + self.due.len() + self.answers.len() + self.held.len(), 24),
            (self.gone.len(), 16),
            (self.jars.level().0, 128),
            (self.elsewhere.len(), 256),
            (self.downstream.len(), 64),
            (missed, 2 * place),
        ]
        .into_iter()
        .map(|(n, each)| n * each)
        .sum::<usize>()
            + remembered
            + maps
    }
}
