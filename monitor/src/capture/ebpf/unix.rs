//! Services on Unix sockets: which is which, and what they are called.

use std::hash::{DefaultHasher, Hash, Hasher};

use rustc_hash::FxHashSet;

/// Most services whose names count as told; then each is told once more.
const MAX_NAMED: usize = 4096;

/// Services whose names were told.
#[derive(Debug, Default)]
pub(super) struct Named(FxHashSet<u64>);

impl Named {
    /// Marks this service as told. True: its name has to be told now.
    pub(super) fn mark_told(&mut self, service: u64) -> bool {
        if self.0.len() >= MAX_NAMED {
            self.0.clear();
        }
        self.0.insert(service)
    }
}

/// Whether a cookie is that of an end of a Unix socket: the kernel's own count up from 1.
pub(super) fn is_end(cookie: u64) -> bool {
    cookie >> 63 == 1
}

/// A number for what a server is bound to; `None`: nothing. The file, where there is one: its path may be another thing in
/// another container, and one thing may have several.
pub(super) fn service(file: Option<(u32, u64)>, name: &[u8]) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    match file {
        Some(file) => file.hash(&mut hasher),
        None if name.is_empty() => return None,
        None => name.hash(&mut hasher),
    }
    Some(hasher.finish())
}

/// What it is called, in the way of ss(8): a path, or an abstract name after `@`. What is no text, or would disturb a
/// terminal, is replaced.
pub(super) fn name(name: &[u8]) -> String {
    let (mark, name) = match name.split_first() {
        Some((0, rest)) => ("@", rest),
        _ => ("", name),
    };
    let text = String::from_utf8_lossy(name);
    let text: String = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    format!("unix:{mark}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_service_by_whichever_path() {
        let service = |file, name: &str| service(file, name.as_bytes());
        assert_eq!(service(Some((8, 7)), "/run/a"), service(Some((8, 7)), "/var/run/a"));
        assert_ne!(service(Some((8, 7)), "/run/a"), service(Some((9, 7)), "/run/a"));
        assert_eq!(service(None, "\0a"), service(None, "\0a"));
        assert_ne!(service(None, "\0a"), service(None, "\0b"));
        assert_eq!(service(None, ""), None, "a pair that a process has made");
    }

    #[test]
    fn names_are_fit_to_be_shown() {
        assert_eq!(name(b"/run/redis.sock"), "unix:/run/redis.sock");
        assert_eq!(name(b"\0containerd\n\xff"), "unix:@containerd\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_name_is_told_once_and_memory_is_bounded() {
        let mut named = Named::default();
        assert!(named.mark_told(1) && !named.mark_told(1));
        for n in 0..10_000 {
            named.mark_told(n);
        }
        assert!(named.0.len() <= MAX_NAMED);
    }
}
