//! Heads that the standard forbids and that servers or clients read all the same: folded lines, blanks where none belong,
//! odd versions, bytes that no token may hold. Who is as strict as the standard here would not see what they carry.
//!
//! What is read so is a guess at what the other end has read. It counts for what it names, never for certain.

use std::ops::Range;

use httparse::Header;

/// Most header lines of one head that are read.
const MAX_LINES: usize = 4096;
/// Longest method.
const MAX_METHOD: usize = 64;

/// A head, mended: folds, bare line ends and control characters are blanks.
#[derive(Debug)]
pub(super) struct Head {
    text: Vec<u8>,
    /// Its length as sent, in bytes, the empty line included.
    pub(super) len: usize,
    start: Start,
    fields: Vec<(Range<usize>, Range<usize>)>,
    /// A line that is not as it should be may speak of where the body ends: two readers may disagree about that.
    pub(super) doubtful: bool,
}

/// The first line.
#[derive(Debug)]
enum Start {
    Request { method: Range<usize>, target: Range<usize> },
    Response { status: u16 },
}

/// This does not begin like a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoHead;

impl Head {
    fn text(&self, range: &Range<usize>) -> &str {
        self.text.get(range.clone()).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default()
    }

    pub(super) fn method(&self) -> &str {
        match &self.start {
            Start::Request { method, .. } => self.text(method),
            Start::Response { .. } => "",
        }
    }

    pub(super) fn target(&self) -> &str {
        match &self.start {
            Start::Request { target, .. } => self.text(target),
            Start::Response { .. } => "",
        }
    }

    pub(super) fn status(&self) -> u16 {
        match self.start {
            Start::Request { .. } => 0,
            Start::Response { status } => status,
        }
    }

    pub(super) fn headers(&self) -> Vec<Header<'_>> {
        let value = |range: &Range<usize>| self.text.get(range.clone()).unwrap_or_default();
        self.fields.iter().map(|(name, v)| Header { name: self.text(name), value: value(v) }).collect()
    }
}

/// The head of a request; `None`: it may become one.
pub(super) fn request(bytes: &[u8]) -> Result<Option<Head>, NoHead> {
    head(bytes, may_become_request, request_line)
}

/// The head of a response; `None`: it may become one.
pub(super) fn response(bytes: &[u8]) -> Result<Option<Head>, NoHead> {
    head(bytes, may_become_response, status_line).map(|head| {
        // A client takes the blanks away (RFC 9112 §5.1), and joins what is folded (§5.2).
        head.map(|head| Head { doubtful: false, ..head })
    })
}

fn head(
    bytes: &[u8],
    may_become: fn(&[u8]) -> bool,
    first_line: fn(&[u8]) -> Option<Start>,
) -> Result<Option<Head>, NoHead> {
    let Some(first) = memchr::memchr(b'\n', bytes) else {
        return if may_become(bytes) { Ok(None) } else { Err(NoHead) };
    };
    let mut text = bytes.get(..first).unwrap_or_default().to_vec();
    mend_line(&mut text, 0);
    let start = first_line(&text).ok_or(NoHead)?;
    let Some(len) = length(bytes, first) else { return Ok(None) };
    let mut doubtful = bytes.get(..first.saturating_sub(1)).unwrap_or_default().contains(&b'\r');
    let mut fields = Vec::new();
    let mut at = first + 1;
    while let Some((line, next)) = line_at(bytes, at, len) {
        at = next;
        if fields.len() >= MAX_LINES {
            return Err(NoHead);
        }
        let from = text.len();
        text.extend_from_slice(line);
        doubtful |= !is_proper(line) && may_frame(line);
        mend_line(&mut text, from);
        fields.extend(field(&text, from));
    }
    Ok(Some(Head { text, len, start, fields, doubtful }))
}

/// Where the head ends: behind the first empty line after its first one.
fn length(bytes: &[u8], first: usize) -> Option<usize> {
    let mut at = first + 1;
    loop {
        let rest = bytes.get(at..)?;
        match rest {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => at += memchr::memchr(b'\n', rest)? + 1,
        }
    }
}

/// The header line that begins at `at`, with what is folded into it, and where the next one begins.
fn line_at(bytes: &[u8], at: usize, len: usize) -> Option<(&[u8], usize)> {
    let mut end = at;
    loop {
        let rest = bytes.get(end..len)?;
        let n = memchr::memchr(b'\n', rest)?;
        end += n + 1;
        if !matches!(bytes.get(end..len)?.first(), Some(b' ' | b'\t')) {
            break;
        }
    }
    let line = bytes.get(at..end)?;
    let bare = line.strip_suffix(b"\n").unwrap_or(line);
    let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
    (!bare.is_empty()).then_some((bare, end))
}

/// Blanks instead of control characters, and one sign for what is no text.
fn mend_line(text: &mut [u8], from: usize) {
    let Some(line) = text.get_mut(from..) else { return };
    for b in line.iter_mut().filter(|b| b.is_ascii_control()) {
        *b = b' ';
    }
    if std::str::from_utf8(line).is_err() {
        for b in line.iter_mut().filter(|b| !b.is_ascii()) {
            *b = b'*';
        }
    }
}

/// Name and value of the line at the end of `text`, without blanks around them.
fn field(text: &[u8], from: usize) -> Option<(Range<usize>, Range<usize>)> {
    let colon = from + memchr::memchr(b':', text.get(from..)?)?;
    let name = trimmed(text, from..colon);
    (!name.is_empty()).then(|| (name, trimmed(text, colon + 1..text.len())))
}

fn trimmed(text: &[u8], range: Range<usize>) -> Range<usize> {
    let part = text.get(range.clone()).unwrap_or_default();
    let before = part.len() - part.trim_ascii_start().len();
    let from = range.start + before;
    from..from + part.trim_ascii().len()
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Whether a header line is as the standard has it.
fn is_proper(line: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', line) else { return false };
    let (name, value) = line.split_at_checked(colon).unwrap_or_default();
    !name.is_empty() && name.iter().all(|b| is_token(*b)) && value.iter().all(|b| *b == b'\t' || !b.is_ascii_control())
}

/// Whether a line may speak of where the body ends, in the eyes of whoever passes over what does not belong there.
fn may_frame(line: &[u8]) -> bool {
    let squeezed: Vec<u8> = line
        .iter()
        .filter(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        .map(|b| if *b == b'_' { b'-' } else { b.to_ascii_lowercase() })
        .collect();
    [&b"content-length"[..], b"transfer-encoding"].iter().any(|n| memchr::memmem::find(&squeezed, n).is_some())
}

fn may_become_request(bytes: &[u8]) -> bool {
    let method = bytes.iter().take_while(|b| is_token(**b)).count();
    method <= MAX_METHOD && (method == bytes.len() || (method > 0 && matches!(bytes.get(method), Some(b' ' | b'\t'))))
}

/// Method, target and version, with any number of blanks between them and inside the target.
fn request_line(line: &[u8]) -> Option<Start> {
    let line_end = line.trim_ascii_end().len();
    let line = line.get(..line_end)?;
    let method = line.iter().take_while(|b| is_token(**b)).count();
    if method == 0 || method > MAX_METHOD || line.get(method) != Some(&b' ') {
        return None;
    }
    let version = line.iter().rposition(|b| *b == b' ').map(|at| at + 1)?;
    let is_version = line.get(version..)?.get(..5).is_some_and(|v| v.eq_ignore_ascii_case(b"HTTP/"));
    let target = trimmed(line, method..if is_version { version } else { line.len() });
    let is_target = |t: &[u8]| t.starts_with(b"/") || t.starts_with(b"http");
    // Without a version (HTTP/0.9) it must look like nothing else.
    (is_version || line.get(target.clone()).is_some_and(is_target))
        .then_some(Start::Request { method: 0..method, target })
}

const NAMES: [&[u8]; 2] = [b"HTTP", b"ICY"];

fn may_become_response(bytes: &[u8]) -> bool {
    NAMES.iter().any(|name| {
        let n = name.len().min(bytes.len());
        bytes.get(..n).is_some_and(|b| name.get(..n).is_some_and(|name| b.eq_ignore_ascii_case(name)))
    })
}

/// Any version, blanks, three digits.
fn status_line(line: &[u8]) -> Option<Start> {
    if !may_become_response(line) {
        return None;
    }
    let rest = line.get(memchr::memchr(b' ', line)?..)?.trim_ascii_start();
    match rest {
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']
        | [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ', ..] => {
            let digit = |d: u8| u16::from(d - b'0');
            Some(Start::Response { status: digit(*a) * 100 + digit(*b) * 10 + digit(*c) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> (String, String, Vec<(String, String)>, bool) {
        let head = request(text).unwrap().unwrap();
        assert_eq!(head.len, text.len());
        let pair = |h: &Header<'_>| (h.name.to_owned(), String::from_utf8_lossy(h.value).into_owned());
        let all = head.headers().iter().map(pair).collect();
        (head.method().to_owned(), head.target().to_owned(), all, head.doubtful)
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn requests_as_patient_servers_read_them() {
        let (method, target, headers, doubtful) = read(b"GET /a b HTTP/1.1\r\nHost: x\r\nX-T : acme\r\n y\r\n\r\n");
        assert_eq!((method.as_str(), target.as_str(), doubtful), ("GET", "/a b", false));
        // The fold's line end and its blanks stay blanks.
        assert_eq!(headers, [pair("Host", "x"), pair("X-T", "acme   y")]);
        assert_eq!(read(b"GET  /a \tHTTP/2.0 \n\n").1, "/a");
        assert_eq!(read(b"GET /\xff HTTP/1.1\r\n: x\r\nno colon\r\na b: c\r\n\r\n").1, "/*");
        assert_eq!(read(b"GET /old\r\n\r\n").1, "/old");
        assert!(read(b"GET / HTTP/1.1\r\nContent-Length : 5\r\n\r\n").3);
        assert!(read(b"GET / HTTP/1.1\r\nX: y\rContent-Length: 5\r\n\r\n").3);
        assert!(read(b"GET / HTTP/1.1\r\nTransfer-Encoding:\r\n chunked\r\n\r\n").3);
        assert!(!read(b"GET / HTTP/1.1\r\nContent-Length: 5\r\nX : y\r\n\r\n").3);
    }

    #[test]
    fn responses_as_patient_clients_read_them() {
        let status = |text: &[u8]| response(text).map(|h| h.map(|h| h.status()));
        for text in ["HTTP/1.1  200 OK", "HTTP/2 200", "http/1.1 200 ok", "ICY 200 OK", "HTTP/1.1 200\tOK", "HTTP 200"]
        {
            assert_eq!(status(format!("{text}\r\nServer : x\r\n\r\n").as_bytes()), Ok(Some(200)), "{text}");
        }
        for text in ["HTTP/1.1 OK", "HTTP/1.1 20", "HTTP/1.1 2000 OK", "hello 200 OK"] {
            assert_eq!(status(format!("{text}\r\n\r\n").as_bytes()), Err(NoHead), "{text}");
        }
        assert_eq!(status(b"HTTP/1.1  2"), Ok(None));
        assert_eq!(status(b"HTTP/1.1  200 OK\r\nA: b\r\n"), Ok(None));
    }

    #[test]
    fn nonsense_is_no_head() {
        for text in ["\u{1}\u{2}", "hello there\r\n\r\n", "{\"a\": 1}\r\n\r\n", " GET / HTTP/1.1\r\n\r\n"] {
            assert!(request(text.as_bytes()).is_err(), "{text}");
        }
        assert!(request(b"GE").unwrap().is_none());
        assert!(request(b"GET /a b").unwrap().is_none());
    }
}
