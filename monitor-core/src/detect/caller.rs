//! Who made an MCP request, as far as rules tell callers apart, and what they remember of a request.

use smallvec::SmallVec;

use super::{Detail, Hit, McpUse, RuleInfo, Step};
use crate::model::token::Verified;
use crate::model::{
    Attribution, Basis, Claim, EvidenceClass, Fingerprint, Nanos, OpKind, Severity, Sym, TenantId, mcp::Answered,
};

/// To whom a server may make a difference: tools may vary by the authorization that was presented, never by connection
/// (MCP 2025-11-25, server/tools). Without any, a caller is its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Caller {
    /// Whoever has this token or other credential.
    Bearer(Fingerprint),
    /// Whoever works for this tenant without a credential.
    Tenant(TenantId),
}

impl McpUse<'_> {
    /// For whom it is. What a verified token says comes before what is known of the connection.
    pub(super) fn whom(&self) -> Option<Attribution> {
        self.proved().or_else(|| self.answer.attribution())
    }

    /// For whom it is by its own verified token.
    pub(super) fn proved(&self) -> Option<Attribution> {
        match self.exchange.token {
            Some(t) if t.verified == Verified::Yes => match t.tenant {
                Claim::Tenant(tenant) => Some(Attribution::new(tenant, Basis::Binding)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The token or other credential of this very request.
    pub(super) fn bearer(&self) -> Option<Fingerprint> {
        self.exchange.token.map(|t| t.print).or(self.exchange.credential)
    }

    /// To whom the server answered.
    pub(super) fn caller(&self) -> Option<Caller> {
        self.bearer().map(Caller::Bearer).or_else(|| self.whom().map(|a| Caller::Tenant(a.tenant)))
    }

    /// Whether it touches data.
    pub(super) fn is_data(&self) -> bool {
        self.exchange.method.kind() == OpKind::Data
    }

    /// Whether it is known what became of it. That is not known of a message that could not be read; and a request that was only accepted (202) is answered elsewhere: on the other
    /// stream of its session, where it is told once more without its arguments.
    pub(super) fn is_answered(&self) -> bool {
        match self.exchange.answered {
            Answered::Unknown => false,
            Answered::Accepted => !self.is_data(),
            answered if answered.is_unread() => !self.is_data(),
            _ => true,
        }
    }

    /// Whether its answer brought data back.
    pub(super) fn returned_data(&self) -> bool {
        self.is_data() && self.exchange.answered == Answered::Result && self.exchange.content.bytes > 0
    }

    /// The request as a step of the evidence.
    pub(super) fn step(&self, what: &'static str, by: Option<Attribution>) -> Step {
        let e = self.exchange;
        Step {
            at: e.ended,
            what,
            detail: Detail::Operation(e.verb, e.name),
            tenant: by.map(|a| a.tenant),
            basis: by.map(|a| a.basis),
        }
    }

    /// A remark on it as a step of the evidence.
    pub(super) fn remark(&self, what: &'static str, detail: Detail) -> Step {
        Step { at: self.exchange.ended, what, detail, tenant: None, basis: None }
    }

    /// A hit about this request alone.
    pub(super) fn hit(
        &self,
        rule: &'static RuleInfo,
        severity: Severity,
        by: Option<Attribution>,
        class: EvidenceClass,
        steps: SmallVec<[Step; 3]>,
    ) -> Hit {
        Hit {
            rule: rule.id,
            severity,
            class,
            corroborated: None,
            at: self.exchange.ended,
            site: self.site,
            subject: Sym::EMPTY,
            used: by.map(|a| a.tenant),
            bound: None,
            steps,
        }
    }

    /// A hit about this request, for `by`, and an earlier one of another tenant's.
    pub(super) fn crossing(
        &self,
        rule: &'static RuleInfo,
        severity: Severity,
        by: Attribution,
        past: &Past,
        (before, now): (&'static str, &'static str),
    ) -> Hit {
        let both = by.corroborated() && past.by.corroborated();
        Hit {
            corroborated: both.then_some(by.bases),
            bound: Some(past.by.tenant),
            ..self.hit(
                rule,
                severity,
                Some(by),
                by.class.min(past.by.class),
                smallvec::smallvec![past.step(before), self.step(now, Some(by))],
            )
        }
    }
}

/// An earlier request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Past {
    /// For whom it was.
    pub(super) by: Attribution,
    /// When its answer was whole.
    pub(super) at: Nanos,
    verb: Sym,
    name: Sym,
}

impl Past {
    pub(super) fn of(u: &McpUse<'_>, by: Attribution) -> Self {
        Self { by, at: u.exchange.ended, verb: u.exchange.verb, name: u.exchange.name }
    }

    pub(super) fn step(&self, what: &'static str) -> Step {
        Step {
            at: self.at,
            what,
            detail: Detail::Operation(self.verb, self.name),
            tenant: Some(self.by.tenant),
            basis: Some(self.by.basis),
        }
    }
}
