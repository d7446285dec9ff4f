//! What a cgroup's path tells: which directory on it is the workload, and what to call it.

use super::cgroup_path;

/// The path's directories, outermost first: `/a`, `/a/b`, `/a/b/c`.
pub(super) fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.char_indices().skip(1).filter(|(_, c)| *c == '/').map(|(i, _)| i);
    let whole = path.trim_end_matches('/').len();
    ends.filter(move |end| *end < whole)
        .chain(std::iter::once(whole))
        .filter_map(|end| path.get(..end))
        .filter(|p| p.len() > 1)
}

/// The directory that is the workload of a cgroup nobody declared: the innermost container's, else the cgroup itself.
/// Containers nest cgroups below their own directory (systemd inside, podman's `container`), and these belong to them.
pub(super) fn workload_of(path: &str) -> &str {
    if let Some(container) = cgroup_path::container(path) {
        return container.cgroup;
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed }
}

/// A name for the workload at `path`: the last segment without its unit suffix, a container id cut to 12 digits.
pub(super) fn workload_name(path: &str) -> String {
    let segment = last_segment(path);
    if let Some((id, _)) = cgroup_path::container_name(segment) {
        return id.get(..cgroup_path::SHORT_ID).unwrap_or(id).to_owned();
    }
    let name = unescape(strip_unit(segment));
    if name.is_empty() { "/".to_owned() } else { name }
}

pub(super) fn last_segment(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// Suffixes of systemd units that have cgroups.
pub(super) const UNIT_SUFFIXES: [&str; 3] = [".service", ".scope", ".slice"];

pub(super) fn strip_unit(segment: &str) -> &str {
    UNIT_SUFFIXES.iter().find_map(|s| segment.strip_suffix(s)).unwrap_or(segment)
}

/// Undoes systemd's `\xNN` escapes; anything else stays as it is.
pub(super) fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x") {
        out.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.extend_from_slice(b"\\x");
                rest = after;
            }
        }
    }
    out.extend_from_slice(rest.as_bytes());
    // Paths come from whoever may create cgroups: what is no text, or would break a terminal, is replaced.
    String::from_utf8_lossy(&out).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
