//! The whole core on a service whose tenants have a schema each, which every statement names: by number, or by name.

use super::shared_service::{Scene, TENANTS, Work, worst};
use super::*;
use crate::model::{EvidenceClass, Severity};

const REUSE: &str = "pool-reuse-unrevalidated";
const STALE: &str = "pool-stale-binding";
const NUMBERS: [u32; 2] = [1842, 2077];

/// A table of the schema of a number, and one of the default schema, which is everybody's.
fn numbered(number: u32, order: u32) -> Work {
    vec![
        ("BEGIN".into(), "BEGIN", b'T'),
        (format!("SELECT item FROM c_{number}.orders WHERE id = {order}"), "SELECT 1", b'T'),
        (format!("INSERT INTO visits (ref) VALUES ({order})"), "INSERT 0 1", b'T'),
        ("COMMIT".into(), "COMMIT", b'I'),
    ]
}

fn named(tenant: usize, order: u32) -> Work {
    vec![(format!("SELECT item FROM {}.orders WHERE id = {order}", TENANTS[tenant]), "SELECT 1", b'I')]
}

/// Whose uses of a connection were told, at medium or above.
fn told(seen: &Seen) -> BTreeSet<(&'static str, String)> {
    let told = seen.findings.iter().filter(|f| f.severity >= Severity::Medium);
    told.map(|f| (f.rule, f.tenants.used.clone().unwrap_or_default())).collect()
}

#[test]
fn with_several_in_flight_each_ones_own_schema_by_number_is_no_crossing() {
    // Both in flight at once, on one connection: what is known of either is known when both are answered.
    let mut scene = Scene::new(1);
    for i in 0..60 {
        let orders = [0, 1].map(|tenant| scene.arrive(tenant));
        for tenant in [i % 2, (i + 1) % 2] {
            scene.work(0, &numbered(NUMBERS[tenant], orders[tenant]));
        }
        scene.answer(1, orders[1]);
        scene.answer(0, orders[0]);
        scene.script.steps.push(Step::Wait { millis: 3 });
    }
    let steps = scene.script.steps;
    let seen = all(&steps);
    assert!(
        seen.operations.iter().any(|o| o.contains("INSERT visits") && o.contains("globex")),
        "{:#?}",
        seen.operations
    );
    assert_eq!(told(&seen), BTreeSet::new(), "{:#?}", seen.operations);
    for lost in (0..steps.len()).step_by(11) {
        assert_eq!(told(&play(&steps, |i| i != lost, false)), BTreeSet::new(), "without event {lost}");
    }
}

#[test]
fn schemas_that_both_use_alike_re_validate_nothing() {
    let mut scene = Scene::new(1);
    scene.one_at_a_time(60, |_, order, i| numbered(NUMBERS[i / 2 % 2], order));
    let both = BTreeSet::from([(REUSE, "acme".to_owned()), (REUSE, "globex".to_owned())]);
    assert_eq!(told(&all(&scene.script.steps)), both);
}

/// Two requests of globex' at once, and one of acme's beside them if `beside`; one of globex' is answered out of acme's
/// schema.
fn anothers_schema(beside: bool) -> Seen {
    let mut scene = Scene::new(1);
    scene.one_at_a_time(60, |tenant, order, _| named(tenant, order));
    let further = scene.script.connect(GLOBEX, super::shared_service::SERVICE, 42_000, 8080);
    for _ in 0..4 {
        let own = beside.then(|| scene.arrive(0));
        let first = scene.arrive(1);
        scene.order += 1;
        let second = scene.order;
        scene.script.send(further, 0, super::shared_service::get(second));
        scene.work(0, &named(0, first));
        scene.work(0, &named(1, second));
        scene.answer(1, first);
        scene.script.send(further, 1, super::shared_service::ok(second));
        if let Some(order) = own {
            scene.answer(0, order);
        }
        scene.script.steps.push(Step::Wait { millis: 20 });
    }
    scene.script.steps.push(Step::Wait { millis: 500 });
    all(&scene.script.steps)
}

#[test]
fn a_statement_in_anothers_schema_is_told_where_two_guesses_agree_for_whom_it_is() {
    let seen = anothers_schema(false);
    let found = worst(&seen, STALE).map(|(class, severity)| (class, severity >= Severity::Medium));
    assert_eq!(found, Some((EvidenceClass::Inferred, true)), "{:#?}", seen.operations);
    assert!(told(&seen).iter().all(|(_, used)| used == "globex"), "{:?}", told(&seen));
    // One guess against what the application says itself is not enough.
    let seen = anothers_schema(true);
    assert_eq!(worst(&seen, STALE), None, "{:#?}", seen.operations);
}
