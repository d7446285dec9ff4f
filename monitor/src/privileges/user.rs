//! Becoming another user while keeping capabilities. Users and groups are looked up in `/etc/passwd` and `/etc/group`
//! alone: a service's user is there, and the static binary has no other way.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{CapabilitySet, set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::PrivilegeError;
use super::capabilities::raise;

/// A user or a group as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// By number.
    Id(u32),
    /// By name.
    Name(String),
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A user with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    uid: u32,
    gid: u32,
    /// Further groups, such as the one that may open a container runtime's socket.
    groups: Vec<u32>,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {}, group {}", self.uid, self.gid)
    }
}

impl User {
    /// Who is asked for; `None`: nobody.
    ///
    /// # Errors
    /// There is no such user or group.
    pub(super) fn wanted(user: Option<&Principal>, group: Option<&Principal>) -> Result<Option<Self>, PrivilegeError> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self::find(user, group, &read("/etc/passwd"), &read("/etc/group"))
    }

    fn find(
        user: Option<&Principal>,
        group: Option<&Principal>,
        passwd: &str,
        groups: &str,
    ) -> Result<Option<Self>, PrivilegeError> {
        if user.is_none() && group.is_none() {
            return Ok(None);
        }
        let unknown = |kind, who: &Principal, file: &str| PrivilegeError::Unknown {
            kind,
            name: who.to_string(),
            file: PathBuf::from(file),
        };
        let known = |who: &Principal| entries(passwd).find(|e| e.is(who));
        let (uid, entry) = match user {
            None => (geteuid().as_raw(), None),
            Some(who) => match (known(who), who) {
                (Some(entry), _) => (entry.id, Some(entry)),
                // A number needs no name.
                (None, Principal::Id(id)) => (*id, None),
                (None, _) => return Err(unknown("user", who, "/etc/passwd")),
            },
        };
        let gid = match group {
            Some(who) => match (entries(groups).find(|e| e.is(who)), who) {
                (Some(entry), _) => entry.id,
                (None, Principal::Id(id)) => *id,
                (None, _) => return Err(unknown("group", who, "/etc/group")),
            },
            None => match &entry {
                Some(entry) => entry.rest.first().and_then(|gid| gid.parse().ok()).unwrap_or(uid),
                None if user.is_some() => uid,
                None => getegid().as_raw(),
            },
        };
        let member = |e: &Entry<'_>| {
            let name = entry.as_ref().map(|u| u.name);
            e.rest.first().is_some_and(|list| name.is_some_and(|name| list.split(',').any(|m| m == name)))
        };
        let groups = entries(groups).filter(member).map(|e| e.id).collect();
        Ok(Some(Self { uid, gid, groups }))
    }
}

/// A line of either file: `name:password:id:…`.
struct Entry<'t> {
    name: &'t str,
    id: u32,
    rest: Vec<&'t str>,
}

impl Entry<'_> {
    fn is(&self, who: &Principal) -> bool {
        match who {
            Principal::Id(id) => self.id == *id,
            Principal::Name(name) => self.name == name,
        }
    }
}

fn entries(text: &str) -> impl Iterator<Item = Entry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?.parse().ok()?);
        Some(Entry { name, id, rest: fields.collect() })
    })
}

/// Becomes this user for good, and keeps the capabilities that loading needs.
///
/// # Errors
/// What the system says.
pub(super) fn become_user(user: &User, loading: CapabilitySet) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let groups: Vec<Gid> = user.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    if geteuid() == uid && getegid() == gid {
        return Ok(());
    }
    set_keep_capabilities(true)?;
    set_thread_groups(&groups)?;
    set_thread_res_gid(Some(gid), Some(gid), Some(gid))?;
    set_thread_res_uid(Some(uid), Some(uid), Some(uid))?;
    raise(loading)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD_TEXT: &str = "root:x:0:0:root:/root:/bin/sh\nlw:x:990:991:agent:/:/usr/sbin/nologin\nbroken\n";
    const GROUPS: &str = "root:x:0:\nlw:x:991:\ndocker:x:998:ubuntu,lw\nadm:x:4:syslog,lwx\n";

    fn find(user: Option<Principal>, group: Option<Principal>) -> Result<Option<User>, String> {
        User::find(user.as_ref(), group.as_ref(), PASSWD_TEXT, GROUPS).map_err(|e| e.to_string())
    }

    fn name(text: &str) -> Option<Principal> {
        Some(Principal::Name(text.into()))
    }

    #[test]
    fn names_and_numbers_with_their_groups() {
        let lw = User { uid: 990, gid: 991, groups: vec![998] };
        assert_eq!(find(None, None), Ok(None));
        assert_eq!(find(name("lw"), None), Ok(Some(lw.clone())));
        assert_eq!(find(Some(Principal::Id(990)), None), Ok(Some(lw.clone())));
        assert_eq!(find(name("lw"), name("docker")), Ok(Some(User { gid: 998, ..lw })));
        let nobody = User { uid: 65534, gid: 65534, groups: vec![] };
        assert_eq!(find(Some(Principal::Id(65534)), None), Ok(Some(nobody)));
        assert_eq!(find(name("nobody-here"), None), Err("there is no user `nobody-here` in /etc/passwd".into()));
        assert_eq!(find(name("lw"), name("x")), Err("there is no group `x` in /etc/group".into()));
    }
}
