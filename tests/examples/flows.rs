//! Opens and holds so many PostgreSQL connections to a server in this process, each with one query, for the memory
//! figure of `cargo xtask bench`. Prints OPEN when they stand; ends at the end of its input.

use std::io::{Read, Write};

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::minipg::{Session, listen, serve};

fn main() -> Result<()> {
    let count: usize = std::env::args().nth(1).context("usage: flows COUNT")?.parse()?;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let listener = listen(0)?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || serve(&listener));
    let mut sessions = Vec::with_capacity(count);
    for n in 0..count {
        let mut session = Session::open(port, "app").with_context(|| format!("connection {n}"))?;
        session.query("SELECT item FROM orders")?;
        sessions.push(session);
    }
    println!("OPEN");
    std::io::stdout().flush()?;
    let _ = std::io::stdin().read(&mut [0; 1])?;
    Ok(())
}
