//! Basis: the unit of work has just bound the connection, and the server acknowledged it.
//!
//! The application itself says whom it works for. A binding that an earlier unit left behind says nothing of this one.

use crate::model::{Attribution, Basis, Bound, Claim, OpaqueId, Scope, Slot, TenantId, UnitNo};

/// The tenant that `unit` has bound, among the bindings live at an operation. Abstains when its bindings name two
/// tenants, or nobody that is known.
pub fn by_binding(
    live: &[Bound],
    unit: UnitNo,
    alias: &dyn Fn(Slot, OpaqueId) -> Option<TenantId>,
) -> Option<Attribution> {
    let mut found = None;
    for bound in live.iter().filter(|b| b.unit == unit && b.scope != Scope::Startup) {
        let tenant = match bound.claim {
            Claim::Tenant(t) => t,
            Claim::Opaque(id) => match alias(bound.slot, id) {
                Some(t) => t,
                None => continue,
            },
            Claim::Neutral | Claim::Chosen(_) | Claim::Cleared | Claim::Unreadable => continue,
        };
        match found {
            Some(other) if other != tenant => return None,
            _ => found = Some(tenant),
        }
    }
    found.map(|tenant| Attribution::new(tenant, Basis::Binding))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Nanos, Slot, Strength, Sym};

    fn bound(tenant: u32, unit: u32) -> Bound {
        Bound {
            slot: Slot::Setting(Sym(tenant)),
            claim: Claim::Tenant(TenantId(tenant)),
            scope: Scope::Session,
            strength: Strength::V2,
            at: Nanos(0),
            unit: UnitNo(unit),
        }
    }

    #[test]
    fn only_this_units_bindings_speak() {
        let tenant = |live: &[Bound]| by_binding(live, UnitNo(2), &|_, _| None).map(|a| a.tenant);
        assert_eq!(tenant(&[bound(1, 1)]), None);
        assert_eq!(tenant(&[bound(1, 1), bound(2, 2)]), Some(TenantId(2)));
        assert_eq!(tenant(&[bound(1, 2), bound(2, 2)]), None);
    }
}
