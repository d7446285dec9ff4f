//! Files that come, change and go, in a `/proc` that is made up.

use std::cell::RefCell;
use std::fs;
use std::rc::Rc;

use super::*;
use crate::tls::find::tests::sample;

/// Where probes are now, and what is refused.
#[derive(Default)]
struct Seen {
    attached: Vec<PathBuf>,
    tried: usize,
    refuses: bool,
    /// This process ends just before a probe is put where it runs.
    ends: Option<PathBuf>,
    calls: Vec<(Call, Calls)>,
}

#[derive(Clone, Default)]
struct Fake(Rc<RefCell<Seen>>);

struct Link(Rc<RefCell<Seen>>, PathBuf);

impl Drop for Link {
    fn drop(&mut self) {
        let attached = &mut self.0.borrow_mut().attached;
        let at = attached.iter().position(|p| *p == self.1).unwrap();
        attached.remove(at);
    }
}

impl Prober for Fake {
    type Attached = Link;

    fn attach(&mut self, path: &Path, _found: &Found) -> Result<Link, String> {
        let mut seen = self.0.borrow_mut();
        seen.tried += 1;
        if let Some(process) = seen.ends.take() {
            fs::remove_dir_all(process).unwrap();
            return Err("No such file or directory".to_owned());
        }
        if seen.refuses {
            return Err("Permission denied".to_owned());
        }
        seen.attached.push(path.to_owned());
        drop(seen);
        Ok(Link(self.0.clone(), path.to_owned()))
    }

    fn calls(&self) -> Vec<(Call, Calls)> {
        self.0.borrow().calls.clone()
    }
}

struct Scene {
    dir: tempfile::TempDir,
    fake: Fake,
    attacher: Attacher<Fake>,
    now: Instant,
}

const GROUP: CgroupId = CgroupId(7);

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake::default();
        let mut attacher = Attacher::new(fake.clone(), Shared::default());
        attacher.proc = Proc::at(dir.path().join("proc"));
        fs::create_dir_all(dir.path().join("cgroup")).unwrap();
        let mut scene = Self { fake, attacher, now: Instant::now(), dir };
        scene.members(&[]);
        scene.attacher.obey(Order::Watch(GROUP, scene.dir.path().join("cgroup")));
        scene
    }

    fn members(&mut self, pids: &[u32]) {
        let text: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
        fs::write(self.dir.path().join("cgroup/cgroup.procs"), text).unwrap();
    }

    /// A process, and what it has mapped: paths with inodes.
    fn process(&self, pid: u32, mapped: &[(&str, u64)]) {
        let dir = self.dir.path().join("proc").join(pid.to_string());
        fs::create_dir_all(dir.join("root")).unwrap();
        fs::write(dir.join("comm"), "python3\n").unwrap();
        fs::write(dir.join("stat"), format!("{pid} (python3) S 1 {} 4711 0", "0 ".repeat(17).trim())).unwrap();
        let maps: String =
            mapped.iter().map(|(path, inode)| format!("1000-2000 r-xp 00000000 08:02 {inode}   {path}\n")).collect();
        fs::write(dir.join("maps"), maps).unwrap();
    }

    /// A file as a process sees it.
    fn file(&self, pid: u32, path: &str, bytes: &[u8]) -> PathBuf {
        let at = self.dir.path().join("proc").join(pid.to_string()).join("root").join(path.trim_start_matches('/'));
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(&at, bytes).unwrap();
        at
    }

    fn round(&mut self) -> Status {
        self.now += Duration::from_secs(60);
        self.attacher.round(self.now);
        self.attacher.status()
    }

    fn attached(&self) -> usize {
        self.fake.0.borrow().attached.len()
    }
}

#[test]
fn a_file_is_probed_once_however_many_run_it_and_as_long_as_somebody_does() {
    let mut s = Scene::new();
    for pid in [10, 11] {
        s.process(pid, &[("/lib/libssl.so.3", 5), ("/lib/libc.so.6", 6)]);
        s.file(pid, "/lib/libssl.so.3", &sample(true));
        s.file(pid, "/lib/libc.so.6", b"no ELF at all");
    }
    s.members(&[10, 11]);
    let status = s.round();
    assert_eq!((s.attached(), status.probes, status.processes), (1, 1, 2));
    assert_eq!(status.files.len(), 1, "files without TLS are not told: {status:?}");
    assert_eq!(status.files[0].processes, (vec!["python3".to_owned()], 2));
    s.members(&[11]);
    assert_eq!((s.round().processes, s.attached()), (1, 1));
    s.members(&[]);
    assert_eq!((s.round().processes, s.attached()), (0, 0));
}

/// A client that is started again and again finds the probe in place.
#[test]
fn a_probe_stays_for_a_little_when_nobody_is_left() {
    let mut s = Scene::new();
    s.process(10, &[("/app", 5)]);
    s.file(10, "/app", &sample(true));
    s.members(&[10]);
    s.round();
    s.members(&[]);
    s.attacher.round(s.now + Duration::from_secs(5));
    assert_eq!((s.attached(), s.attacher.status().files.len()), (1, 0));
    s.attacher.round(s.now + LINGER);
    assert_eq!(s.attached(), 0);
}

#[test]
fn a_library_that_is_loaded_later_is_found_at_the_next_connection() {
    let mut s = Scene::new();
    s.process(10, &[]);
    s.members(&[10]);
    s.round();
    assert_eq!(s.attached(), 0);
    s.file(10, "/lib/libssl.so.3", &sample(true));
    s.process(10, &[("/lib/libssl.so.3", 5)]);
    // So soon nobody looks again by himself.
    s.attacher.round(s.now + Duration::from_millis(500));
    assert_eq!(s.attached(), 0);
    let id = s.attacher.obey(Order::Look(GROUP)).unwrap();
    s.attacher.look(id, s.now + Duration::from_millis(500), SOON);
    assert_eq!(s.attached(), 1);
}

#[test]
fn a_file_that_is_replaced_or_written_to_is_looked_at_again() {
    let mut s = Scene::new();
    s.process(10, &[("/app", 5)]);
    let at = s.file(10, "/app", &sample(true));
    s.members(&[10]);
    s.round();
    assert_eq!((s.attached(), s.fake.0.borrow().tried), (1, 1));
    s.round();
    assert_eq!(s.fake.0.borrow().tried, 1, "the same file");
    // Another inode, mapped by a process that came of it.
    s.process(10, &[("/app", 6)]);
    s.round();
    assert_eq!((s.attached(), s.fake.0.borrow().tried), (1, 2));
    // Written to in its place: what was found is not where it was.
    fs::write(&at, sample(false)).unwrap();
    let status = s.round();
    assert_eq!((s.attached(), status.files[0].reason), (0, Some(Reason::Ambiguous)));
}

#[test]
fn what_cannot_be_read_is_told_with_its_reason() {
    let mut s = Scene::new();
    s.fake.0.borrow_mut().refuses = true;
    s.process(10, &[("/lib/libssl.so.3", 5), ("/lib/two.so", 6), ("/jvm/libjvm.so", 7)]);
    s.file(10, "/lib/libssl.so.3", &sample(true));
    s.file(10, "/lib/two.so", &sample(false));
    s.file(10, "/jvm/libjvm.so", b"java");
    s.members(&[0, 10]);
    let status = s.round();
    let reasons: Vec<_> = status.files.iter().map(|f| (f.path.as_str(), f.reason)).collect();
    assert_eq!(
        reasons,
        [
            ("/lib/libssl.so.3", Some(Reason::Refused)),
            ("/lib/two.so", Some(Reason::Ambiguous)),
            ("libjvm.so", Some(Reason::Java)),
        ]
    );
    assert!(status.files[0].problem.as_ref().unwrap().contains("CAP_SYS_ADMIN"));
    let all = [Reason::Java, Reason::Ambiguous, Reason::Refused].map(|r| (GROUP, r));
    assert_eq!(status.blind, all);
    assert!(status.problem.unwrap().contains("hostPID"), "a process of another PID namespace");
}

#[test]
fn who_ends_while_he_is_looked_at_is_no_failure() {
    let mut s = Scene::new();
    s.process(10, &[("/app", 5)]);
    s.file(10, "/app", &sample(true));
    s.members(&[10]);
    s.fake.0.borrow_mut().ends = Some(s.dir.path().join("proc/10"));
    let status = s.round();
    assert_eq!((s.attached(), status.files, status.blind), (0, vec![], vec![]));
    s.process(11, &[("/app", 5)]);
    s.file(11, "/app", &sample(true));
    s.members(&[11]);
    s.round();
    assert_eq!(s.attached(), 1);
}

#[test]
fn nobody_is_looked_at_who_is_not_to_be() {
    let mut s = Scene::new();
    s.process(10, &[("/lib/libssl.so.3", 5)]);
    s.file(10, "/lib/libssl.so.3", &sample(true));
    s.members(&[10]);
    s.round();
    assert_eq!(s.attached(), 1);
    s.attacher.obey(Order::Forget(GROUP));
    assert_eq!((s.round().processes, s.attached()), (0, 0));
}

#[test]
fn a_probe_that_is_hit_and_told_nothing_is_taken_away() {
    let mut s = Scene::new();
    for (pid, inode) in [(10, 5), (11, 6)] {
        s.process(pid, &[("/app", inode)]);
        s.file(pid, "/app", &sample(true));
    }
    s.members(&[10, 11]);
    s.round();
    assert_eq!(s.attached(), 2);
    let begins = s.attacher.files[&(8 << 32 | 2, 5)].found[0].offset;
    let call = |process, page: u64, with_label, other| {
        let at = 0x7f00_0000_0000 + page * 4096 + begins % 4096;
        (Call { at, process, reserved: 0 }, Calls { with_label, other })
    };
    // Too few; beside some that are right; of another function of the same process; of a process that is not known.
    let other = (Call { at: begins + 1, process: 10, reserved: 0 }, Calls { with_label: 0, other: 1_000 });
    s.fake.0.borrow_mut().calls = vec![call(10, 1, 0, 63), call(11, 2, 1, 1_000_000), other, call(12, 1, 0, 1_000)];
    s.round();
    assert_eq!(s.attached(), 2);
    s.fake.0.borrow_mut().calls = vec![call(10, 1, 0, 64), call(11, 2, 1, 64)];
    let status = s.round();
    assert_eq!((s.attached(), status.probes), (1, 1));
    let reasons: Vec<_> = status.files.iter().map(|f| f.reason).collect();
    assert_eq!(reasons, [None, Some(Reason::Silent)]);
    assert_eq!(status.blind, [(GROUP, Reason::Silent)]);
    // Nor is it probed again when somebody runs it later, unless it is another file.
    s.members(&[11]);
    s.round();
    s.fake.0.borrow_mut().calls.clear();
    s.members(&[10, 11]);
    assert_eq!((s.round().probes, s.attached()), (1, 1));
    let at = s.dir.path().join("proc/10/root").join("app");
    fs::write(&at, [sample(true), vec![0]].concat()).unwrap();
    s.process(10, &[("/app", 7)]);
    assert_eq!(s.round().probes, 2);
}
