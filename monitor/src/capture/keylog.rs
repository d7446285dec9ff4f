//! Key-log files (RFC 9850): what libraries write with `SSLKEYLOGFILE`, and what Wireshark reads.

use std::io::{self, BufRead};

use monitor_core::model::{HandshakeSecret, Nanos, Secret, SecretLabel};
use zeroize::Zeroize;

/// Longest line that is read: label, 32 random bytes and 64 secret ones in hex are below 300 bytes.
const MAX_LINE: u64 = 4096;

/// Reads every secret of a key log that is of use. Gives how many lines were passed over: of other labels, or none of the
/// format.
///
/// # Errors
/// What the reader says.
pub fn read(mut file: impl BufRead, mut tell: impl FnMut(&HandshakeSecret)) -> io::Result<u64> {
    let (mut line, mut n_passed) = (Vec::new(), 0);
    loop {
        line.zeroize();
        if io::Read::take(&mut file, MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(n_passed);
        }
        let text = line.trim_ascii();
        match secret(text) {
            Some(secret) => tell(&secret),
            None => n_passed += u64::from(!text.is_empty() && !text.starts_with(b"#")),
        }
    }
}

/// `LABEL client-random secret`, the latter two in hex.
fn secret(line: &[u8]) -> Option<HandshakeSecret> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let label = SecretLabel::parse(words.next()?)?;
    let (mut random, mut bytes) = ([0; 32], [0; 64]);
    let n = unhex(words.next()?, &mut random)?;
    let len = unhex(words.next()?, &mut bytes);
    let secret = len.and_then(|len| bytes.get(..len)).and_then(Secret::new);
    bytes.zeroize();
    (n == random.len() && words.next().is_none()).then_some(())?;
    Some(HandshakeSecret {
        at: Nanos(0),
        cgroup: None,
        process: None,
        label,
        client_random: Some(random),
        secret: secret?,
    })
}

/// Reads hex digits into `out`; gives how many bytes they are.
fn unhex(digits: &[u8], out: &mut [u8]) -> Option<usize> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let out = out.get_mut(..pairs.len())?;
    for (to, [high, low]) in out.iter_mut().zip(pairs) {
        *to = digit(*high)? << 4 | digit(*low)?;
    }
    Some(pairs.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_format_are_read_and_others_passed_over() {
        let (random, secret) = ("0a".repeat(32), "Ff".repeat(48));
        let text = format!(
            "# comment\n\nCLIENT_RANDOM {random} {secret}\r\nEXPORTER_SECRET {random} {secret}\n\
             SERVER_TRAFFIC_SECRET_0 {random} {}\nCLIENT_RANDOM {random}\nCLIENT_RANDOM 0a {secret}\n\
             CLIENT_RANDOM {random} {}\nCLIENT_RANDOM {random} zz\nnonsense {}",
            "01".repeat(32),
            "01".repeat(65),
            "x".repeat(10_000)
        );
        let mut found = Vec::new();
        let n_passed =
            read(text.as_bytes(), |s| found.push((s.label, s.client_random, s.secret.bytes().to_vec()))).unwrap();
        let random = Some([0x0a; 32]);
        assert_eq!(
            found,
            [(SecretLabel::Master, random, vec![0xff; 48]), (SecretLabel::ServerTraffic, random, vec![1; 32]),]
        );
        assert_eq!(n_passed, 1 + 4 + 3, "a line that is too long counts as several");
    }
}
