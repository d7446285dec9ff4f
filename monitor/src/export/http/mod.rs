//! The agent's HTTP server, read-only: `export.listen`, and a Unix socket beside it, `export.socket`.
//!
//! Whoever reaches the port may try to hold connections or memory. [`connections`] bounds how many there are and how
//! long each may take, hyper bounds what is read of one, [`access`] says who may read what tells of tenants.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

mod access;
mod connections;
mod query;
mod routes;
mod socket;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;
mod watched;

pub use access::{MIN_TOKEN, check_tokens};
pub use tls::check as check_tls;

use super::store::Shared;
use access::{Gate, Who};
use connections::{Connections, Origin};
use tls::Acceptor;

/// How long accepting pauses after an error such as too many open files, which does not end by itself at once.
const PAUSE: Duration = Duration::from_millis(100);
/// How often connections that take too long are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

/// The files of TLS, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and those that lead from it to a root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities whose clients may read everything; `None`: certificates are not asked for.
    pub client_ca: Option<PathBuf>,
}

/// Where and to whom it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpConfig {
    /// Address and port; `None`: none.
    pub listen: Option<SocketAddr>,
    /// Unix socket; `None`: none.
    pub socket: Option<PathBuf>,
    /// Certificates of the address; `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// File with the tokens that open everything, one a line.
    pub token_file: Option<PathBuf>,
}

impl HttpConfig {
    /// Whether something on the address would open what tells of tenants to somebody from elsewhere.
    pub fn opens_to_others(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| self.token_file.is_some() || tls.client_ca.is_some())
    }
}

/// It cannot be listened there, or with these certificates.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {place}: {problem}; {remedy}")]
pub struct ListenError {
    place: String,
    problem: String,
    remedy: &'static str,
}

/// A server that has its places and does not answer yet.
#[derive(Debug)]
pub struct Server {
    tcp: Option<TcpListener>,
    unix: Option<(UnixListener, socket::Unlink)>,
    acceptor: Option<Acceptor>,
    gate: Arc<Gate>,
}

impl Server {
    /// Takes the places. Done before anything is attached, so that a clash costs nothing.
    ///
    /// # Errors
    /// A place is in use, not this host's, or not permitted; or a certificate cannot be used.
    pub fn bind(config: &HttpConfig) -> Result<Self, ListenError> {
        let tcp = config.listen.map(listen).transpose()?;
        let unix = config.socket.as_deref().map(at_path).transpose()?;
        let failed = |place: &Path, problem: String, remedy| ListenError {
            place: format!("{} with {}", config.listen.map_or_else(String::new, |a| a.to_string()), place.display()),
            problem,
            remedy,
        };
        let acceptor = match &config.tls {
            Some(files) => Some(Acceptor::new(files.clone()).map_err(|(file, why)| {
                failed(&file, why, "`leasewarden check` tells what the files under `export.tls` must hold")
            })?),
            None => None,
        };
        Ok(Self { tcp, unix, acceptor, gate: Arc::new(Gate::new(config)) })
    }

    /// The address it has, if any: with the port that the system chose where none was given.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref()?.local_addr().ok()
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.acceptor.is_some() { "https" } else { "http" }
    }

    /// Serves until `stop` resolves.
    ///
    /// # Errors
    /// A listener cannot be used.
    pub async fn serve(self, shared: Arc<Shared>, stop: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let (ending, ended) = watch::channel(false);
        let talk = Talk {
            router: routes::router(shared.clone(), self.gate),
            connections: Connections::new(shared.metrics().clone()),
            ended,
        };
        let tcp = self.tcp.map(tokio::net::TcpListener::from_std).transpose()?;
        let (unix, _unlink) = match self.unix {
            Some((listener, unlink)) => (Some(tokio::net::UnixListener::from_std(listener)?), Some(unlink)),
            None => (None, None),
        };
        let mut sweep = tokio::time::interval(SWEEP);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = sweep.tick() => talk.connections.sweep(Instant::now()),
                accepted = accept_tcp(tcp.as_ref()) => match accepted {
                    Ok((stream, peer)) => talk.over_tcp(stream, peer, self.acceptor.as_ref()),
                    Err(error) => pause(&error).await,
                },
                accepted = accept_unix(unix.as_ref()) => match accepted {
                    Ok(stream) => talk.begin(stream, Origin::Here, Who::Here),
                    Err(error) => pause(&error).await,
                },
            }
        }
        // Answers that are under way are finished, for as long as the runtime lives on.
        let _ = ending.send(true);
        while !talk.connections.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

async fn accept_tcp(listener: Option<&tokio::net::TcpListener>) -> io::Result<(tokio::net::TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn accept_unix(listener: Option<&tokio::net::UnixListener>) -> io::Result<tokio::net::UnixStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// A connection that was given up before it was accepted costs nothing; anything else would come again at once.
async fn pause(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::debug!("cannot accept a connection: {error}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// What every connection of a server shares.
struct Talk {
    router: axum::Router,
    connections: Connections,
    ended: watch::Receiver<bool>,
}

impl Talk {
    fn over_tcp(&self, stream: tokio::net::TcpStream, peer: SocketAddr, acceptor: Option<&Acceptor>) {
        let local = stream.local_addr().map(|a| a.ip().to_canonical());
        // Both ends: proxies in front of a pod come from loopback too, to the pod's address.
        let here = peer.ip().to_canonical().is_loopback() && local.is_ok_and(|ip| ip.is_loopback());
        let origin = Origin::of(peer.ip());
        let _ = stream.set_nodelay(true);
        match acceptor {
            None => self.begin(stream, origin, if here { Who::Here } else { Who::plain() }),
            Some(acceptor) => {
                let handshake = acceptor.accept(stream);
                let mut seat = self.connections.admit(origin);
                let (router, ended) = (self.router.clone(), self.ended.clone());
                tokio::spawn(async move {
                    // Who does not get through it in time loses his seat.
                    let Some(Some((stream, certified))) = seat.while_held(handshake).await else { return };
                    let who = if here { Who::Here } else { Who::encrypted(certified) };
                    connections::converse(stream, router, who, seat, ended).await;
                });
            }
        }
    }

    fn begin<S>(&self, stream: S, origin: Origin, who: Who)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let seat = self.connections.admit(origin);
        tokio::spawn(connections::converse(stream, self.router.clone(), who, seat, self.ended.clone()));
    }
}

/// Takes an address. `[::]` means every address of the host, IPv4 ones too, whatever the system's default for that is,
/// and also where the host has no IPv6.
fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let any = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let taken = match bind(address, any) {
        Err(error) if any && is_no_ipv6(&error) => {
            bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()), false)
        }
        taken => taken,
    };
    taken.map_err(|source| {
        let remedy = match source.kind() {
            io::ErrorKind::AddrInUse => {
                "another process has it (another agent?): set `export.listen` to a free port or to `off`"
            }
            io::ErrorKind::PermissionDenied => "set `export.listen` to a port above 1023 or to `off`",
            io::ErrorKind::AddrNotAvailable => "it is no address of this host: set `export.listen` to one that is",
            _ => "set `export.listen` to another address or to `off`",
        };
        ListenError { place: address.to_string(), problem: source.to_string(), remedy }
    })
}

fn is_no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn bind(address: SocketAddr, both: bool) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if both {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn at_path(path: &Path) -> Result<(UnixListener, socket::Unlink), ListenError> {
    socket::listen(path).map_err(|source| ListenError {
        place: path.display().to_string(),
        problem: source.to_string(),
        remedy: match source.kind() {
            io::ErrorKind::AddrInUse => "another agent has it: set `export.socket` to another path",
            io::ErrorKind::AlreadyExists => {
                "something else than a socket is there: set `export.socket` to another path"
            }
            _ => "set `export.socket` to a path in a directory that is there and writable",
        },
    })
}

#[cfg(test)]
mod tests;
