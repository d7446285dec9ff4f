//! What the agent may do, and how it gives up what it no longer needs.
//!
//! It reads what all tenants say, and it begins with rights to load programs into the kernel. Once its probes are
//! attached it needs few of them, so that whoever took the process over would get little more than what it reads:
//!
//! 1. [`begin`], before there is a second thread: becomes the configured user, keeps only what loading needs.
//! 2. [`thread_begins`], first of all in every thread that loads nothing: keeps only what a running agent needs.
//! 3. [`confine`], when everything is attached: the same for the thread that has loaded, and a filter of system calls
//!    for every thread of the process.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustix::thread::set_no_new_privs;

mod capabilities;
mod syscalls;
mod user;

pub use capabilities::{KEPT, LOADING, TLS};
pub use syscalls::runtime_profile;
pub use user::{Principal, User};

/// How far the agent is confined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// Capabilities are dropped, system calls that it does not need are refused.
    #[default]
    On,
    /// Capabilities are dropped, system calls that it does not need are written to the kernel's audit log.
    Log,
    /// Nothing is given up.
    Off,
}

/// Who the agent is, and what it may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrivilegesConfig {
    /// The user to become; `None`: whoever started it.
    pub user: Option<Principal>,
    /// The group to become; `None`: the user's own.
    pub group: Option<Principal>,
    /// How far it is confined.
    pub sandbox: Sandbox,
    /// TLS is read: one thread goes on attaching probes to what workloads run.
    pub tls: bool,
}

/// The configured user cannot be become.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// There is none of this name.
    #[error("there is no {kind} `{name}` in {}", file.display())]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// As the configuration names it.
        name: String,
        /// Where it was looked for.
        file: PathBuf,
    },
    /// The system refused.
    #[error(
        "cannot run as {who}: {source}; start the agent as root, or leave `user` and `group` out and let systemd do it"
    )]
    Refused {
        /// User and group.
        who: User,
        /// Why.
        source: io::Error,
    },
}

/// Becomes the configured user and keeps only what loading the probes needs. Called before there is a second thread:
/// threads inherit all of this.
///
/// # Errors
/// [`PrivilegeError`]. What cannot be given up is in the log, and no error.
pub fn begin(config: &PrivilegesConfig) -> Result<(), PrivilegeError> {
    let loading = if config.tls { LOADING.union(TLS) } else { LOADING };
    let user = User::wanted(config.user.as_ref(), config.group.as_ref())?;
    if config.sandbox != Sandbox::Off {
        capabilities::bound();
    }
    if let Some(user) = user {
        user::become_user(&user, loading).map_err(|source| PrivilegeError::Refused { who: user.clone(), source })?;
        tracing::info!("running as {user}");
    }
    if config.sandbox == Sandbox::Off {
        return Ok(());
    }
    given_up("capabilities", capabilities::keep(loading));
    // From here on no program that is started gains anything: setuid bits and file capabilities do not count.
    given_up("new privileges", set_no_new_privs(true).map_err(io::Error::from));
    Ok(())
}

/// Keeps, in this thread, only what a running agent needs.
pub fn thread_begins(sandbox: Sandbox) {
    if sandbox != Sandbox::Off {
        given_up("capabilities", capabilities::keep(KEPT));
    }
}

/// Keeps, in the thread that attaches probes to what workloads run, only what that takes.
pub fn attaching_thread_begins(sandbox: Sandbox) {
    if sandbox != Sandbox::Off {
        given_up("capabilities", capabilities::keep(KEPT.union(TLS)));
    }
}

/// Everything is attached: this thread gives up what it loaded with, and no thread makes a system call any more that the
/// agent does not need. `tls`: one thread goes on attaching probes.
pub fn confine(sandbox: Sandbox, tls: bool) {
    thread_begins(sandbox);
    let filtered = match sandbox {
        Sandbox::Off => {
            tracing::warn!("`sandbox` is off: every capability is kept, and every system call allowed");
            return;
        }
        Sandbox::On => syscalls::install(false, tls),
        Sandbox::Log => syscalls::install(true, tls),
    };
    given_up("system calls", filtered);
    let held = capabilities::held();
    tracing::info!(capabilities = %held, system_calls = ?sandbox, "confined");
}

/// What could not be given up is no reason not to watch: it is said.
fn given_up(what: &str, result: Result<(), impl fmt::Display>) {
    if let Err(error) = result {
        tracing::warn!("cannot give up {what}: {error}; the agent goes on with more than it needs");
    }
}
