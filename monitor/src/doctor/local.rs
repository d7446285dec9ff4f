//! Traffic of containers that does not go through the network: Unix sockets and pipes. Where the probes cannot read the
//! first, and for the second, which nobody reads, how much of it there is now.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{Check, State};
use crate::capture::cgroups::path_of_process;

/// Most processes looked at, and most descriptors of each.
const MAX_PROCESSES: usize = 4096;
const MAX_DESCRIPTORS: usize = 4096;
/// Most paths named.
const MAX_NAMED: usize = 5;

/// What a container's processes have open.
#[derive(Debug, Default, PartialEq, Eq)]
struct Open {
    /// Inodes of sockets of any family.
    sockets: BTreeSet<u64>,
    /// Inodes of pipes.
    pipes: BTreeSet<u64>,
}

/// Established Unix stream connections of containers by what the server is bound to, and pipes between processes.
/// `read`: the probes read Unix sockets.
pub(super) fn check(read: bool) -> Check {
    let mut open = Open::default();
    let mut tables: BTreeMap<u64, String> = BTreeMap::new();
    let mut n = 0;
    for pid in processes().take(MAX_PROCESSES) {
        let dir = Path::new("/proc").join(pid.to_string());
        let cgroup = fs::read_to_string(dir.join("cgroup")).unwrap_or_default();
        if !path_of_process(&cgroup).is_some_and(in_container) {
            continue;
        }
        n += 1;
        descriptors(&dir, &mut open);
        // One table for each network namespace; unreadable without the right to look at the process.
        if let Ok(namespace) = fs::read_link(dir.join("ns/net"))
            && let Some(inode) = inode_of(&namespace.to_string_lossy(), "net:[")
        {
            tables.entry(inode).or_insert_with(|| fs::read_to_string(dir.join("net/unix")).unwrap_or_default());
        }
    }
    let connections = connections(tables.values(), &open.sockets);
    let total: usize = connections.values().sum();
    let named: Vec<String> = connections
        .iter()
        .filter(|(path, _)| !path.is_empty())
        .take(MAX_NAMED)
        .map(|(path, n)| format!("{path} ×{n}"))
        .collect();
    let named = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
    let found = format!(
        "{n} processes in containers have {total} ends of connections over Unix sockets{named} and {} pipes open",
        open.pipes.len()
    );
    let state = if read || total == 0 { State::Info } else { State::Limited };
    let check = Check::new("local_traffic", state, found);
    match read {
        true => check.lost("what passes through pipes (MCP over stdio)"),
        false => check
            .lost("what passes over Unix sockets and through pipes: it is opaque, and no verdict is made of it")
            .remedy("see `unix_sockets`; or let clients connect over TCP"),
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether a cgroup is a container's or a tenant's rather than the host's own.
fn in_container(path: &str) -> bool {
    !["/", "/init.scope"].contains(&path) && !["/system.slice/", "/user.slice/"].iter().any(|p| path.starts_with(p))
        || path.contains("docker")
        || path.contains("libpod")
}

fn descriptors(process: &Path, open: &mut Open) {
    let entries = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    for entry in entries.take(MAX_DESCRIPTORS) {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy();
        if let Some(inode) = inode_of(&target, "socket:[") {
            open.sockets.insert(inode);
        } else if let Some(inode) = inode_of(&target, "pipe:[") {
            open.pipes.insert(inode);
        }
    }
}

/// `socket:[4711]` → 4711.
fn inode_of(target: &str, kind: &str) -> Option<u64> {
    target.strip_prefix(kind)?.strip_suffix(']')?.parse().ok()
}

/// Ends of established stream connections that are open, by the path they are bound to (empty: a client's). The tables are
/// those of proc_net_unix: `Num RefCount Protocol Flags Type St Inode Path`.
fn connections<'a>(tables: impl Iterator<Item = &'a String>, open: &BTreeSet<u64>) -> BTreeMap<String, usize> {
    /// `SOCK_STREAM`, and `SS_CONNECTED` of `socket_state`.
    const STREAM: &str = "0001";
    const CONNECTED: &str = "03";
    let mut by_path: BTreeMap<String, usize> = BTreeMap::new();
    for line in tables.flat_map(|table| table.lines()) {
        let mut words = line.split_whitespace();
        let (Some(kind), Some(state), Some(inode)) = (words.nth(4), words.next(), words.next()) else { continue };
        let is_open = inode.parse().is_ok_and(|inode| open.contains(&inode));
        if kind == STREAM && state == CONNECTED && is_open {
            let path: Vec<&str> = words.collect();
            *by_path.entry(path.join(" ")).or_default() += 1;
        }
    }
    by_path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn established_connections_are_counted_by_path() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            ffff: 00000003 00000000 00000000 0001 03 100 /run/a b.sock\n\
            ffff: 00000003 00000000 00000000 0001 03 101\n\
            ffff: 00000002 00000000 00010000 0001 01 102 /run/a b.sock\n\
            ffff: 00000002 00000000 00000000 0002 01 103 /dev/log\n\
            ffff: 00000003 00000000 00000000 0001 03 999 /run/others.sock\n\
            cut"
        .to_owned();
        let found = connections([&table].into_iter(), &(100..200).collect());
        assert_eq!(found, BTreeMap::from([(String::new(), 1), ("/run/a b.sock".to_owned(), 1)]));
    }

    #[test]
    fn descriptors_name_their_inodes() {
        assert_eq!(inode_of("socket:[4711]", "socket:["), Some(4711));
        assert_eq!((inode_of("/dev/null", "pipe:["), inode_of("pipe:[x]", "pipe:[")), (None, None));
    }

    #[test]
    fn the_hosts_own_services_are_no_containers() {
        assert!(
            ["/kubepods.slice/pod1", "/tenants/acme", "/system.slice/docker-1.scope"].iter().all(|p| in_container(p))
        );
        assert!(!["/", "/init.scope", "/system.slice/ssh.service"].iter().any(|p| in_container(p)));
    }

    /// A pair of sockets and a pipe of this very process are found by their descriptors.
    #[test]
    fn a_process_shows_what_it_has_open() {
        let (_one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let (_reader, _writer) = std::io::pipe().unwrap();
        let mut open = Open::default();
        descriptors(Path::new("/proc/self"), &mut open);
        assert!(open.sockets.len() >= 2 && !open.pipes.is_empty(), "{open:?}");
        let table = fs::read_to_string("/proc/self/net/unix").unwrap();
        assert!(connections([&table].into_iter(), &open.sockets).get("").is_some_and(|n| *n >= 2));
    }
}
