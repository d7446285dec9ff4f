//! As much PostgreSQL as the virtual machines need: a server, a transaction pooler and a client that speak the simple
//! protocol of version 3, in plain threads. There is no room for the real ones in a kernel test's memory image.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::num::ParseIntError;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Protocol 3.0.
const VERSION: u32 = 196_608;
/// A client's question whether TLS is spoken.
const SSL_REQUEST: u32 = 80_877_103;
/// Longest message that is accepted; ours are far shorter.
const MAX_MESSAGE: usize = 1 << 16;

/// Where a server listens: a port of this machine, or the path of a Unix socket.
#[derive(Clone, Debug)]
pub enum At {
    /// 127.0.0.1.
    Port(u16),
    /// 127.0.0.1, encrypted from the first byte.
    Sealed(u16, Seal),
    /// A file that the server makes.
    Path(PathBuf),
}

/// What encrypts a connection: its client's end, and its server's. Neither waits for the other.
#[derive(Clone, Copy, Debug)]
pub struct Seal {
    /// Makes a client's end of it.
    pub client: fn(TcpStream) -> io::Result<Stream>,
    /// Makes a server's end of it.
    pub server: fn(TcpStream) -> io::Result<Stream>,
}

impl FromStr for At {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        if text.starts_with('/') { Ok(Self::Path(text.into())) } else { Ok(Self::Port(text.parse()?)) }
    }
}

/// What can be read and written.
pub trait Both: Read + Write + Send {}
impl<T: Read + Write + Send> Both for T {}

/// A connection of any kind.
pub type Stream = Box<dyn Both>;

/// Somebody who listens.
#[derive(Debug)]
pub enum Listener {
    /// At a port.
    Tcp(TcpListener, Option<Seal>),
    /// At a path.
    Unix(UnixListener),
}

impl Listener {
    fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener, seal) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                match seal {
                    Some(seal) => (seal.server)(stream),
                    None => Ok(Box::new(stream)),
                }
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept()?.0)),
        }
    }
}

/// One message: its type and everything after the length.
struct Message {
    kind: u8,
    body: Vec<u8>,
}

impl Message {
    fn new(kind: u8, body: impl Into<Vec<u8>>) -> Self {
        Self { kind, body: body.into() }
    }

    fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.body.len() + 4).unwrap_or(u32::MAX);
        let mut bytes = vec![self.kind];
        bytes.extend(length.to_be_bytes());
        bytes.extend(&self.body);
        bytes
    }

    fn read(stream: &mut Stream) -> io::Result<Self> {
        let mut kind = [0; 1];
        stream.read_exact(&mut kind)?;
        Ok(Self { kind: kind[0], body: read_body(stream)? })
    }
}

fn read_body(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    let Some(rest) = length.checked_sub(4).filter(|n| *n <= MAX_MESSAGE) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
    };
    let mut body = vec![0; rest];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// Takes a client's startup and says that it is in.
fn welcome(stream: &mut Stream) -> io::Result<()> {
    loop {
        let body = read_body(stream)?;
        match body.first_chunk::<4>().map(|code| u32::from_be_bytes(*code)) {
            Some(SSL_REQUEST) => stream.write_all(b"N")?,
            Some(VERSION) => break,
            other => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("startup with {other:?}"))),
        }
    }
    let mut answer = Message::new(b'R', 0u32.to_be_bytes()).encode();
    answer.extend(Message::new(b'S', *b"server_version\x0015.0\0").encode());
    answer.extend(Message::new(b'K', [0, 0, 0, 1, 0, 0, 0, 2]).encode());
    answer.extend(Message::new(b'Z', *b"I").encode());
    stream.write_all(&answer)
}

/// Listens on a port of 127.0.0.1.
///
/// # Errors
/// When the port is taken.
pub fn listen(at: &At) -> io::Result<Listener> {
    let tcp = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port));
    Ok(match at {
        At::Port(port) => Listener::Tcp(tcp(port)?, None),
        At::Sealed(port, seal) => Listener::Tcp(tcp(port)?, Some(*seal)),
        At::Path(path) => Listener::Unix(UnixListener::bind(path)?),
    })
}

/// A server that answers every statement as PostgreSQL would, with one made-up row for each SELECT.
///
/// # Errors
/// When accepting fails.
pub fn serve(listener: &Listener) -> io::Result<()> {
    loop {
        let stream = listener.accept()?;
        thread::spawn(move || serve_one(stream));
    }
}

fn serve_one(mut stream: Stream) -> io::Result<()> {
    welcome(&mut stream)?;
    let mut status = b'I';
    loop {
        let message = Message::read(&mut stream)?;
        match message.kind {
            b'Q' => {
                let text = String::from_utf8_lossy(&message.body);
                let answer = answer(text.trim_end_matches('\0'), &mut status);
                stream.write_all(&answer)?;
            }
            b'X' => return Ok(()),
            other => return Err(io::Error::new(io::ErrorKind::Unsupported, format!("message {other:#x}"))),
        }
    }
}

fn answer(statement: &str, status: &mut u8) -> Vec<u8> {
    let verb = statement.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    let mut bytes = Vec::new();
    let mut complete = |tag: &str| bytes.extend(Message::new(b'C', format!("{tag}\0")).encode());
    match verb.as_str() {
        "BEGIN" => {
            *status = b'T';
            complete("BEGIN");
        }
        "COMMIT" => {
            *status = b'I';
            complete("COMMIT");
        }
        "SELECT" => {
            // One column of type text (25), then its value.
            let mut row =
                Message::new(b'T', *b"\0\x01value\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0").encode();
            row.extend(Message::new(b'D', *b"\0\x01\0\0\0\x05anvil").encode());
            bytes.extend(row);
            bytes.extend(Message::new(b'C', *b"SELECT 1\0").encode());
        }
        other => complete(other),
    }
    bytes.extend(Message::new(b'Z', [*status]).encode());
    bytes
}

/// A pooler in transaction mode with one connection to the server: it forwards what a client sends and the answers to
/// it byte for byte, and hands the connection over when the server says that no transaction is open.
///
/// # Errors
/// When the server refuses, or accepting fails.
pub fn pool(listener: &Listener, server: &At) -> io::Result<()> {
    let server = Arc::new(Mutex::new(Session::open(server, "pooler")?.stream));
    loop {
        let stream = listener.accept()?;
        let server = Arc::clone(&server);
        thread::spawn(move || pool_one(stream, &server));
    }
}

fn pool_one(mut client: Stream, server: &Mutex<Stream>) -> io::Result<()> {
    welcome(&mut client)?;
    loop {
        let mut request = Message::read(&mut client)?;
        let mut lease = server.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if request.kind == b'X' {
                return Ok(());
            }
            lease.write_all(&request.encode())?;
            if forward_answer(&mut lease, &mut client)? == b'I' {
                break;
            }
            request = Message::read(&mut client)?;
        }
    }
}

/// Forwards one answer; gives the transaction status at its end.
fn forward_answer(server: &mut Stream, client: &mut Stream) -> io::Result<u8> {
    let mut bytes = Vec::new();
    loop {
        let message = Message::read(server)?;
        bytes.extend(message.encode());
        if message.kind == b'Z' {
            client.write_all(&bytes)?;
            return Ok(message.body.first().copied().unwrap_or(b'E'));
        }
    }
}

/// A client's connection.
pub struct Session {
    stream: Stream,
}

impl Session {
    /// Connects and logs in.
    ///
    /// # Errors
    /// When nobody listens or the answer is not PostgreSQL's.
    pub fn open(at: &At, user: &str) -> io::Result<Self> {
        let tcp = |port: &u16| -> io::Result<TcpStream> {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let mut stream: Stream = match at {
            At::Port(port) => Box::new(tcp(port)?),
            At::Sealed(port, seal) => (seal.client)(tcp(port)?)?,
            At::Path(path) => Box::new(UnixStream::connect(path)?),
        };
        let parameters = format!("user\0{user}\0database\0shop\0\0");
        let length = u32::try_from(parameters.len() + 8).unwrap_or(u32::MAX);
        let mut startup = length.to_be_bytes().to_vec();
        startup.extend(VERSION.to_be_bytes());
        startup.extend(parameters.as_bytes());
        stream.write_all(&startup)?;
        let mut session = Self { stream };
        session.until_ready()?;
        Ok(session)
    }

    /// Sends one statement and reads the whole answer.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn query(&mut self, statement: &str) -> io::Result<()> {
        self.stream.write_all(&Message::new(b'Q', format!("{statement}\0")).encode())?;
        self.until_ready()
    }

    fn until_ready(&mut self) -> io::Result<()> {
        while Message::read(&mut self.stream)?.kind != b'Z' {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two clients of a pooler; both connections of each kind.
    fn play(server: At, pooler: At) {
        let (listener, of_pooler) = (listen(&server).unwrap(), listen(&pooler).unwrap());
        let at = |given: At, listener: &Listener| match listener {
            Listener::Tcp(l, _) => At::Port(l.local_addr().unwrap().port()),
            Listener::Unix(_) => given,
        };
        let (server, pooler) = (at(server, &listener), at(pooler, &of_pooler));
        thread::spawn(move || serve(&listener));
        thread::spawn(move || pool(&of_pooler, &server));
        let mut acme = Session::open(&pooler, "app").unwrap();
        let mut globex = Session::open(&pooler, "app").unwrap();
        acme.query("SET app.tenant_id = 'acme'").unwrap();
        for session in [&mut acme, &mut globex] {
            session.query("BEGIN").unwrap();
            session.query("SELECT item FROM orders").unwrap();
            session.query("COMMIT").unwrap();
        }
    }

    #[test]
    fn two_clients_share_one_connection_through_the_pooler() {
        play("0".parse().unwrap(), "0".parse().unwrap());
    }

    #[test]
    fn unix_sockets_do_as_well() {
        let dir = std::env::temp_dir().join(format!("leasewarden-minipg-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        play(At::Path(dir.join("server")), At::Path(dir.join("pooler")));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_status_follows_the_transaction() {
        let mut status = b'I';
        assert!(answer("BEGIN", &mut status).ends_with(b"Z\0\0\0\x05T"));
        assert!(answer("SELECT 1", &mut status).ends_with(b"Z\0\0\0\x05T"));
        assert!(answer("COMMIT", &mut status).ends_with(b"Z\0\0\0\x05I"));
    }
}
