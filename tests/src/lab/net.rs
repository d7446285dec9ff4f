//! Free ports, waiting for a listener, and as much HTTP as a scrape needs.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::process::Process;

/// A TCP port on the loopback address that nobody listens on now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Waits until `ready` says so.
///
/// # Errors
/// When `process` ends before that, or after `limit`: with the end of its log.
pub fn wait_until(process: &mut Process, what: &str, limit: Duration, ready: impl Fn() -> bool) -> Result<()> {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = process.ended()? {
            bail!("{what} ended before it was ready ({status}):\n{}", process.log_tail());
        }
        if ready() {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("{what} was not ready within {limit:?}:\n{}", process.log_tail());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether someone accepts connections on a loopback port.
#[must_use]
pub fn listens(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
}

/// `GET` from a loopback port: status and body.
///
/// # Errors
/// When the answer is no HTTP, or does not come.
pub fn http_get(port: u16, path: &str) -> Result<(u16, String)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).context("no HTTP status")?;
    Ok((status, body.to_owned()))
}
