//! Many PostgreSQL connections that stay open, for the memory figure of `cargo xtask bench`.
//!
//! `flows serve` answers them and prints PORT; `flows hold PORT COUNT` opens them, sends one query on each, prints OPEN
//! and holds them until its input ends. Two processes: one may not have enough file descriptors for both ends.

use std::io::{Read, Write};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::minipg::{At, Listener, Session, listen, serve};

fn main() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve"] => {
            let listener = listen(&At::Port(0))?;
            if let Listener::Tcp(tcp, _) = &listener {
                say(&format!("PORT {}", tcp.local_addr()?.port()))?;
            }
            Ok(serve(&listener)?)
        }
        ["hold", port, count] => hold(&port.parse()?, count.parse()?),
        _ => bail!("usage: flows serve | flows hold PORT COUNT"),
    }
}

fn hold(server: &At, count: usize) -> Result<()> {
    let mut sessions = Vec::with_capacity(count);
    for n in 0..count {
        let mut session = Session::open(server, "app").with_context(|| format!("connection {n}"))?;
        session.query("SELECT item FROM orders")?;
        sessions.push(session);
    }
    say("OPEN")?;
    let _ = std::io::stdin().read(&mut [0; 1])?;
    Ok(())
}

fn say(line: &str) -> Result<()> {
    println!("{line}");
    Ok(std::io::stdout().flush()?)
}
