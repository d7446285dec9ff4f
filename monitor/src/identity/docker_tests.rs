//! A scripted daemon: lists, events, a restart, nonsense.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode as Code;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::{Notify, mpsc};

use super::super::facts::{SourceId, SourceState};
use super::super::scripted::Running;
use super::super::settings::ContainersConfig;
use super::super::sources::Told;
use super::*;

/// What the daemon has, and who listens to its events.
#[derive(Default)]
struct Script {
    containers: Vec<Value>,
    events: Option<mpsc::UnboundedSender<Result<String, std::io::Error>>>,
}

type Shared = Arc<Mutex<Script>>;

fn entry(id: &str, name: &str, labels: Value) -> Value {
    // With what real daemons add, and a state that no enumeration knows.
    json!({"Id": id, "Names": [format!("/{name}")], "Labels": labels, "State": "configured", "Ports": [], "Created": 1})
}

fn serve(path: &Path, script: Shared) -> Running {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).unwrap();
    let list = async |State(s): State<Shared>| axum::Json(s.lock().unwrap().containers.clone());
    let inspect = async |UrlPath(id): UrlPath<String>, State(s): State<Shared>| {
        let s = s.lock().unwrap();
        let c = s.containers.iter().find(|c| c["Id"] == json!(id)).ok_or(Code::NOT_FOUND)?;
        Ok::<_, Code>(axum::Json(json!({"Id": id, "Name": c["Names"][0], "Config": {"Labels": c["Labels"]}})))
    };
    let events = async |State(s): State<Shared>| {
        let (tx, mut rx) = mpsc::unbounded_channel();
        s.lock().unwrap().events = Some(tx);
        Body::from_stream(futures_util::stream::poll_fn(move |cx| rx.poll_recv(cx)))
    };
    let app = Router::new()
        .route("/containers/json", get(list))
        .route("/containers/{id}/json", get(inspect))
        .route("/events", get(events))
        .with_state(script);
    Running::new(async move { drop(axum::serve(listener, app).await) })
}

fn say(script: &Shared, line: &str) {
    script.lock().unwrap().events.as_ref().unwrap().send(Ok(line.to_owned())).unwrap();
}

struct Lab {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    script: Shared,
    told: mpsc::Receiver<Told>,
    poke: Arc<Notify>,
}

fn lab() -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let (out, told) = mpsc::channel(64);
    let poke = Arc::new(Notify::new());
    let teller = Teller { id: SourceId(0), out, poke: poke.clone() };
    tokio::spawn(watch(socket.clone(), ContainersConfig::default().labels, teller));
    Lab { _dir: dir, socket, script: Shared::default(), told, poke }
}

impl Lab {
    async fn next(&mut self) -> Fact {
        tokio::time::timeout(Duration::from_secs(20), self.told.recv()).await.unwrap().unwrap().1
    }

    /// Facts up to the next that `f` is for.
    async fn until(&mut self, f: impl Fn(&Fact) -> bool) -> Fact {
        loop {
            let fact = self.next().await;
            if f(&fact) {
                return fact;
            }
        }
    }
}

fn is_synced(f: &Fact) -> bool {
    matches!(f, Fact::State(SourceState::Synced))
}

#[tokio::test]
async fn lists_follows_events_and_survives_a_restart() {
    let mut lab = lab();
    assert!(matches!(lab.next().await, Fact::State(SourceState::Stale(why)) if why.contains("cannot connect")));
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    lab.script.lock().unwrap().containers.push(entry(&a, "web", json!({"tenant": "acme"})));
    let server = serve(&lab.socket, lab.script.clone());
    let first = lab.until(|f| matches!(f, Fact::Container(_))).await;
    let Fact::Container(c) = first else { unreachable!() };
    assert_eq!((c.id.as_str(), c.name.as_str(), c.tenant.as_deref()), (a.as_str(), "web", Some("acme")));
    assert!(matches!(lab.next().await, Fact::All(ids) if ids.len() == 1));
    assert!(is_synced(&lab.next().await));

    // A container is made: it is asked for, as an event of Podman's tells no labels. The line comes in pieces.
    let role = json!({"leasewarden.io/tenant": "globex", "leasewarden.io/role": "shared"});
    lab.script.lock().unwrap().containers.push(entry(&b, "gateway", role));
    say(
        &lab.script,
        "no json at all\n{\"Type\":\"image\",\"Action\":\"create\",\"Actor\":{\"ID\":\"cc\"}}\n{\"Type\":\"contai",
    );
    say(&lab.script, &format!("ner\",\"Action\":\"create\",\"Actor\":{{\"ID\":\"{b}\"}}}}\n"));
    let Fact::Container(c) = lab.next().await else { panic!("no container") };
    assert_eq!((c.name.as_str(), c.tenant.as_deref()), ("gateway", Some("globex")));
    assert_eq!(c.role, Some(monitor_core::model::ServiceRole::Shared));

    // One that was gone before it could be asked for, and one that goes.
    say(&lab.script, "{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":\"dddddddddddd\"}}\n");
    say(&lab.script, &format!("{{\"Type\":\"container\",\"Action\":\"destroy\",\"Actor\":{{\"ID\":\"{a}\"}}}}\n"));
    assert!(matches!(lab.next().await, Fact::ContainerGone(id) if id == a));

    // The daemon goes, and comes back with less.
    lab.script.lock().unwrap().events = None;
    server.stop().await;
    assert!(matches!(lab.next().await, Fact::State(SourceState::Stale(_))));
    lab.script.lock().unwrap().containers.remove(0);
    let _server = serve(&lab.socket, lab.script.clone());
    assert!(
        matches!(lab.until(|f| matches!(f, Fact::All(_))).await, Fact::All(ids) if ids.contains(&b) && ids.len() == 1)
    );
    assert!(is_synced(&lab.next().await));
}

#[tokio::test]
async fn lists_again_when_somebody_waits() {
    let mut lab = lab();
    let _server = serve(&lab.socket, lab.script.clone());
    lab.until(is_synced).await;
    lab.script.lock().unwrap().containers.push(entry(&"e".repeat(64), "late", json!(null)));
    lab.poke.notify_one();
    let Fact::Container(c) = lab.next().await else { panic!("no container") };
    assert_eq!((c.name.as_str(), c.tenant), ("late", None));
}

#[tokio::test]
async fn an_endless_event_is_refused() {
    let mut lab = lab();
    let _server = serve(&lab.socket, lab.script.clone());
    lab.until(is_synced).await;
    say(&lab.script, &"x".repeat(MAX_LINE + 1));
    let why = lab.until(|f| matches!(f, Fact::State(SourceState::Stale(_)))).await;
    assert!(matches!(why, Fact::State(SourceState::Stale(why)) if why.contains("1 MiB")));
}
