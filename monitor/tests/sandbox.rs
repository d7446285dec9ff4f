//! The confined process: what it still does, and what nobody gets it to do. One test: the filter is the whole process's,
//! and for good.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::process::Command;

use monitor::privileges::{PrivilegesConfig, Sandbox, begin, confine};

fn status(thread: &str, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).expect("procfs");
    text.lines().find_map(|l| l.strip_prefix(key)).expect("the key").trim().to_owned()
}

fn threads() -> Vec<String> {
    let all = std::fs::read_dir("/proc/self/task").expect("procfs");
    all.map(|t| t.expect("a thread").file_name().into_string().expect("a number")).collect()
}

fn refused(what: &str, result: libc::c_long) {
    let error = std::io::Error::last_os_error();
    assert!(result < 0 && error.raw_os_error() == Some(libc::EPERM), "{what}: {result}, {error}");
}

#[test]
fn a_confined_process_does_its_work_and_nothing_else() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let root = rustix::process::geteuid().is_root();
    begin(&PrivilegesConfig::default()).expect("as it is");
    confine(Sandbox::On, false);

    // Every thread, those too that were there before.
    assert!(threads().len() >= 2);
    for thread in threads() {
        assert_eq!((status(&thread, "Seccomp:"), status(&thread, "NoNewPrivs:")), ("2".into(), "1".into()), "{thread}");
    }
    // This thread gave up all but two, if it had more.
    let own = rustix::thread::gettid().as_raw_nonzero().to_string();
    let kept = 1u64 << 39 | 1 << 2;
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        let held = u64::from_str_radix(&status(&own, set), 16).expect("hexadecimal");
        // The bounding set of who may not change it stays, and is of no use to him.
        assert!(set == "CapBnd:" && !root || held & !kept == 0, "{set} {held:x}");
    }

    // What must not work.
    assert_eq!(Command::new("/bin/true").status().expect_err("no programs").kind(), ErrorKind::PermissionDenied);
    // SAFETY: each call is refused before it looks at its arguments, none of which points anywhere.
    unsafe {
        refused("packet socket", libc::c_long::from(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)));
        refused("raw socket", libc::c_long::from(libc::socket(libc::AF_INET, libc::SOCK_RAW, 1)));
        refused("vsock", libc::c_long::from(libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)));
        refused("ptrace", libc::syscall(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0));
        refused("mount", libc::syscall(libc::SYS_mount, 0, 0, 0, 0, 0));
        refused("unshare", libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER));
        refused("setns", libc::syscall(libc::SYS_setns, 0, 0));
        refused("module", libc::syscall(libc::SYS_init_module, 0, 0, 0));
        refused("fork", libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0));
        refused("program load", libc::syscall(libc::SYS_bpf, 5, 0, 0));
        refused("other's signal", libc::syscall(libc::SYS_kill, 1, 0));
        refused("terminal input", libc::syscall(libc::SYS_ioctl, 0, libc::TIOCSTI, 0));
        refused("limits", libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, 1, 0));
        let page = libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_eq!(page, libc::MAP_FAILED, "memory to write and run");
    }

    // What must.
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("a"), "x").expect("written");
    std::fs::rename(dir.path().join("a"), dir.path().join("b")).expect("renamed");
    assert_eq!(std::fs::read(dir.path().join("b")).expect("read"), b"x");
    std::fs::remove_file(dir.path().join("b")).expect("removed");
    assert!(std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").count() > 0);
    assert!("localhost:1".to_socket_addrs().expect("the resolver").next().is_some());
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let other = std::thread::Builder::new().name("later".into()).spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepted");
        stream.write_all(b"hello").expect("written");
        status(&format!("{}", rustix::thread::gettid().as_raw_nonzero()), "Seccomp:")
    });
    let mut text = String::new();
    TcpStream::connect(address).expect("connected").read_to_string(&mut text).expect("read");
    assert_eq!((text.as_str(), other.expect("a thread").join().expect("no panic").as_str()), ("hello", "2"));
    UnixStream::pair().expect("a pair");
    runtime.block_on(async {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
        drop(signals.expect("signals"));
        tokio::task::spawn_blocking(|| std::fs::read("/proc/self/status").expect("read")).await.expect("a new thread");
        let addresses = tokio::net::lookup_host("localhost:1").await.expect("the resolver");
        assert!(addresses.count() > 0);
    });
    let caught = std::thread::spawn(|| std::panic::catch_unwind(|| panic!("with a backtrace"))).join();
    assert!(caught.expect("a thread").is_err());
}
