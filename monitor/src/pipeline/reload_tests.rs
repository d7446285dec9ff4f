//! Reading again: what is right is taken over whole, what is wrong changes nothing, what cannot change is named.

use std::io::Write as _;

use super::*;
use crate::metrics::Metrics;

struct Bench {
    dir: tempfile::TempDir,
    runtime: Runtime,
    reloads: mpsc::UnboundedReceiver<Reload>,
    hang_up: SyncSender<()>,
    shared: Arc<Shared>,
    _facts: mpsc::Receiver<Told>,
}

impl Bench {
    /// A configuration in a directory as a ConfigMap is mounted: `config.yaml` → `..data/config.yaml`, `..data` → a
    /// directory that is exchanged.
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared = Arc::new(Shared::new(Arc::new(Metrics::new().unwrap())));
        let this = |name: &str| dir.path().join(name);
        std::fs::create_dir(this("..v1")).unwrap();
        std::fs::write(this("..v1").join("config.yaml"), text).unwrap();
        std::os::unix::fs::symlink("..v1", this("..data")).unwrap();
        std::os::unix::fs::symlink("..data/config.yaml", this("config.yaml")).unwrap();
        let file = this("config.yaml");
        let mut read = Read::default();
        let running = Config::load_and_note(&file, now(), &mut read).unwrap();
        let (tell, facts) = mpsc::channel(16);
        let (hang_up, told) = sync_channel(1);
        let reloader = Reloader {
            file: Some(file),
            running,
            wanted: Wanted::default(),
            origin: Origin::default(),
            asking: Vec::new(),
            tell,
            runtime: runtime.handle().clone(),
            shared: shared.clone(),
        };
        let reloads = reloader.start(read, told).unwrap();
        Self { dir, runtime, reloads, hang_up, shared, _facts: facts }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The kubelet's way: a new directory, a link to it beside the old one, moved over that.
    fn swap(&self, name: &str, text: &str) {
        std::fs::create_dir(self.path(name)).unwrap();
        std::fs::write(self.path(name).join("config.yaml"), text).unwrap();
        std::os::unix::fs::symlink(name, self.path("..data_tmp")).unwrap();
        std::fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
    }

    fn next(&mut self) -> Reload {
        self.runtime.block_on(self.reloads.recv()).unwrap()
    }

    fn metric(&self, line: &str) -> bool {
        self.shared.metrics().render().unwrap().lines().any(|l| l.starts_with(line))
    }

    /// Waits until a metric says so.
    fn until(&self, line: &str) {
        while !self.metric(line) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn names(reload: &Reload) -> Vec<&str> {
    reload.config.as_ref().map_or(Vec::new(), |c| c.settings.tenants.iter().map(|t| t.name.as_str()).collect())
}

#[test]
fn a_swapped_link_a_written_file_and_a_signal_are_all_noticed() {
    let mut bench = Bench::new("version: 1\ntenants: [{ name: acme }]\n");
    assert!(bench.metric("leasewarden_config_last_reload_successful 1"));
    bench.swap("..v2", "version: 1\ntenants: [{ name: globex }]\n");
    let reload = bench.next();
    assert_eq!((names(&reload), reload.reopen), (vec!["globex"], false));
    // Written in place, in two pieces: what is not whole yet is wrong, and then right.
    let mut file = std::fs::OpenOptions::new().append(true).open(bench.path("config.yaml")).unwrap();
    file.write_all(b"suppress:\n  - { rule: response-desync, reason: x, until: ").unwrap();
    file.write_all(b"2999-01-01 }\n").unwrap();
    drop(file);
    let reload = bench.next();
    assert_eq!(reload.config.as_ref().unwrap().settings.suppress.len(), 1);
    // A signal reads again although nothing has changed, and opens files anew.
    bench.hang_up.send(()).unwrap();
    let reload = bench.next();
    assert_eq!((names(&reload), reload.reopen), (vec!["globex"], true));
    assert!(bench.metric("leasewarden_config_reloads_total{result=\"success\"} 4"));
}

#[test]
fn a_broken_configuration_keeps_the_old_one_and_is_told() {
    let mut bench = Bench::new("version: 1\ntenants: [{ name: acme }]\n");
    let hash = bench.shared.metrics().render().unwrap();
    let hash = hash.lines().find(|l| l.starts_with("leasewarden_config_hash")).unwrap().to_owned();
    bench.swap(
        "..v2",
        "version: 1\ntenant: oops\nsuppress: [{ rule: response-desync, reason: x, until: 2999-01-01 }]\n",
    );
    bench.until("leasewarden_config_last_reload_successful 0");
    assert!(bench.metric("leasewarden_config_reloads_total{result=\"failure\"} 1"));
    assert!(bench.metric(&hash), "the hash is that of the configuration in force");
    assert!(bench.reloads.try_recv().is_err(), "nothing of it is taken over");
    // Asked by a signal: files of findings are opened anew all the same.
    bench.hang_up.send(()).unwrap();
    let reload = bench.next();
    assert!(reload.config.is_none() && reload.reopen);
    // A file of findings that cannot be opened is as wrong as anything.
    bench.swap("..v3", "version: 1\nexport: { findings: /nonexistent/leasewarden/f.jsonl }\n");
    bench.until("leasewarden_config_reloads_total{result=\"failure\"} 3");
    assert!(bench.reloads.try_recv().is_err());
    bench.swap("..v4", "version: 1\ntenants: [{ name: globex }]\n");
    assert_eq!(names(&bench.next()), ["globex"]);
    assert!(bench.metric("leasewarden_config_last_reload_successful 1") && !bench.metric(&hash));
}

#[test]
fn files_that_the_configuration_names_are_watched_too() {
    let canary = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(canary.path(), "canary-acme-0001\n").unwrap();
    let path = canary.path().display();
    let mut bench = Bench::new(&format!("version: 1\ncanaries: [{{ tenant: acme, value_file: {path} }}]\n"));
    std::fs::write(canary.path(), "canary-acme-0002\n").unwrap();
    let reload = bench.next();
    assert_eq!(reload.config.unwrap().settings.canaries[0].value, "canary-acme-0002");
}

#[test]
fn what_cannot_change_is_named_and_kept() {
    let parse = |text: &str| Config::parse(text, now()).unwrap();
    let old = parse("version: 1\nattribution: { bases: { same-thread: false } }\n");
    let new = parse(
        "version: 1\n\
         limits: { flows: 50, ring_kb: 4, memory_mb: 64, nice: 3 }\nuser: nobody\ntls: { enabled: true }\n\
         export: { listen: \"127.0.0.1:1\", otlp: { endpoint: \"http://127.0.0.1:4318\" }, show: { keys: [\"cart:*\"] }, cluster: prod }\n\
         identity:\n  containers: { docker: off, cri: off, tenant_labels: [x] }\n  \
         kubernetes: { enabled: off, node: n, kubeconfig: k, remote_pods: true, tenant: [{ pod_label: y }] }\n",
    );
    let mut expected: Vec<&str> = FIXED.iter().map(|(name, _)| *name).collect();
    expected.push("attribution.bases.same-thread");
    assert_eq!(fixed(&old, &new), expected);
    assert!(asks_anew(&old.identity, &new.identity));
    let settled = settled(&old, new);
    assert_eq!(fixed(&old, &settled), Vec::<&str>::new());
    // What can is taken over.
    assert_eq!((settled.settings.limits.memory, settled.cluster.as_deref()), (64 << 20, Some("prod")));
    assert_eq!(settled.identity.containers.labels.tenant, ["x"]);
    assert_eq!(settled.identity.kubernetes.tenant.len(), 1);
}
