//! Rules, what they find, and where that goes: at once, or once it is known that nothing it rests on was missed.

use smallvec::SmallVec;

use super::context::Context;
use super::held::{Held, MAX_HELD, WAIT, Waiting};
use super::map::ServiceMap;
use super::output::{Output, ToOutput};
use super::stats::Stats;
use crate::detect::{self, Contradiction, Hit, Rule, RuleEvent, RuleOutcome, Store, World};
use crate::model::settings::Suppression;
use crate::model::{Missed, Nanos, Settings, Severity, Unseen};

/// Most contradictions of identity that wait to be told: they do so for a quarter of a second.
const MAX_CONTRADICTIONS: usize = 1_024;

/// What rules see of the engine, and what is counted of them.
pub(super) struct Seen<'a> {
    pub(super) ctx: &'a Context,
    pub(super) map: &'a mut ServiceMap,
    pub(super) stats: &'a mut Stats,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Judge {
    /// Every rule, and whether the operator left it on. One that is off follows what happens all the same: switched on
    /// later, it must not take for unseen what it only was not asked about.
    rules: Vec<(bool, Box<dyn Rule>)>,
    hits: Vec<Hit>,
    pub(super) store: Store,
    /// What was missed, and where.
    pub(super) missed: Missed,
    /// Hits that wait until it would have shown that something was missed.
    pub(super) held: Held,
    /// Workloads of which two tenants are named, to be told to rules.
    contradictions: Vec<Contradiction>,
}

fn world<'a>(ctx: &'a Context, map: &'a ServiceMap, missed: &'a Missed) -> World<'a> {
    World {
        services: &map.services,
        directory: &ctx.directory,
        tenants: &ctx.tenants,
        names: &ctx.names,
        servers: &map.servers,
        settings: &ctx.settings,
        missed,
    }
}

impl Judge {
    pub(super) fn new(settings: &Settings) -> Self {
        let store = Store::new(settings.rules.clone(), settings.suppress.clone());
        let mut rules: Vec<_> = detect::all().into_iter().map(|rule| (store.enabled(rule.info().id), rule)).collect();
        for (_, rule) in &mut rules {
            rule.tables().iter_mut().for_each(|table| table.bound(settings.limits.memory));
        }
        let (missed, held) = (Missed::default(), Held::default());
        Self { rules, hits: Vec::new(), store, missed, held, contradictions: Vec::new() }
    }

    /// Bytes that rules remember, about.
    pub(super) fn remembered(&mut self) -> usize {
        self.rules.iter_mut().flat_map(|(_, rule)| rule.tables()).map(|table| table.memory()).sum()
    }

    /// The operator decides otherwise.
    pub(super) fn decide(&mut self, new: &Settings, now: Nanos) {
        self.store.decide(new.rules.clone(), new.suppress.clone(), now);
        for (on, rule) in &mut self.rules {
            *on = self.store.enabled(rule.info().id);
            rule.tell_again();
            rule.tables().iter_mut().for_each(|table| table.bound(new.limits.memory));
        }
    }

    /// Exceptions that have ended between two moments: what their rules told once for all is told again.
    pub(super) fn exceptions_end(&mut self, settings: &Settings, since: Nanos, now: Nanos) {
        let ended = |s: &&Suppression| since < s.until && s.until <= now;
        for s in settings.suppress.iter().filter(ended) {
            for (_, rule) in self.rules.iter_mut().filter(|(_, r)| r.info().id == s.rule) {
                rule.tell_again();
            }
        }
    }

    /// Shows an event to every rule and hands out what they find, at once or once it is known that nothing it rests on
    /// was missed.
    pub(super) fn detect(&mut self, event: &RuleEvent<'_>, seen: &mut Seen<'_>, out: &mut dyn Output) {
        let mut found: SmallVec<[(Hit, SmallVec<[Unseen; 2]>); 1]> = SmallVec::new();
        let world = world(seen.ctx, seen.map, &self.missed);
        for (on, rule) in &mut self.rules {
            let outcome = rule.on_event(event, &world, &mut self.hits);
            if !*on {
                self.hits.clear();
                continue;
            }
            if let RuleOutcome::Insufficient(reason) = outcome {
                *seen.stats.insufficient.entry((rule.info().id, reason)).or_default() += 1;
            }
            for hit in self.hits.drain(..) {
                let rests_on = rule.rests_on(&hit, &world);
                found.push((hit, rests_on));
            }
        }
        for (hit, rests_on) in found {
            self.hit(hit, rests_on, seen, out);
        }
    }

    /// A workload's identity contradicts itself: rules are told at the next turn.
    pub(super) fn contradicts(&mut self, contradiction: Contradiction) {
        if self.contradictions.len() < MAX_CONTRADICTIONS {
            self.contradictions.push(contradiction);
        }
    }

    /// Tells rules whose identity contradicts itself.
    pub(super) fn contradicted(&mut self, seen: &mut Seen<'_>, out: &mut dyn Output) {
        for c in std::mem::take(&mut self.contradictions) {
            self.detect(&RuleEvent::Contradicted(c), seen, out);
        }
    }

    /// Hands out a hit as a finding.
    pub(super) fn found(&mut self, hit: &Hit, seen: &mut Seen<'_>, out: &mut dyn Output) {
        // A hit may have waited while its rule was switched off.
        let Some((true, rule)) = self.rules.iter().find(|(_, r)| r.info().id == hit.rule) else { return };
        if rule.withdraws(hit) {
            return;
        }
        let world = world(seen.ctx, seen.map, &self.missed);
        let told = self.store.add(hit, rule.as_ref(), &world, &mut ToOutput(out));
        let Some(severity) = told else { return };
        let key = (hit.rule, severity, hit.class, hit.site.service, hit.used, hit.bound);
        *seen.stats.findings.entry(key).or_default() += 1;
        if severity >= Severity::High
            && let Some(s) = hit.site.service.and_then(|id| seen.map.service_mut(id))
        {
            s.n_findings += 1;
        }
    }

    /// Hands out findings that have happened again, with their names as they may be shown by now.
    pub(super) fn hand_out(&mut self, now: Nanos, ended: bool, seen: &Seen<'_>, out: &mut dyn Output) {
        let world = world(seen.ctx, seen.map, &self.missed);
        self.store.refresh(&self.rules, &world);
        self.store.flush(now, ended, &self.rules, &world, &mut ToOutput(out));
    }

    /// A hit is told at once, or waits for what it rests on.
    pub(super) fn hit(&mut self, hit: Hit, rests_on: SmallVec<[Unseen; 2]>, seen: &mut Seen<'_>, out: &mut dyn Output) {
        if rests_on.is_empty() {
            self.found(&hit, seen, out);
        } else if self.held.0.len() >= MAX_HELD {
            insufficient(seen, hit.rule, "too many wait for what may be missed");
        } else {
            self.held.0.push_back(Waiting { since: seen.ctx.now, hit, rests_on });
        }
    }

    /// Tells what has waited long enough; `all`: everything.
    pub(super) fn release(&mut self, now: Nanos, all: bool, seen: &mut Seen<'_>, out: &mut dyn Output) {
        while let Some(w) = self.held.0.pop_front_if(|w| all || now.since(w.since) >= WAIT) {
            if w.rests_on.iter().any(|unseen| self.missed.may_hide(unseen)) {
                insufficient(seen, w.hit.rule, "something was missed");
            } else {
                self.found(&w.hit, seen, out);
            }
        }
    }
}

fn insufficient(seen: &mut Seen<'_>, rule: &'static str, why: &'static str) {
    *seen.stats.insufficient.entry((rule, why)).or_default() += 1;
}
