//! The verdict on one data operation: the table of `docs/domain.md#verdicts`.

use super::{Certainty, View};
use crate::model::{Bound, Claim, OpaqueId, OtherUse, Ruling, Slot, Strength, TenantId, UnitNo, Verdict};

/// What the verdict depends on besides the view.
pub struct Question<'a> {
    /// The connection at the operation.
    pub view: &'a View,
    /// The unit of work the operation belongs to.
    pub unit: UnitNo,
    /// For whom it is.
    pub tenant: TenantId,
    /// For whom an earlier unit of this connection was, if known.
    pub author: &'a dyn Fn(UnitNo) -> Option<TenantId>,
    /// Whom an opaque value has consistently gone with on this service, if anybody.
    pub alias: &'a dyn Fn(OpaqueId) -> Option<TenantId>,
    /// Whose a credential is.
    pub credential: &'a dyn Fn(OpaqueId) -> CredentialOwner,
    /// Whether a binding decides what the operation touches. One that does not says nothing against it.
    pub governs: &'a dyn Fn(&Bound) -> bool,
    /// Whose a value is that was chosen ([`Claim::Chosen`]).
    pub standing: &'a dyn Fn(&Bound) -> Standing,
    /// What it touches is in nobody's part of a service that is divided by what it does not touch.
    pub common: bool,
    /// Weakest binding that proves something. A weaker one still contradicts when it names another.
    pub minimum: Strength,
    /// The latest earlier use by another tenant.
    pub other: Option<OtherUse>,
    /// This workload has been seen to bind for whole sessions on this service. Where it never does, what lies beneath
    /// an ended transaction's binding cannot be a binding that we missed.
    pub binds_sessions: bool,
}

/// Whose a credential is, as far as its use has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialOwner {
    /// It was not seen before.
    Unknown,
    /// It has gone with this tenant alone.
    One(TenantId),
    /// It has gone with several: it says who the process is, not for whom it works.
    Shared,
}

/// Whose a value is that applications may choose for other reasons, as far as its use has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Tenants do not go with values of their own there: it says nothing.
    Nobody,
    /// They seem to; whose this one is, is not known yet.
    Unsure,
    /// This tenant has consistently gone with it, and others with others.
    Of(TenantId),
}

/// Judges one data operation.
pub fn judge(q: &Question<'_>) -> Ruling {
    let ruling = |verdict, other, binding| Ruling { verdict, other, binding, learned: None };
    if q.view.certainty == Certainty::None && q.view.live.is_empty() && q.view.chosen.is_empty() {
        return ruling(Verdict::Indeterminate, None, None);
    }

    // A live binding to another tenant decides, whatever else is bound: one slot may be fresh and another left behind.
    let names = |b: &Bound| match b.claim {
        Claim::Tenant(t) => Some(t),
        Claim::Opaque(id) if b.slot == Slot::Credential => match (q.credential)(id) {
            CredentialOwner::Unknown => Some(q.tenant),
            CredentialOwner::One(owner) => Some(owner).filter(|owner| *owner == q.tenant),
            CredentialOwner::Shared => None,
        },
        // This very unit chose the value for its tenant: it speaks for itself, whatever it meant elsewhere …
        Claim::Opaque(_) if b.unit == q.unit => Some(q.tenant),
        // … else it speaks for whom it has consistently gone with, or for whom the unit that set it worked.
        Claim::Opaque(id) => (q.alias)(id).or_else(|| (q.author)(b.unit)),
        _ => None,
    };
    let mut own = None;
    let mut nobody = None;
    // Another's name is in force where it decides nothing.
    let mut aside = false;
    let mut unsure = false;
    for bound in &q.view.chosen {
        match (q.standing)(bound) {
            Standing::Of(t) if t != q.tenant && (q.governs)(bound) => {
                return ruling(Verdict::StaleBound, Some(t), Some(*bound));
            }
            Standing::Of(t) if t != q.tenant => aside = true,
            Standing::Of(_) => own = own.or(Some(*bound)),
            Standing::Unsure => unsure = true,
            Standing::Nobody => {}
        }
    }
    for bound in &q.view.live {
        let enough = bound.strength >= q.minimum;
        match names(bound) {
            Some(t) if t != q.tenant && !(q.governs)(bound) => aside = true,
            Some(t) if t != q.tenant => return ruling(Verdict::StaleBound, Some(t), Some(*bound)),
            Some(_) if enough => own = own.or(Some(*bound)),
            // A credential that several tenants are served with binds to none of them.
            None if enough && bound.slot != Slot::Credential => nobody = nobody.or(Some(*bound)),
            _ => {}
        }
    }
    if let Some(bound) = own {
        let learned = match bound.claim {
            Claim::Opaque(id) if bound.unit == q.unit && bound.slot != Slot::Credential => Some(id),
            _ => None,
        };
        return Ruling { verdict: Verdict::Revalidated, other: None, binding: Some(bound), learned };
    }
    // A live binding is unreadable, or bindings of its kind were seen to decide nothing on this service.
    let unsure = unsure && q.other.is_some();
    if nobody.is_some() || unsure || aside || q.view.certainty == Certainty::None {
        return ruling(Verdict::Indeterminate, None, nobody);
    }
    if q.view.certainty == Certainty::OnlyWhatIsLive && q.binds_sessions {
        return ruling(Verdict::Indeterminate, None, None);
    }
    match q.other {
        Some(_) if q.common => ruling(Verdict::Indeterminate, None, None),
        None if q.view.certainty == Certainty::Whole => ruling(Verdict::SingleTenant, None, None),
        None => ruling(Verdict::Indeterminate, None, None),
        Some(other) if q.view.last_reset.is_some_and(|reset| reset > other.order) => {
            ruling(Verdict::ResetOnly, Some(other.by.tenant), None)
        }
        Some(other) => ruling(Verdict::Unbound, Some(other.by.tenant), None),
    }
}
