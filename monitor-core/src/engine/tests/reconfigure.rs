//! The operator decides otherwise in the middle of scripted traffic: what was proved stays, and nothing is invented.

use super::scenes::all_scenes;
use super::*;
use crate::model::settings::{RuleSpec, ServiceSpec, Suppression, TenantSpec};
use crate::model::{BindPolicy, Severity};

fn base() -> Settings {
    Settings { operations: true, ..Settings::default() }
}

/// Plays `steps`; before step `at` the operator decides by `new`.
fn reloaded(steps: &[Step], at: usize, new: &Settings) -> Seen {
    play_and(
        engine(),
        steps,
        |_| true,
        false,
        |i, engine, now, seen| {
            if i == at {
                engine.reconfigure(now, new.clone(), &[], seen);
            }
        },
    )
}

fn exception(rule: &str, until: Nanos) -> Suppression {
    Suppression {
        rule: rule.into(),
        service: None,
        tenant: None,
        finding: None,
        reason: "known".into(),
        owner: Some("team-a".into()),
        ticket: Some("OPS-1".into()),
        until,
    }
}

fn tenant(name: &str, aliases: &[&str]) -> TenantSpec {
    TenantSpec { name: name.into(), aliases: aliases.iter().map(|a| (*a).to_owned()).collect() }
}

fn database(gucs: &[&str]) -> ServiceSpec {
    ServiceSpec {
        name: "orders-db".into(),
        port: Some(5432),
        net: None,
        protocol: None,
        minimum: None,
        policy: BindPolicy { gucs: Some(gucs.iter().map(|g| (*g).to_owned()).collect()), ..BindPolicy::default() },
        proxies: Vec::new(),
    }
}

/// What does not touch the meaning of bindings changes nothing, whenever it comes, in every scene.
#[test]
fn nothing_that_was_proved_is_lost() {
    let mut scenes = all_scenes();
    scenes.push(("session", story(SESSION_SET)));
    scenes.push(("local", story(LOCAL)));
    scenes.push(("unbound", story(UNBOUND)));
    let new = Settings {
        rules: vec![RuleSpec { rule: "mcp-token-weak".into(), enabled: true, severity: Some(Severity::Low) }],
        suppress: vec![exception("tool-description-poisoned", Nanos(u64::MAX))],
        ..base()
    };
    for (name, steps) in scenes {
        let whole = all(&steps);
        let every = steps.len().div_ceil(40).max(1);
        for at in (0..steps.len()).step_by(every) {
            let seen = reloaded(&steps, at, &new);
            assert_eq!(found(&seen), found(&whole), "{name}, before step {at}");
            assert_eq!(seen.operations, whole.operations, "{name}, before step {at}");
        }
    }
}

/// Where it does touch their meaning, the doubt makes verdicts indeterminate: never clean, never a finding.
#[test]
fn what_counts_as_a_binding_may_change_at_any_time() {
    let changes = [
        ("a spelling", Settings { tenants: vec![tenant("acme", &["app"]), tenant("globex", &[])], ..base() }),
        ("other settings", Settings { services: vec![database(&["my.customer"])], ..base() }),
        ("the same setting, named", Settings { services: vec![database(&["app.tenant_id"])], ..base() }),
    ];
    for (name, traffic) in [("session", SESSION_SET), ("local", LOCAL), ("unbound", UNBOUND)] {
        let steps = story(traffic);
        let whole = found(&all(&steps));
        for (what, new) in &changes {
            // Connections that are opened later are judged by the new decision: only what was open counts here, and had
            // said who its user is (two messages each, at two sockets).
            let open = steps.iter().rposition(|s| matches!(s, Step::Open { .. })).unwrap() + 1 + 3 * 4;
            for at in open..steps.len() {
                let seen = reloaded(&steps, at, new);
                let renamed = |s: &str| s.replace("orders-db", "database");
                let new: Vec<_> = found(&seen)
                    .into_iter()
                    .filter(|(r, u, b)| !whole.contains(&(*r, renamed(u), renamed(b))))
                    .collect();
                assert!(new.is_empty(), "{name}, {what}, before step {at}: {new:?}");
            }
        }
    }
}

#[test]
fn a_binding_in_a_setting_that_still_counts_stays() {
    let steps = story(SESSION_SET);
    // After the binding's answer, before another tenant's use.
    let at = steps.len() - 20;
    let seen = reloaded(&steps, at, &Settings { services: vec![database(&["app.tenant_id"])], ..base() });
    assert!(found(&seen).contains(&("pool-stale-binding", "globex".into(), "acme".into())), "{:#?}", seen.operations);
    assert!(seen.findings.iter().any(|f| f.service.as_ref().is_some_and(|s| s.name == "orders-db")));
    // In one that does not count any more, it is no binding, and nobody knows what is.
    let seen = reloaded(&steps, at, &Settings { services: vec![database(&["my.customer"])], ..base() });
    assert!(!rules(&seen).contains("pool-stale-binding") && !rules(&seen).contains("pool-reuse-unrevalidated"));
}

#[test]
fn exceptions_come_and_go_with_the_configuration() {
    let steps = story(&[UNBOUND, UNBOUND, UNBOUND].concat());
    let silent = Settings { suppress: vec![exception("pool-reuse-unrevalidated", Nanos(u64::MAX))], ..base() };
    let seen = reloaded(&steps, 0, &silent);
    assert!(!rules(&seen).contains("pool-reuse-unrevalidated"));
    let held = seen.suppressed.iter().find(|f| f.rule == "pool-reuse-unrevalidated").unwrap();
    let by = held.suppressed.as_ref().unwrap();
    assert_eq!(
        (by.owner.as_deref(), by.ticket.as_deref(), by.reason.as_str()),
        (Some("team-a"), Some("OPS-1"), "known")
    );

    // Taken back later: the next hit is told, for the first time.
    let seen = play_and(
        engine(),
        &steps,
        |_| true,
        false,
        |i, engine, now, seen| {
            if i == 0 {
                engine.reconfigure(now, silent.clone(), &[], seen);
            } else if i == steps.len() / 2 {
                assert!(!seen.findings.iter().any(|f| f.rule == "pool-reuse-unrevalidated"));
                engine.reconfigure(now, base(), &[], seen);
            }
        },
    );
    assert!(rules(&seen).contains("pool-reuse-unrevalidated"));
}

#[test]
fn a_rule_that_was_off_has_followed_what_happened() {
    let off = |rule: &str, enabled| Settings {
        rules: vec![RuleSpec { rule: rule.into(), enabled, severity: None }],
        ..base()
    };
    for (name, steps) in all_scenes() {
        let whole = found(&all(&steps));
        for rule in rules(&all(&steps)) {
            let seen = play_and(
                engine(),
                &steps,
                |_| true,
                false,
                |i, engine, now, seen| {
                    if i == 0 {
                        engine.reconfigure(now, off(rule, false), &[], seen);
                    } else if i == steps.len() / 2 {
                        assert!(!rules(seen).contains(rule), "{name}: {rule} is off");
                        engine.reconfigure(now, off(rule, true), &[], seen);
                    }
                },
            );
            let new: Vec<_> = found(&seen).difference(&whole).cloned().collect();
            assert!(new.is_empty(), "{name}: {rule} switched on invents {new:?}");
        }
    }
}

#[test]
fn an_address_that_changes_hands_is_nobodys() {
    let fact = |tenant: &str| AddressFact {
        net: "10.1.0.7".parse().unwrap(),
        prefix: 32,
        port: None,
        fact: WorkloadFact {
            name: tenant.into(),
            cgroup: String::new(),
            tenants: vec![tenant.into()],
            role: None,
            owner: None,
        },
    };
    let mut engine = engine();
    engine.add_address(&fact("acme"));
    let mut seen = Seen::default();
    assert_eq!(engine.reconfigure(Nanos(1), base(), &[fact("acme")], &mut seen), 0);
    assert_eq!(engine.reconfigure(Nanos(2), base(), &[fact("globex")], &mut seen), 1);
    let who = engine.parts.ctx.directory.of_address(addr("10.1.0.7:1"), addr("10.0.0.1:2")).unwrap();
    let who = engine.parts.ctx.directory.get(who).unwrap();
    assert!(who.conflicting && who.tenant.is_none());
    assert_eq!(engine.reconfigure(Nanos(3), base(), &[], &mut seen), 0);
    assert!(engine.parts.ctx.directory.of_address(addr("10.1.0.7:1"), addr("10.0.0.1:2")).is_none());
}

#[test]
fn what_cannot_change_while_running_stays() {
    let mut engine = engine();
    let mut new = Settings { operations: false, salt: crate::model::Salt(7, 7), ..Settings::default() };
    new.limits.flows = 17;
    new.limits.memory = 1 << 20;
    engine.reconfigure(Nanos(1), new, &[], &mut Seen::default());
    let s = &engine.parts.ctx.settings;
    assert!(s.operations && s.salt.0 == 0 && s.limits.flows == 100_000 && s.limits.memory == 1 << 20);
    assert_eq!(engine.table.limits.memory, 1 << 20);
}
