//! Canaries: values planted in a tenant's data, looked for in what others are shown.

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use smallvec::SmallVec;

use crate::model::TenantId;
use crate::model::settings::Canary;

/// Shortest value that can be a canary, in bytes: shorter ones occur by chance.
pub const MIN_CANARY: usize = 8;
/// Longest value that can be a canary, in bytes.
pub const MAX_CANARY: usize = 4096;
/// Most canaries that are looked for.
pub const MAX_CANARIES: usize = 10_000;

/// All canaries, looked for at once.
#[derive(Default)]
pub struct CanarySet {
    /// None when there are no canaries, which costs nothing.
    automaton: Option<AhoCorasick>,
    /// Whose each pattern is.
    owners: Vec<TenantId>,
}

impl std::fmt::Debug for CanarySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} canaries", self.owners.len())
    }
}

impl CanarySet {
    /// A set of the canaries that can be used: of a length from [`MIN_CANARY`] to [`MAX_CANARY`], at most
    /// [`MAX_CANARIES`]. The configuration refuses others. `tenant` tells who a name is.
    pub fn new(canaries: &[Canary], tenant: &mut dyn FnMut(&str) -> TenantId) -> Self {
        let usable = |c: &&Canary| (MIN_CANARY..=MAX_CANARY).contains(&c.value.len());
        let all: Vec<&Canary> = canaries.iter().filter(usable).take(MAX_CANARIES).collect();
        if all.is_empty() {
            return Self::default();
        }
        // Of constant memory per pattern byte. It cannot fail within these bounds; if it does, nothing is looked for.
        let automaton = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(all.iter().map(|c| c.value.as_bytes()))
            .ok();
        Self { automaton, owners: all.iter().map(|c| tenant(&c.tenant)).collect() }
    }

    /// Tenants whose canary `text` holds, each once.
    pub fn within(&self, text: &str) -> SmallVec<[TenantId; 1]> {
        let mut found = SmallVec::new();
        let Some(automaton) = &self.automaton else { return found };
        for m in automaton.find_overlapping_iter(text) {
            if let Some(&owner) = self.owners.get(m.pattern().as_usize())
                && !found.contains(&owner)
            {
                found.push(owner);
            }
        }
        found
    }

    /// Canaries that are looked for.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(canaries: &[(&str, &str)]) -> CanarySet {
        let all: Vec<Canary> =
            canaries.iter().map(|(t, v)| Canary { tenant: (*t).to_owned(), value: (*v).to_owned() }).collect();
        CanarySet::new(&all, &mut |name| TenantId(u32::from(name == "globex")))
    }

    #[test]
    fn canaries_are_found_wherever_they_stand() {
        let (acme, globex) = (TenantId(0), TenantId(1));
        let set = set(&[("acme", "canary-acme-0001"), ("globex", "acme-0001-globex"), ("acme", "zweiter-Wert-ä")]);
        assert_eq!(set.within("x canary-acme-0001 y").as_slice(), [acme]);
        assert_eq!(set.within("zweiter-Wert-ä").as_slice(), [acme]);
        assert!(set.within("").is_empty() && set.within("canary-acme-000 Canary-acme-0001").is_empty());
        // One that begins within another, and repeats.
        let both = "canary-acme-0001-globex canary-acme-0001".repeat(3);
        assert_eq!(set.within(&both).as_slice(), [acme, globex]);
    }

    #[test]
    fn what_would_occur_by_chance_is_left_out_and_nothing_is_shown() {
        let set = set(&[("acme", "1234567"), ("acme", ""), ("globex", "12345678")]);
        assert_eq!(set.len(), 1);
        assert!(set.within("1234567").is_empty());
        assert_eq!(set.within("012345678").as_slice(), [TenantId(1)]);
        assert_eq!(format!("{set:?}"), "1 canaries");
    }
}
