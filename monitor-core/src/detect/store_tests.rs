//! Findings over their life: exceptions that end, replicas that share one id, age.

use super::super::testing::{A, B, SELECT, SITE, with_settings};
use super::*;
use crate::detect::rules::pool_stale_binding::PoolStaleBinding;
use crate::model::{Settings, WorkloadId};

/// Whatever is told.
#[derive(Default)]
struct Heard {
    told: Vec<(FindingEvent, Finding)>,
    silent: Vec<Finding>,
}

impl FindingSink for Heard {
    fn finding(&mut self, finding: &Finding, event: FindingEvent) {
        self.told.push((event, finding.clone()));
    }

    fn suppressed(&mut self, finding: &Finding) {
        self.silent.push(finding.clone());
    }
}

fn hit(at: Nanos, subject: Sym) -> Hit {
    Hit {
        rule: "pool-stale-binding",
        severity: Severity::Critical,
        class: EvidenceClass::Wire,
        corroborated: None,
        at,
        site: SITE,
        subject,
        used: Some(B),
        bound: Some(A),
        steps: SmallVec::new(),
    }
}

fn add(store: &mut Store, hit: &Hit, heard: &mut Heard) -> Option<Severity> {
    with_settings(&[], Settings::default(), |world| store.add(hit, &PoolStaleBinding, world, heard))
}

fn flush(store: &mut Store, now: Nanos, ended: bool, heard: &mut Heard) {
    with_settings(&[], Settings::default(), |world| store.flush(now, ended, &[], world, heard));
}

fn until(at: Nanos) -> Suppression {
    Suppression {
        rule: "pool-stale-binding".into(),
        service: None,
        tenant: None,
        finding: None,
        reason: "being mended".into(),
        owner: Some("team-a".into()),
        ticket: None,
        until: at,
    }
}

#[test]
fn each_hit_asks_anew_whether_an_exception_holds() {
    let mut store = Store::new(Vec::new(), vec![until(Nanos::secs(100))]);
    let mut heard = Heard::default();
    assert_eq!(add(&mut store, &hit(Nanos::secs(1), Sym::EMPTY), &mut heard), None);
    assert_eq!(add(&mut store, &hit(Nanos::secs(99), Sym::EMPTY), &mut heard), None);
    assert!(heard.told.is_empty());
    assert_eq!(heard.silent[0].suppressed.as_ref().unwrap().reason, "being mended");
    assert_eq!(store.n_suppressed(), 2);
    // Its end: the next hit is a finding, told at once and as new.
    assert_eq!(add(&mut store, &hit(Nanos::secs(100), Sym::EMPTY), &mut heard), Some(Severity::Critical));
    let (event, f) = &heard.told[0];
    assert_eq!((*event, f.count, f.suppressed.is_none()), (FindingEvent::New, 3, true));
    assert!(f.message.ends_with("has expired.)"), "{}", f.message);
    assert_eq!(f.first_seen, Nanos::secs(1));
    add(&mut store, &hit(Nanos::secs(161), Sym::EMPTY), &mut heard);
    assert_eq!(heard.told[1].0, FindingEvent::Repeated);
    assert_eq!(heard.told[1].1.message.matches("expired").count(), 1);
}

#[test]
fn a_second_exception_takes_over_from_one_that_ends() {
    let mut store = Store::new(Vec::new(), vec![until(Nanos::secs(10)), until(Nanos::secs(20))]);
    let mut heard = Heard::default();
    for s in [5, 15] {
        assert_eq!(add(&mut store, &hit(Nanos::secs(s), Sym::EMPTY), &mut heard), None);
    }
    assert!(add(&mut store, &hit(Nanos::secs(25), Sym::EMPTY), &mut heard).is_some());
}

#[test]
fn exceptions_decided_later_hold_for_what_is_held() {
    let mut store = Store::new(Vec::new(), Vec::new());
    let mut heard = Heard::default();
    add(&mut store, &hit(Nanos::secs(1), Sym::EMPTY), &mut heard);
    store.decide(Vec::new(), vec![until(Nanos::secs(1000))], Nanos::secs(2));
    assert!(store.iter().all(|f| f.suppressed.is_some()));
    assert_eq!(add(&mut store, &hit(Nanos::secs(3), Sym::EMPTY), &mut heard), None);
    flush(&mut store, Nanos::secs(900), false, &mut heard);
    assert_eq!(heard.told.len(), 1, "only what came before");
    // Taken back: told again with the next hit, and no longer as new.
    store.decide(Vec::new(), Vec::new(), Nanos::secs(901));
    add(&mut store, &hit(Nanos::secs(1000), Sym::EMPTY), &mut heard);
    assert_eq!(heard.told[1].0, FindingEvent::Repeated);
}

#[test]
fn the_oldest_quiet_finding_makes_room_and_is_counted() {
    let mut store = Store::new(Vec::new(), Vec::new());
    store.limit = 3;
    let mut heard = Heard::default();
    let mut at = Nanos::secs(1);
    // `SELECT` and what follows it in the small world's table of names are subjects of their own.
    let subject = |n: u32| Sym(SELECT.0 + n);
    for n in 0..3 {
        at = at + Nanos::secs(1);
        add(&mut store, &hit(at, subject(n)), &mut heard);
    }
    // The first happens again: the second is the one that has been quiet for longest. At the bound nothing goes.
    add(&mut store, &hit(at + Nanos::secs(1), subject(0)), &mut heard);
    assert_eq!((store.len(), store.n_aged()), (3, 0));
    add(&mut store, &hit(at + Nanos::secs(2), subject(3)), &mut heard);
    assert_eq!((store.len(), store.n_aged()), (3, 1));
    let ids: Vec<&str> = store.iter().map(|f| f.id.as_str()).collect();
    assert!(!ids.contains(&heard.told[1].1.id.as_str()) && ids.contains(&heard.told[0].1.id.as_str()));
    // It comes back: as a finding of the same id.
    let before = heard.told.len();
    add(&mut store, &hit(at + Nanos::secs(3), subject(1)), &mut heard);
    assert_eq!(heard.told[before..].iter().filter(|(e, _)| *e == FindingEvent::New).count(), 1);
    assert_eq!(heard.told.last().unwrap().1.id, heard.told[1].1.id);
    assert_eq!(store.by_id.len(), store.entries.len());
    assert!(store.quiet.len() <= store.entries.len());
}

#[test]
fn what_had_repeated_is_told_before_it_is_forgotten() {
    let mut store = Store::new(Vec::new(), Vec::new());
    store.limit = 1;
    let mut heard = Heard::default();
    add(&mut store, &hit(Nanos::secs(1), SELECT), &mut heard);
    add(&mut store, &hit(Nanos::secs(2), SELECT), &mut heard);
    add(&mut store, &hit(Nanos::secs(3), Sym(SELECT.0 + 1)), &mut heard);
    let told: Vec<_> = heard.told.iter().map(|(e, f)| (*e, f.count)).collect();
    assert_eq!(told, [(FindingEvent::New, 1), (FindingEvent::Repeated, 2), (FindingEvent::New, 1)]);
    flush(&mut store, Nanos::secs(500), true, &mut heard);
    assert_eq!(heard.told.len(), 3, "nothing is told of what is gone");
}

/// A world of pods: two replicas of a Deployment before a rollout and two after, and one of another Deployment.
fn ids_of(owners: &[Option<(&str, &str, &str)>]) -> Vec<String> {
    use crate::model::{Directory, Interner, Missed, Owner, TenantTable, Workload};
    let mut names = Interner::new(64);
    let mut directory = Directory::default();
    let mut tenants = TenantTable::default();
    tenants.intern("acme");
    tenants.intern("globex");
    for (i, owner) in owners.iter().enumerate() {
        let pod = names.intern(&format!("web-{i}"));
        let owner = owner.map(|(kind, namespace, name)| Owner {
            kind: names.intern(kind),
            namespace: names.intern(namespace),
            name: names.intern(name),
            pod,
        });
        let name = names.intern(&format!("shop/web-{i}"));
        let cgroup = names.intern(&format!("/kubepods/pod{i}/{i}"));
        directory.workload(Workload { name, cgroup, tenant: None, conflicting: false, bare: false, role: None, owner });
    }
    #[derive(Debug)]
    struct Nobody;
    impl crate::detect::ServerSet for Nobody {
        fn serves(&self, _: WorkloadId) -> bool {
            false
        }
    }
    let (settings, missed) = (Settings::default(), Missed::default());
    let world = World {
        services: &[],
        directory: &directory,
        tenants: &tenants,
        names: &names,
        servers: &Nobody,
        settings: &settings,
        missed: &missed,
    };
    let mut store = Store::new(Vec::new(), Vec::new());
    let mut heard = Heard::default();
    let mut ids = Vec::new();
    for i in 0..owners.len() {
        let mut h = hit(Nanos::secs(1 + i as u64 * 100), Sym::EMPTY);
        h.site.service = None;
        h.site.workload = Some(WorkloadId(u32::try_from(i).unwrap()));
        store.add(&h, &PoolStaleBinding, &world, &mut heard);
        ids.push(heard.told.last().unwrap().1.id.clone());
        // However often it comes, and on whichever replica, it is told as new once.
        store.add(&h, &PoolStaleBinding, &world, &mut heard);
    }
    let news: Vec<_> = heard.told.iter().filter(|(e, _)| *e == FindingEvent::New).map(|(_, f)| &f.id).collect();
    assert_eq!(news.iter().collect::<BTreeSet<_>>().len(), news.len(), "an id is new once");
    ids
}

#[test]
fn replicas_and_successors_share_an_id_and_others_do_not() {
    let web = Some(("Deployment", "shop", "web"));
    let ids = ids_of(&[
        web,
        web,
        web,
        Some(("Deployment", "shop", "api")),
        Some(("Deployment", "other", "web")),
        Some(("StatefulSet", "shop", "web")),
        None,
        None,
    ]);
    assert_eq!((&ids[0], &ids[0]), (&ids[1], &ids[2]));
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 6);
}
