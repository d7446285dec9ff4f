//! Who may read what. Metrics and health are for whoever reaches the port, as of every exporter. What tells of tenants
//! one by one (findings, services, tools) is for this host: over loopback, which is also where `kubectl port-forward`
//! arrives, or the Unix socket. From elsewhere it needs TLS, and a token or a certificate that the agent trusts.

use std::path::Path;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::HttpConfig;
use super::watched::Watched;

/// Shortest token that is accepted, in bytes: what can be guessed is no secret.
pub const MIN_TOKEN: usize = 16;
/// Largest file of tokens, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// Who asks, as far as the connection tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// A process of this host.
    Here,
    /// Somebody else.
    There {
        /// The connection is encrypted: nobody reads along, and what he shows cannot be taken from it.
        encrypted: bool,
        /// He has shown a certificate that the configured authority has signed.
        certified: bool,
    },
}

impl Who {
    pub(super) fn plain() -> Self {
        Self::There { encrypted: false, certified: false }
    }

    pub(super) fn encrypted(certified: bool) -> Self {
        Self::There { encrypted: true, certified }
    }
}

/// Hashes of tokens: equal lengths, so that comparing tells nothing of a token's.
type Hashes = Arc<[[u8; 32]]>;

/// What opens.
#[derive(Debug)]
pub(super) struct Gate {
    tokens: Option<(Watched<Hashes>, std::path::PathBuf)>,
}

impl Gate {
    pub(super) fn new(config: &HttpConfig) -> Self {
        let none = || Hashes::from([]);
        let file = config.token_file.clone();
        Self { tokens: file.map(|path| (Watched::new(vec![path.clone()], none()), path)) }
    }

    fn opens(&self, who: Who, headers: &HeaderMap) -> bool {
        match who {
            Who::Here => true,
            Who::There { encrypted, certified } => encrypted && (certified || self.knows(headers)),
        }
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some((hashes, path)) = &self.tokens else { return false };
        let Some(token) = bearer(headers) else { return false };
        let hashes = hashes.get(|| Some(read(path)));
        let shown: [u8; 32] = Sha256::digest(token).into();
        let mut equal = Choice::from(0);
        for hash in hashes.iter() {
            equal |= hash.ct_eq(&shown);
        }
        equal.into()
    }
}

/// The token of `Authorization: Bearer TOKEN`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// The tokens in the file now. A file that is gone or wrong opens nothing: taking it away is how access is withdrawn.
fn read(path: &Path) -> Hashes {
    let text = crate::config::read_file(path, MAX_FILE)
        .map_err(|e| e.to_string())
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is no text".to_owned()));
    match text.and_then(|text| check_tokens(&text).map(|()| text)) {
        Ok(text) => {
            tracing::info!("{}: tokens read", path.display());
            tokens(&text).map(|token| Sha256::digest(token).into()).collect()
        }
        Err(why) => {
            tracing::error!("{}: {why}; no token opens anything until that is mended", path.display());
            Hashes::from([])
        }
    }
}

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// Whether a file of tokens can be used: at least one, and none that is short. Several: one is being replaced.
///
/// # Errors
/// Why not. No message repeats a token.
pub fn check_tokens(text: &str) -> Result<(), String> {
    if tokens(text).next().is_none() {
        return Err("there is no token in it".to_owned());
    }
    match text.lines().position(|line| (1..MIN_TOKEN).contains(&line.trim().len())) {
        Some(i) => Err(format!("line {}: a token has at least {MIN_TOKEN} bytes", i + 1)),
        None => Ok(()),
    }
}

/// Lets through who may read what tells of tenants.
pub(super) async fn guard(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    // Who asks is said by the connection; where nothing is said, it is a stranger.
    let who = request.extensions().get::<Who>().copied().unwrap_or(Who::plain());
    if gate.opens(who, request.headers()) {
        return next.run(request).await;
    }
    let text = format!(
        "{} tells of tenants and is not for this connection. Ask over loopback (`kubectl port-forward`, `curl` on the \
         node) or the Unix socket `export.socket`; or configure `export.tls` with `export.token_file` or \
         `export.tls.client_ca`, and show a token (`Authorization: Bearer`) or a client certificate.\n",
        request.uri().path().split('/').nth(1).map(|first| format!("/{first}")).unwrap_or_default()
    );
    (StatusCode::FORBIDDEN, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn a_token_opens_encrypted_connections_only_and_only_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        std::fs::write(&path, "a-token-of-enough-bytes\n\nanother-that-replaces-it\n").unwrap();
        let gate = Gate::new(&HttpConfig { token_file: Some(path), ..HttpConfig::default() });
        let (plain, encrypted) = (Who::plain(), Who::encrypted(false));
        for good in
            ["Bearer a-token-of-enough-bytes", "bearer  another-that-replaces-it", "BEARER another-that-replaces-it"]
        {
            assert!(gate.opens(encrypted, &headers(good)), "{good}");
            assert!(!gate.opens(plain, &headers(good)), "somebody reads along: {good}");
        }
        for bad in [
            "Bearer a-token-of-enough-byte",
            "Bearer a-token-of-enough-bytes2",
            "Bearer",
            "Bearer ",
            "Basic a-token-of-enough-bytes",
            "a-token-of-enough-bytes",
        ] {
            assert!(!gate.opens(encrypted, &headers(bad)), "{bad}");
        }
        assert!(!gate.opens(encrypted, &HeaderMap::new()));
        assert!(gate.opens(Who::encrypted(true), &HeaderMap::new()) && gate.opens(Who::Here, &HeaderMap::new()));
        let without = Gate::new(&HttpConfig::default());
        assert!(!without.opens(encrypted, &headers("Bearer a-token-of-enough-bytes")));
    }

    #[test]
    fn a_changed_file_counts_and_one_that_is_gone_opens_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        std::fs::write(&path, "first-token-of-many-bytes").unwrap();
        let gate = Gate::new(&HttpConfig { token_file: Some(path.clone()), ..HttpConfig::default() });
        let opens = |token: &str| gate.opens(Who::encrypted(false), &headers(&format!("Bearer {token}")));
        let becomes = |token: &str, wanted: bool| {
            while opens(token) != wanted {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        };
        becomes("first-token-of-many-bytes", true);
        // As a mounted Secret changes: another file takes its name.
        std::fs::write(dir.path().join("new"), "second-token-of-many-bytes").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        becomes("second-token-of-many-bytes", true);
        assert!(!opens("first-token-of-many-bytes"));
        std::fs::remove_file(&path).unwrap();
        becomes("second-token-of-many-bytes", false);
        std::fs::write(&path, "short").unwrap();
        becomes("short", false);
    }

    #[test]
    fn tokens_that_can_be_guessed_are_refused() {
        assert!(check_tokens("0123456789abcdef\n").is_ok());
        assert!(check_tokens("\n \n").unwrap_err().contains("no token"));
        let short = check_tokens("0123456789abcdef\n0123456789abcde\n").unwrap_err();
        assert!(short.starts_with("line 2") && !short.contains("abcde"), "{short}");
    }
}
