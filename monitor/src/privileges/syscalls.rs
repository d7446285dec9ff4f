//! The system calls of a running agent. Whatever is not here is refused with `EPERM`, and the agent lives on: a call
//! that a later library makes must not blind the node. No starting of programs, no tracing, no mounting, no namespaces,
//! no modules, no keys, no raw or packet sockets, no loading of BPF programs, no memory that is writable and executable.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{self, Eq, MaskedEq};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    apply_filter_all_threads,
};

/// `bpf()`: elements of maps (one by one and in batches), and what is known of a program.
const BPF_COMMANDS: [u64; 9] = [1, 2, 3, 4, 15, 21, 24, 25, 26];
/// The same where TLS is read: and making a link, which attaches a program that is loaded.
const BPF_COMMANDS_TLS: [u64; 10] = [1, 2, 3, 4, 15, 21, 24, 25, 26, 28];
/// `ioctl()` where TLS is read: giving a perf event its program, and switching it on and off (before Linux 5.15).
const IOCTLS_TLS: [u64; 3] = [0x4004_2408, 0x2400, 0x2401];
/// `prctl()`: names of threads and of memory, and asking.
const PRCTL_OPTIONS: [c_long; 6] = [
    libc::PR_SET_NAME as c_long,
    libc::PR_GET_NAME as c_long,
    0x5356_4d41, // PR_SET_VMA
    libc::PR_GET_DUMPABLE as c_long,
    libc::PR_CAPBSET_READ as c_long,
    libc::PR_GET_NO_NEW_PRIVS as c_long,
];
/// `ioctl()`: is it a terminal and how wide, and what sockets are asked.
const IOCTLS: [u64; 6] = [libc::TCGETS, libc::TIOCGWINSZ, libc::FIONBIO, libc::FIONREAD, libc::FIOCLEX, libc::FIONCLEX];
/// Flags of `clone()` that make namespaces.
const NAMESPACES: i64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as i64;
/// The kind of a socket, without its flags.
const SOCK_TYPE_MASK: u64 = 0xf;

/// Calls by name and number.
type Calls = &'static [(&'static str, c_long)];

macro_rules! calls {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name)),*] };
}

/// Calls that are allowed whatever their arguments.
#[rustfmt::skip]
const PLAIN: Calls = calls! {
    // Files that are open.
    SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev SYS_lseek SYS_close
    SYS_close_range SYS_fstat SYS_fcntl SYS_flock SYS_fsync SYS_fdatasync SYS_ftruncate SYS_fallocate SYS_fadvise64
    SYS_fchmod SYS_fchown SYS_fstatfs SYS_getdents64 SYS_dup SYS_dup3 SYS_sendfile SYS_copy_file_range
    // Files by name.
    SYS_openat SYS_openat2 SYS_open_by_handle_at SYS_name_to_handle_at SYS_newfstatat SYS_statx SYS_statfs
    SYS_faccessat SYS_faccessat2 SYS_readlinkat SYS_renameat SYS_renameat2 SYS_unlinkat SYS_mkdirat SYS_linkat
    SYS_fchmodat SYS_utimensat SYS_getcwd SYS_umask
    // Memory.
    SYS_brk SYS_munmap SYS_mremap SYS_madvise SYS_msync SYS_mincore SYS_mlock SYS_mlock2 SYS_munlock SYS_membarrier
    // Threads of this process.
    SYS_futex SYS_set_robust_list SYS_get_robust_list SYS_set_tid_address SYS_rseq SYS_exit SYS_exit_group
    SYS_gettid SYS_getpid SYS_getppid SYS_sched_yield SYS_sched_getaffinity SYS_sched_setaffinity
    SYS_sched_getscheduler SYS_sched_getparam SYS_sched_setscheduler SYS_sched_getattr SYS_sched_setattr
    SYS_getpriority SYS_setpriority SYS_getcpu SYS_restart_syscall
    // Signals to itself.
    SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigpending SYS_rt_sigtimedwait SYS_rt_sigsuspend SYS_rt_sigreturn
    SYS_sigaltstack SYS_signalfd4
    // Time.
    SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_nanosleep SYS_gettimeofday SYS_times
    SYS_timerfd_create SYS_timerfd_settime SYS_timerfd_gettime
    // Waiting.
    SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_ppoll SYS_pselect6 SYS_eventfd2 SYS_pipe2
    SYS_inotify_init1 SYS_inotify_add_watch SYS_inotify_rm_watch
    // Sockets that are there.
    SYS_connect SYS_bind SYS_listen SYS_accept SYS_accept4 SYS_getsockname SYS_getpeername SYS_getsockopt
    SYS_setsockopt SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_sendmmsg SYS_recvmmsg SYS_shutdown
    // What the process is and has. Capabilities can only become fewer.
    SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getresuid SYS_getresgid SYS_getgroups SYS_capget SYS_capset
    SYS_getrusage SYS_sysinfo SYS_uname SYS_getrandom
};

/// Older forms of the same, which x86-64 has and C libraries use.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER: Calls = calls! {
    SYS_open SYS_stat SYS_lstat SYS_access SYS_readlink SYS_rename SYS_unlink SYS_mkdir SYS_link SYS_chmod
    SYS_getdents SYS_poll SYS_select SYS_epoll_create SYS_epoll_wait SYS_eventfd SYS_pipe SYS_dup2 SYS_inotify_init
    SYS_time SYS_getrlimit SYS_arch_prctl
};
#[cfg(not(target_arch = "x86_64"))]
const OLDER: Calls = &[];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Failure = Box<dyn std::error::Error>;

/// Allows these calls only from now on, in every thread. `log`: others are allowed and written to the audit log.
///
/// # Errors
/// The kernel does not filter, or not for this processor.
pub(super) fn install(log: bool, tls: bool) -> Result<(), String> {
    let programs = programs(log, tls).map_err(|e| e.to_string())?;
    for program in &programs {
        apply_filter_all_threads(program).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn programs(log: bool, tls: bool) -> Result<[BpfProgram; 2], Failure> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let refused = if log { SeccompAction::Log } else { SeccompAction::Errno(libc::EPERM as u32) };
    let allowed = SeccompFilter::new(rules(tls)?, refused, SeccompAction::Allow, arch)?;
    // Its arguments are out of a filter's sight. As if the kernel had none, so that libraries use `clone`.
    let clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
    let old = SeccompFilter::new(clone3, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32), arch)?;
    // In this order: the second would refuse a third.
    Ok([old.try_into()?, allowed.try_into()?])
}

/// `tls`: TLS is read. The calls of the thread that attaches probes are let through for all, as a filter holds for all;
/// what they need besides, no other thread has.
fn rules(tls: bool) -> Result<Rules, Failure> {
    let mut rules: Rules = PLAIN.iter().chain(OLDER).map(|(_, call)| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_clone3, Vec::new());
    if tls {
        rules.insert(libc::SYS_perf_event_open, Vec::new());
    }
    let mut only = |call: c_long, ways: Vec<Vec<Condition>>| -> Result<(), Failure> {
        let ways = ways.into_iter().map(|all| {
            let all = all.into_iter().map(|(arg, len, op, value)| SeccompCondition::new(arg, len, op, value));
            Ok(SeccompRule::new(all.collect::<Result<_, _>>()?)?)
        });
        rules.insert(call, ways.collect::<Result<_, Failure>>()?);
        Ok(())
    };
    let one_of = |arg: u8, values: &[u64]| values.iter().map(|v| vec![(arg, Dword, Eq, *v)]).collect();

    // Threads, no processes, no namespaces.
    let thread = libc::CLONE_THREAD as u32;
    let mask = MaskedEq(u64::from(thread) | NAMESPACES as u64);
    only(libc::SYS_clone, vec![vec![(0, Dword, mask, u64::from(thread))]])?;

    // Memory is written or run, never both: what could be run is mapped from files (libraries of the resolver).
    let (write, exec) = (libc::PROT_WRITE as u64, libc::PROT_EXEC as u64);
    let unless = |bit: u64| vec![(2, Dword, MaskedEq(bit), 0)];
    only(libc::SYS_mmap, vec![unless(write), unless(exec)])?;
    only(libc::SYS_mprotect, vec![unless(exec)])?;

    // TCP and UDP, Unix sockets, and the kernel's own list of addresses.
    let inet =
        |family: i32, kind: i32| vec![(0, Dword, Eq, family as u64), (1, Dword, MaskedEq(SOCK_TYPE_MASK), kind as u64)];
    let netlink = |protocol: i32| vec![(0, Dword, Eq, libc::AF_NETLINK as u64), (2, Dword, Eq, protocol as u64)];
    only(
        libc::SYS_socket,
        vec![
            inet(libc::AF_INET, libc::SOCK_STREAM),
            inet(libc::AF_INET, libc::SOCK_DGRAM),
            inet(libc::AF_INET6, libc::SOCK_STREAM),
            inet(libc::AF_INET6, libc::SOCK_DGRAM),
            vec![(0, Dword, Eq, libc::AF_UNIX as u64)],
            netlink(libc::NETLINK_ROUTE),
        ],
    )?;
    only(libc::SYS_socketpair, one_of(0, &[libc::AF_UNIX as u64]))?;

    only(libc::SYS_bpf, one_of(0, if tls { &BPF_COMMANDS_TLS } else { &BPF_COMMANDS[..] }))?;
    let ioctls: Vec<u64> = IOCTLS.iter().chain(if tls { &IOCTLS_TLS[..] } else { &[] }).copied().collect();
    only(libc::SYS_ioctl, one_of(1, &ioctls))?;
    only(libc::SYS_prctl, one_of(0, &PRCTL_OPTIONS.map(|o| o as u64)))?;
    let own = u64::from(std::process::id());
    only(libc::SYS_kill, one_of(0, &[own]))?;
    only(libc::SYS_tgkill, one_of(0, &[own]))?;
    // Limits are read, not changed.
    only(libc::SYS_prlimit64, vec![vec![(2, Qword, Eq, 0)]])?;
    Ok(rules)
}

/// Argument, its size, how it is compared, with what.
type Condition = (u8, SeccompCmpArgLen, SeccompCmpOp, u64);

/// The same for a container's runtime (`seccompProfile: Localhost`), which sets it before the agent is there: with what
/// starting, becoming another user and loading take. For x86-64 and arm64; names that a processor does not have are
/// skipped by runtimes.
pub fn runtime_profile() -> String {
    let plain = PLAIN.iter().chain(OLDER).map(|(name, _)| name.trim_start_matches("SYS_"));
    let mut names: Vec<&str> = plain.chain(AT_START.iter().copied()).collect();
    names.sort_unstable();
    names.dedup();
    let equal = |index: u8, value: i64| serde_json::json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" });
    let masked = |index: u8, mask: i64, value: i64| serde_json::json!({ "index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" });
    let allow = |names: &[&str], args: serde_json::Value| serde_json::json!({ "names": names, "action": "SCMP_ACT_ALLOW", "args": args });
    let mut calls = vec![allow(&names, serde_json::json!([]))];
    calls.push(allow(&["clone"], serde_json::json!([masked(0, NAMESPACES, 0)])));
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
    calls.extend(families.map(|family| allow(&["socket"], serde_json::json!([equal(0, family.into())]))));
    let netlink = serde_json::json!([equal(0, libc::AF_NETLINK.into()), equal(2, libc::NETLINK_ROUTE.into())]);
    calls.push(allow(&["socket"], netlink));
    calls.push(serde_json::json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }));
    let profile = serde_json::json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "archMap": [
            { "architecture": "SCMP_ARCH_X86_64", "subArchitectures": [] },
            { "architecture": "SCMP_ARCH_AARCH64", "subArchitectures": [] },
        ],
        "syscalls": calls,
    });
    serde_json::to_string_pretty(&profile).unwrap_or_default() + "\n"
}

/// What a container's process does before it is confined: by the runtime on its way to the program, and by the agent.
const AT_START: &[&str] = &[
    "bpf",
    "capget",
    "chdir",
    "execve",
    "fchdir",
    "ioctl",
    "kill",
    "mlockall",
    "mmap",
    "mprotect",
    "perf_event_open",
    "prctl",
    "prlimit64",
    "seccomp",
    "setgid",
    "setgroups",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "setrlimit",
    "setuid",
    "socketpair",
    "tgkill",
    "tkill",
    "wait4",
    "waitid",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_profile_of_runtimes_is_current() {
        let profile = runtime_profile();
        for name in ["ptrace", "mount", "unshare", "setns", "init_module", "keyctl", "io_uring_setup", "execveat"] {
            assert!(!profile.contains(&format!("\"{name}\"")), "{name}");
        }
        if cfg!(target_arch = "x86_64") {
            crate::testing::assert_current("deploy/seccomp/leasewarden.json", &profile);
        }
    }

    #[test]
    fn what_must_not_be_is_not_there() {
        let rules = rules(false).unwrap();
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_perf_event_open,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_userfaultfd,
            libc::SYS_io_uring_setup,
            libc::SYS_setuid,
            libc::SYS_setresuid,
            libc::SYS_seccomp,
            libc::SYS_memfd_create,
            libc::SYS_pidfd_getfd,
        ] {
            assert!(!rules.contains_key(&call), "{call}");
        }
        for call in [libc::SYS_socket, libc::SYS_bpf, libc::SYS_clone, libc::SYS_mmap, libc::SYS_ioctl] {
            assert!(rules.get(&call).is_some_and(|ways| !ways.is_empty()), "{call} is allowed whatever it is asked");
        }
        // Fits into what the kernel takes.
        assert!(programs(false, true).unwrap().iter().all(|p| (1..4096).contains(&p.len())));
    }
}
