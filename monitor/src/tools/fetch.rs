//! Asks a running agent for the tools it has seen: one plain HTTP request, over loopback or its Unix socket.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use monitor_core::engine::ToolView;

use crate::export::tools;

/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 << 20;
/// How long the agent may take for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether `from` names an agent and not a file.
pub fn is_address(from: &str) -> bool {
    from.contains("://") || socket(from).is_some()
}

/// The path of an agent's socket: `unix:PATH`.
fn socket(from: &str) -> Option<&Path> {
    from.strip_prefix("unix:").map(|path| Path::new(path.strip_prefix("//").unwrap_or(path)))
}

/// The tools that the agent at `url` (`http://HOST:PORT`, `unix:PATH`) has seen.
///
/// # Errors
/// In words: the address, the connection, or the answer.
pub fn fetch(url: &str) -> Result<Vec<ToolView>, String> {
    let asked = match socket(url) {
        Some(path) => over_socket(path),
        None => get(authority(url)?),
    };
    let text = asked.map_err(|e| format!("cannot ask the agent at {url}: {e}"))?;
    let body = body(&text).map_err(|e| format!("the agent at {url} {e}"))?;
    tools::parse(body).map_err(|e| format!("the agent at {url} answered with something else than tools: {e}"))
}

/// `HOST:PORT` of an address.
fn authority(url: &str) -> Result<&str, String> {
    let wrong = || format!("expected the address of an agent such as `http://127.0.0.1:9464`, found `{url}`");
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let host = rest.split('/').next().unwrap_or_default();
    let path = rest.get(host.len()..).unwrap_or_default();
    let plain = !host.is_empty() && !host.contains(['@', ' ', '?', '#']) && !host.chars().any(char::is_control);
    if plain && matches!(path, "" | "/" | "/tools") { Ok(host) } else { Err(wrong()) }
}

/// The whole answer. Asked in HTTP/1.0, so that it comes in one piece and the connection ends.
fn get(host: &str) -> std::io::Result<String> {
    let with_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let addresses = if with_port { host.to_socket_addrs()? } else { (host, 80).to_socket_addrs()? };
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "it has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return converse(stream, host);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn over_socket(path: &Path) -> std::io::Result<String> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    converse(stream, "localhost")
}

fn converse(mut stream: impl Read + Write, host: &str) -> std::io::Result<String> {
    let request = format!("GET /tools HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n\r\n");
    // In one piece: who answers early and leaves must not break the rest of it.
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut text)?;
    Ok(text)
}

/// The body of a good answer.
fn body(answer: &str) -> Result<&str, String> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("does not answer in HTTP")?;
    let line = head.lines().next().unwrap_or_default();
    let status = line.strip_prefix("HTTP/1.").and_then(|l| l.split(' ').nth(1)).ok_or("does not answer in HTTP")?;
    let length = head.lines().filter_map(|l| l.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case("content-length"));
    match (status, length) {
        ("403", _) => {
            Err("does not tell this over such a connection: ask over loopback, or `unix:PATH` of its `export.socket`"
                .to_owned())
        }
        ("404", _) => Err("does not know /tools: it is another program, or an older version".to_owned()),
        ("200", Some((_, n))) if n.trim().parse() != Ok(body.len()) => Err("broke off its answer".to_owned()),
        ("200", _) => Ok(body),
        _ => Err(format!("answered `{}`", line.escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn addresses() {
        for (url, host) in [
            ("http://127.0.0.1:9464", "127.0.0.1:9464"),
            ("http://[::1]:9464/", "[::1]:9464"),
            ("http://node-7:9464/tools", "node-7:9464"),
        ] {
            assert_eq!(authority(url).unwrap(), host);
        }
        for wrong in
            ["https://127.0.0.1:9464", "http://", "http://a b", "http://u@h", "http://h/findings", "http://h\r\nx"]
        {
            assert!(authority(wrong).unwrap_err().contains("http://127.0.0.1:9464"), "{wrong}");
        }
        assert!(is_address("unix:/run/a.sock") && socket("unix:///run/a.sock") == Some(Path::new("/run/a.sock")));
        assert!(is_address("http://x") && !is_address("x.lwr") && !is_address("./http"));
    }

    #[test]
    fn answers() {
        let ok = "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\nContent-Length: 2\r\n\r\n[]";
        assert_eq!(body(ok), Ok("[]"));
        assert_eq!(body("HTTP/1.1 200 OK\r\n\r\n[]"), Ok("[]"));
        for (answer, part) in [
            (ok.get(..ok.len() - 1).unwrap(), "broke off"),
            ("HTTP/1.0 404 Not Found\r\n\r\n", "/tools"),
            ("HTTP/1.0 500 Oh\u{1b}\r\n\r\n", "`HTTP/1.0 500 Oh\\u{1b}`"),
            ("SSH-2.0-x\r\n\r\n", "HTTP"),
            ("", "HTTP"),
        ] {
            assert!(body(answer).unwrap_err().contains(part), "{answer}");
        }
    }

    #[test]
    fn an_agent_is_asked_and_its_absence_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let agent = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            let n = stream.read(&mut asked).unwrap();
            let text = r#"[{"server":"s","version":"1","service":"x","tool":"t","hash":"sha256:HASH","later":1}]"#;
            let text = text.replace("HASH", &"0f".repeat(32));
            write!(stream, "HTTP/1.0 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()).unwrap();
            String::from_utf8_lossy(&asked[..n]).into_owned()
        });
        let seen = fetch(&url).unwrap();
        assert_eq!((seen.len(), seen[0].tool.as_str()), (1, "t"));
        assert!(agent.join().unwrap().starts_with("GET /tools HTTP/1.0\r\nHost: 127.0.0.1:"));
        let gone = fetch(&url).unwrap_err();
        assert!(gone.starts_with(&format!("cannot ask the agent at {url}: ")), "{gone}");
    }
}
