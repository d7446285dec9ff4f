//! Secrets of TLS handshakes.

use monitor::capture::ebpf::SecretProbes;
use monitor::tls::{Attacher, Shared};

use super::*;

/// What the probe is told is what the library would have written to a key-log file, had anybody asked: of TLS 1.3 and 1.2,
/// at both ends, and of no process that is not to be asked.
#[test]
fn secrets_of_handshakes_are_those_of_the_key_log() -> Result<()> {
    let _alone = alone();
    let tree = Tree::new("leasewarden-live-tls")?;
    let (asked, other) = (tree.dir("asked")?, tree.dir("other")?);
    let dir = std::env::temp_dir().join(format!("leasewarden-live-tls-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let file = |name: &str| dir.join(name).display().to_string();
    let (key, certificate, log_file) = (file("key.pem"), file("cert.pem"), file("keys"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", &key, "-out"])
        .arg(&certificate)
        .output()?;
    ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));

    let config = CaptureConfig { scope_cgroup: Some(tree.root().to_owned()), ..CaptureConfig::default() };
    let (probes, maps) = SecretProbes::load(64)?;
    let (orders, obeyed) = std::sync::mpsc::sync_channel(64);
    let attacher = Attacher::new(probes, Shared::default());
    let thread = std::thread::spawn(move || attacher.work(&obeyed));
    let mut source = LiveSource::open(config, Box::new(|_| true))?;
    source.read_secrets(maps, orders)?;
    let hierarchy = Hierarchy::find()?;
    let id = hierarchy.path_of(&asked).and_then(|path| hierarchy.id(&path)).context("no such cgroup")?;
    let mut log = Log::default();
    settle(&mut source, &mut log)?;
    source.set_tls(id, true);

    let port = tests::lab::net::free_port()?.to_string();
    let server = |dir: &Path| {
        inside(dir, || {
            Ok(Command::new("openssl")
                .args(["s_server", "-quiet", "-accept", &port, "-key", &key, "-cert", &certificate])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?)
        })
    };
    let client = |dir: &Path, version: &str| -> Result<()> {
        let done = inside(dir, || {
            Ok(Command::new("openssl")
                .args(["s_client", version, "-connect", &format!("127.0.0.1:{port}"), "-keylogfile", &log_file])
                .stdin(Stdio::null())
                .output()?)
        })?;
        ensure!(done.status.success(), "s_client: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    };
    let result = (|| {
        let mut serving = server(&asked)?;
        let listening = Instant::now();
        while TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
            ensure!(listening.elapsed() < Duration::from_secs(10), "s_server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        // Everybody's turn comes within a second.
        let until = Instant::now() + Duration::from_millis(2500);
        while Instant::now() < until {
            source.poll(Duration::from_millis(50), &mut |e| log.event(&e))?;
        }
        // The client's cgroup is not asked: each secret comes once, from the server.
        client(&other, "-tls1_3")?;
        client(&other, "-tls1_2")?;
        gather(&mut source, &mut log, |log| log.secrets.len() >= 5)?;
        settle(&mut source, &mut log)?;
        serving.kill()?;
        serving.wait()?;
        let mut wanted: Vec<(String, String)> = fs::read_to_string(&log_file)?
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let mut fields = line.split(' ');
                Some((fields.next()?.to_owned(), fields.nth(1)?.to_lowercase()))
            })
            .filter(|(label, _)| label != "EXPORTER_SECRET")
            .collect();
        wanted.sort();
        log.secrets.sort();
        ensure!(wanted.len() == 5, "the key log holds {wanted:?}");
        ensure!(log.secrets == wanted, "told: {:?}\nwanted: {wanted:?}", log.secrets);
        ensure!(log.lost.is_empty(), "{:?}", log.lost);
        Ok(())
    })();
    drop(source);
    let _ = thread.join();
    let _ = fs::remove_dir_all(&dir);
    result
}
