//! Containers by the API of Docker, which Podman speaks, too: a list, then events, over a Unix socket.
//!
//! Plain HTTP over `hyper` with just the fields that count: a full client's strict models fail on the whole list where
//! one container has a state that they do not know (Podman's `configured`), and bound nothing that they read.
//! Paths without a version: every daemon takes them for its own (Docker 1.12 to 29, Podman 4).

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;

use super::facts::{ContainerFact, Fact, printable};
use super::owner;
use super::settings::LabelRules;
use super::sources::{Backoff, Teller};

/// Largest answer read.
const MAX_ANSWER: usize = 64 << 20;
/// Longest line of an event.
const MAX_LINE: usize = 1 << 20;
/// Longest time for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often everything is listed again, should an event have been missed.
const RELIST: Duration = Duration::from_secs(300);
/// Shortest time between lists that somebody waits for.
const POKED: Duration = Duration::from_millis(100);

/// What `GET /containers/json` lists.
#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "Names", default)]
    names: Option<Vec<String>>,
    #[serde(rename = "Image", default)]
    image: Option<String>,
    #[serde(rename = "Labels", default)]
    labels: Option<HashMap<String, String>>,
}

/// What `GET /containers/{id}/json` tells.
#[derive(Debug, Deserialize)]
struct Inspected {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "Config", default)]
    config: Option<InspectedConfig>,
}

#[derive(Debug, Default, Deserialize)]
struct InspectedConfig {
    #[serde(rename = "Image", default)]
    image: Option<String>,
    #[serde(rename = "Labels", default)]
    labels: Option<HashMap<String, String>>,
}

/// One line of `GET /events`.
#[derive(Debug, Deserialize)]
struct Happened {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(rename = "Action", default)]
    action: String,
    #[serde(rename = "Actor", default)]
    actor: Actor,
}

#[derive(Debug, Default, Deserialize)]
struct Actor {
    #[serde(rename = "ID", default)]
    id: String,
}

/// Why the daemon could not be asked.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silent,
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("an answer that is too long or no JSON: {0}")]
    Answer(String),
    #[error("the daemon has ended its events")]
    Ended,
    #[error("the agent stops")]
    Stop,
}

/// Follows the containers of the daemon behind `socket`.
pub(super) async fn watch(socket: PathBuf, labels: LabelRules, teller: Teller) {
    let daemon = Daemon { socket, labels };
    let mut backoff = Backoff::new();
    loop {
        match daemon.session(&teller, &mut backoff).await {
            Err(Failed::Stop) | Ok(()) => return,
            Err(why) => {
                if !teller.stale(why.to_string()).await {
                    return;
                }
            }
        }
        tokio::time::sleep(backoff.next().unwrap_or(POKED)).await;
    }
}

struct Daemon {
    socket: PathBuf,
    labels: LabelRules,
}

impl Daemon {
    async fn session(&self, teller: &Teller, backoff: &mut Backoff) -> Result<(), Failed> {
        // Events first: what happens while the list is read is told after it.
        let mut events = get(&self.socket, "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D").await?;
        self.list(teller).await?;
        *backoff = Backoff::new();
        let mut line: Vec<u8> = Vec::new();
        let mut relist = tokio::time::interval(RELIST);
        relist.tick().await;
        loop {
            tokio::select! {
                piece = events.piece() => {
                    let bytes = piece?.ok_or(Failed::Ended)?;
                    for piece in bytes.split_inclusive(|b| *b == b'\n') {
                        line.extend_from_slice(piece);
                        if line.len() > MAX_LINE {
                            return Err(Failed::Answer("an event of more than 1 MiB".to_owned()));
                        }
                        if line.ends_with(b"\n") {
                            self.event(&line, teller).await?;
                            line.clear();
                        }
                    }
                }
                () = teller.poke.notified() => {
                    self.list(teller).await?;
                    tokio::time::sleep(POKED).await;
                }
                _ = relist.tick() => self.list(teller).await?,
            }
        }
    }

    async fn list(&self, teller: &Teller) -> Result<(), Failed> {
        let listed: Vec<Listed> = ask(&self.socket, "/containers/json?all=true").await?;
        let mut ids = HashSet::with_capacity(listed.len());
        for c in listed {
            let name = c.names.as_deref().unwrap_or_default().first().cloned().unwrap_or_default();
            ids.insert(c.id.clone());
            let image = c.image.unwrap_or_default();
            let fact = self.fact(c.id, &name, &image, &c.labels.unwrap_or_default());
            tell(teller, Fact::Container(fact)).await?;
        }
        tell(teller, Fact::All(ids)).await?;
        if teller.synced().await { Ok(()) } else { Err(Failed::Stop) }
    }

    /// A line that cannot be read is no reason to stop: the next list has what it told of.
    async fn event(&self, line: &[u8], teller: &Teller) -> Result<(), Failed> {
        let Ok(event) = serde_json::from_slice::<Happened>(line) else { return Ok(()) };
        let id = event.actor.id;
        let plain = !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit());
        if !plain || (event.kind != "container" && !event.kind.is_empty()) {
            return Ok(());
        }
        match event.action.as_str() {
            "create" | "init" | "start" | "restart" | "rename" | "update" => {
                match ask::<Inspected>(&self.socket, &format!("/containers/{id}/json")).await {
                    Ok(c) => {
                        let config = c.config.unwrap_or_default();
                        let (image, labels) = (config.image.unwrap_or_default(), config.labels.unwrap_or_default());
                        tell(teller, Fact::Container(self.fact(c.id, &c.name, &image, &labels))).await
                    }
                    // It is gone already.
                    Err(Failed::Status(StatusCode::NOT_FOUND)) => Ok(()),
                    Err(why) => Err(why),
                }
            }
            "destroy" | "remove" => tell(teller, Fact::ContainerGone(id)).await,
            _ => Ok(()),
        }
    }

    fn fact(&self, id: String, name: &str, image: &str, labels: &HashMap<String, String>) -> ContainerFact {
        let (tenant, role) = self.labels.read(|key| labels.get(key).cloned());
        let name = name.trim_start_matches('/');
        let short = id.get(..12).unwrap_or(&id);
        let name = printable(if name.is_empty() { short } else { name });
        ContainerFact { id, name, tenant, role, owner: owner::of_container(labels, image) }
    }
}

async fn tell(teller: &Teller, fact: Fact) -> Result<(), Failed> {
    if teller.tell(fact).await { Ok(()) } else { Err(Failed::Stop) }
}

/// An answer that is still coming, with the connection that it comes on.
struct Answer {
    body: Incoming,
    /// Driven while the body is read; `None`: it has ended.
    connection: Option<Connection>,
}

type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

impl Answer {
    /// The next piece of the body; `None`: that was all.
    async fn piece(&mut self) -> Result<Option<Bytes>, Failed> {
        loop {
            let frame = match &mut self.connection {
                Some(connection) => tokio::select! {
                    biased;
                    frame = self.body.frame() => frame,
                    _ = connection => {
                        self.connection = None;
                        continue;
                    }
                },
                None => self.body.frame().await,
            };
            match frame.transpose()?.map(Frame::into_data) {
                Some(Ok(bytes)) => return Ok(Some(bytes)),
                Some(Err(_trailers)) => {}
                None => return Ok(None),
            }
        }
    }
}

/// One request on a connection of its own.
async fn get(socket: &Path, path: &str) -> Result<Answer, Failed> {
    let asked = async {
        let stream = UnixStream::connect(socket).await.map_err(Failed::Connect)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut connection: Connection = Box::pin(connection);
        let request = Request::get(path)
            .header("host", "localhost")
            .body(Empty::<Bytes>::new())
            .map_err(|e| Failed::Answer(e.to_string()))?;
        let answer = sender.send_request(request);
        let answer = tokio::select! {
            biased;
            answer = answer => answer?,
            _ = &mut connection => return Err(Failed::Ended),
        };
        Ok((answer, connection))
    };
    let (answer, connection) = tokio::time::timeout(PATIENCE, asked).await.map_err(|_| Failed::Silent)??;
    if !answer.status().is_success() {
        return Err(Failed::Status(answer.status()));
    }
    Ok(Answer { body: answer.into_body(), connection: Some(connection) })
}

/// One request, and its whole answer.
async fn ask<T: serde::de::DeserializeOwned>(socket: &Path, path: &str) -> Result<T, Failed> {
    let mut answer = get(socket, path).await?;
    let whole = async {
        let mut bytes = Vec::new();
        while let Some(piece) = answer.piece().await? {
            if bytes.len() + piece.len() > MAX_ANSWER {
                return Err(Failed::Answer(format!("more than {MAX_ANSWER} bytes")));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    };
    let bytes = tokio::time::timeout(PATIENCE, whole).await.map_err(|_| Failed::Silent)??;
    serde_json::from_slice(&bytes).map_err(|e| Failed::Answer(e.to_string()))
}

#[cfg(test)]
#[path = "docker_tests.rs"]
mod tests;
