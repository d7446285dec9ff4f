//! Whose a workload is where that is contradicted.

use super::*;

fn pod(engine: &mut Engine, id: u64, tenants: &[&str]) {
    let fact = WorkloadFact {
        name: "shop/web-1".to_owned(),
        cgroup: "/kubepods/pod1/1".to_owned(),
        tenants: tenants.iter().map(|t| (*t).to_owned()).collect(),
        role: None,
        owner: Some(OwnerFact {
            kind: "Deployment".into(),
            namespace: "shop".into(),
            name: "web".into(),
            pod: "web-1".into(),
        }),
    };
    engine.learn_cgroup(Nanos(0), CgroupId(id), &fact);
}

/// A pod uses the database by itself and binds every time: clean, if it is known whose it is.
fn direct(tenants: &[&str]) -> Seen {
    let mut script = Script::default();
    let own = script.connect(21, DATABASE, 40_009, 5432);
    script.start(own, "app");
    for _ in 0..3 {
        for (sql, tag) in [("SET app.tenant_id = 'globex'", "SET"), ("SELECT item FROM orders", "SELECT 1")] {
            script.send(own, 0, pg::query(sql));
            script.send(own, 1, pg::reply(tag, b'I'));
        }
    }
    let mut engine = engine();
    pod(&mut engine, 21, tenants);
    play_on(engine, &script.steps, |_| true, false)
}

#[test]
fn operations_of_a_workload_that_names_itself_another_tenant_are_never_clean() {
    let seen = direct(&["acme", "globex"]);
    let data: Vec<_> = seen.operations.iter().filter(|o| o.starts_with("data")).collect();
    assert!(data.len() == 3 && data.iter().all(|o| o.ends_with("indeterminate")), "{:#?}", seen.operations);
    let f = seen.findings.iter().find(|f| f.rule == "identity-conflicting").unwrap();
    assert_eq!((f.tenants.used.as_deref(), f.tenants.bound.as_deref()), (Some("acme"), Some("globex")));
    assert_eq!(f.workload.owner.as_ref().map(|o| o.name.as_str()), Some("web"));
    assert_eq!(f.evidence[1].detail, "the pod itself names this one");
    assert_eq!(found(&seen).len(), 1, "{:?}", found(&seen));
}

/// Behind a pooler it is as little known whose the requests are, on the connection to it and on that to the database; those
/// of others are as clean as before.
#[test]
fn nothing_that_a_pooler_passes_on_for_such_a_workload_is_clean() {
    for (tenants, wanted) in [(&["acme", "globex"][..], "globex indeterminate"), (&["globex"], "globex revalidated")] {
        for traffic in [LOCAL, &LOCAL[4..]] {
            let mut engine = engine();
            pod(&mut engine, GLOBEX, tenants);
            let seen = play_on(engine, &story(traffic), |_| true, false);
            let data = seen.operations.iter().filter(|o| o.starts_with("data"));
            let (others, its): (Vec<_>, Vec<_>) = data.partition(|o| o.contains(" acme "));
            assert!(its.len() == 2 && its.iter().all(|o| o.ends_with(wanted)), "{tenants:?}: {its:#?}");
            assert_eq!(others.len(), traffic.len() / 2 - 2, "{others:#?}");
            assert!(others.iter().all(|o| o.ends_with("acme revalidated")), "{tenants:?}: {others:#?}");
        }
    }
}

#[test]
fn one_tenant_in_two_spellings_is_no_contradiction() {
    for tenants in [&["globex"][..], &["globex", "GLOBEX"]] {
        let seen = direct(tenants);
        assert!(!rules(&seen).contains("identity-conflicting"));
        let clean = seen.operations.iter().filter(|o| o.ends_with("globex revalidated")).count();
        assert_eq!(clean, 3, "{:#?}", seen.operations);
    }
}

#[test]
fn a_label_that_changes_is_in_doubt_and_no_contradiction() {
    let mut engine = engine();
    pod(&mut engine, 21, &["acme"]);
    pod(&mut engine, 21, &["globex"]);
    let seen = play_on(engine, &story(LOCAL), |_| true, false);
    assert!(!rules(&seen).contains("identity-conflicting"));
}
