//! For whom is a pooled connection used, where one process works for many tenants? One file per basis; each names the
//! requests it leads to, or says why it abstains.
//!
//! Bases of wire and endpoint class settle it. Inferred ones only vote: they speak when no binding does, and where they
//! disagree the answer is "several".

mod acks;
mod affinity;
mod agenda;
mod borrow;
mod bracketed;
mod only_tenant;
mod process;
mod quiet;
mod rarity;
mod replies;
mod settle_order;
mod stretch;
mod succession;
mod thread;
mod trace;
mod value;

pub use agenda::UnitKey;
pub use borrow::{Alone, Borrow, OneThread};
pub use process::{DESERTED, Request, SharedProcess, Whom};
pub use quiet::Shape;
pub use replies::{Shifted, Via};
pub use stretch::{Follows, HandOver, Setting};

use smallvec::SmallVec;

use crate::model::{Attribution, Basis, BasisPolicy, EvidenceClass, Nanos, RequestKey, TenantId};

/// What one basis says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// It is for one of these requests.
    OneOf(&'a [RequestKey]),
    /// Nothing, and why.
    Nothing(&'static str),
}

/// What all bases say of one unit of work.
#[derive(Clone, Debug, Default)]
pub struct Through {
    /// By trace id or by bracket, if they do not contradict each other.
    pub settled: Option<Attribution>,
    /// They do, or several requests took part and it is not known in what, or something was missed: it is nobody's.
    pub torn: bool,
    /// What inferred bases vote for.
    pub votes: SmallVec<[(Basis, TenantId); 3]>,
    /// The requests it may be for, as far as they could be narrowed down.
    pub requests: SmallVec<[RequestKey; 2]>,
    /// Tenants that it names by their own names.
    pub named: SmallVec<[TenantId; 2]>,
}

/// A basis that abstained, and why; or that spoke.
pub type BasisTold = (Basis, Option<&'static str>);

/// Whether everything is known that can become known: the requests in flight are over, and who sent them.
pub fn is_ripe(borrow: &Borrow, process: &SharedProcess) -> bool {
    let is_known = |r: &Request| (r.ended.is_some() || r.deserted) && r.whom != Whom::NotYet;
    borrow.candidates.iter().all(|key| process.request(*key).is_none_or(is_known))
}

/// Asks every basis that is switched on. `told` hears what each made of it.
pub fn resolve(
    unit: UnitKey,
    borrow: &Borrow,
    process: &mut SharedProcess,
    policy: &BasisPolicy,
    now: Nanos,
    told: &mut dyn FnMut(BasisTold),
) -> Through {
    let whole = !borrow.too_early && process.is_whole(borrow.begun);
    // A stretch that only ends a transaction may belong to the request before or after it, so it teaches nothing.
    if borrow.follows.is_none() || !borrow.shapes.is_empty() {
        learn_thread(borrow, process, now);
    }
    let seen = &*process;
    let mut out = Through { named: borrow.named.clone(), torn: borrow.torn, ..Through::default() };
    let mut narrowest: Option<&[RequestKey]> = None;
    let mut ask = |on: bool, basis: Basis, said: Said<'_>| -> Option<(TenantId, EvidenceClass, usize)> {
        if !on {
            return None;
        }
        let (keys, one) = match said {
            Said::Nothing(why) => {
                told((basis, Some(why)));
                return None;
            }
            Said::OneOf(keys) => (keys, one_tenant(keys, seen)),
        };
        told((basis, one.is_none().then_some("not one tenant's")));
        one.map(|(tenant, class)| (tenant, class.min(basis.class()), keys.len()))
    };
    for (on, basis, said) in [
        (policy.trace, Basis::TraceId, trace::answer(borrow)),
        (policy.bracketed, Basis::Bracketed, bracketed::answer(borrow, seen, whole, now)),
    ] {
        let Some((tenant, class, _)) = ask(on, basis, said) else { continue };
        if let Said::OneOf(keys) = said {
            narrowest = narrowest.filter(|n| n.len() <= keys.len()).or(Some(keys));
        }
        match &mut out.settled {
            None => out.settled = Some(Attribution { class, ..Attribution::new(tenant, basis) }),
            Some(before) if before.tenant == tenant => {
                before.bases = before.bases.with(basis);
                before.class = before.class.max(class);
            }
            Some(_) => out.torn = true,
        }
    }
    for (on, basis, said) in [
        (policy.value, Basis::ValueFlow, value::answer(borrow, whole)),
        (policy.thread, Basis::SameThread, thread::answer(borrow, seen, whole)),
        (policy.thread, Basis::SettleOrder, settle_order::answer(borrow, seen, whole)),
        (policy.succession, Basis::Succession, succession::answer(borrow, seen, unit, whole)),
        (policy.only_tenant, Basis::OnlyTenant, only_tenant::answer(borrow, seen, whole, now)),
    ] {
        let Some((tenant, ..)) = ask(on, basis, said) else { continue };
        if let Said::OneOf(keys) = said {
            narrowest = narrowest.filter(|n| n.len() <= keys.len()).or(Some(keys));
        }
        out.votes.push((basis, tenant));
    }
    out.requests = narrowest.unwrap_or(&borrow.candidates).iter().copied().collect();
    let misled = |tenant| out.votes.iter().any(|(b, t)| *b == Basis::Succession && *t != tenant);
    if out.settled.is_some_and(|s| misled(s.tenant)) {
        process.agenda.contradicted();
    }
    out
}

/// Every unit teaches whether requests stay with their thread.
fn learn_thread(borrow: &Borrow, process: &mut SharedProcess, now: Nanos) {
    let OneThread::Only(thread) = borrow.thread else {
        if borrow.thread == OneThread::Several {
            process.affinity.misfit();
        }
        return;
    };
    let all_told = borrow.candidates.iter().all(|k| process.request(*k).is_some_and(|r| r.thread.is_some()));
    let matching = borrow.candidates.iter().filter(|k| thread::by(process, **k, thread)).count();
    let deserted = borrow.candidates.iter().any(|k| process.request(*k).is_some_and(|r| r.deserted));
    // A thread fits no request only if the thread of every request is known.
    if !borrow.crowded && !borrow.too_early && !deserted && (all_told || matching > 0) {
        process.affinity.unit(thread, matching, now);
    }
}

/// The tenant that all of these requests are for.
fn one_tenant(keys: &[RequestKey], process: &SharedProcess) -> Option<(TenantId, EvidenceClass)> {
    let mut found = None;
    for key in keys {
        let Whom::Tenant(tenant, class) = process.request(*key)?.whom else { return None };
        found = match found {
            None => Some((tenant, class)),
            Some((before, worst)) if before == tenant => Some((tenant, class.min(worst))),
            Some(_) => return None,
        };
    }
    found
}

#[cfg(test)]
mod tests;
