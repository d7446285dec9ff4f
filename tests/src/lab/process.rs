//! Starting a process inside a cgroup, as a user, with a log; ending it by its pid and reaping it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::containers::{Container, Home};

/// User and group id of a name in `/etc/passwd`.
///
/// # Errors
/// When there is no such user.
pub fn user_ids(user: &str) -> Result<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    passwd
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == user).then_some(())?;
            let mut ids = fields.skip(1);
            Some((ids.next()?.parse().ok()?, ids.next()?.parse().ok()?))
        })
        .with_context(|| format!("no user {user} on this machine"))
}

/// What is to be started.
#[derive(Debug)]
pub struct Launch {
    name: String,
    program: OsString,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    cgroup: Option<PathBuf>,
    container: Option<Container>,
    user: Option<String>,
    stop: Signal,
    stdin: bool,
    terminal: bool,
}

impl Launch {
    /// A program, under a name for logs.
    pub fn new(name: &str, program: impl AsRef<OsStr>) -> Self {
        Self {
            name: name.to_owned(),
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            envs: Vec::new(),
            cgroup: None,
            container: None,
            user: None,
            stop: Signal::TERM,
            stdin: false,
            terminal: false,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.envs.push((key.into(), value.as_ref().to_owned()));
        self
    }

    /// Sets environment variables.
    #[must_use]
    pub fn envs<S: AsRef<OsStr>>(self, all: impl IntoIterator<Item = (&'static str, S)>) -> Self {
        all.into_iter().fold(self, |launch, (key, value)| launch.env(key, value))
    }

    /// Starts inside this cgroup: every socket of the program belongs to it.
    #[must_use]
    pub fn cgroup(mut self, dir: &Path) -> Self {
        self.cgroup = Some(dir.to_owned());
        self
    }

    /// Starts in a cgroup or in a container.
    #[must_use]
    pub fn home(mut self, home: Home) -> Self {
        match home {
            Home::Cgroup(dir) => self.cgroup = Some(dir),
            Home::Container(container) => {
                self.container = Some(*container);
                // The first process of a container is deaf to signals that it does not expect.
                self.stop = Signal::KILL;
            }
        }
        self
    }

    /// Runs as this user of the system.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// The signal that asks it to end; SIGTERM when not set.
    #[must_use]
    pub fn stop_with(mut self, signal: Signal) -> Self {
        self.stop = signal;
        self
    }

    /// Gives the starter a pipe to the program's standard input.
    #[must_use]
    pub fn with_stdin(mut self) -> Self {
        self.stdin = true;
        self
    }

    /// Leaves standard output on the terminal; only standard error goes to the log.
    #[must_use]
    pub fn on_terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// Starts it; output goes to `NAME.log` in `logs`.
    ///
    /// # Errors
    /// When the log cannot be written or the program not be started.
    pub fn start(mut self, logs: &Path) -> Result<Process> {
        fs::create_dir_all(logs).with_context(|| format!("cannot create {}", logs.display()))?;
        let log = logs.join(format!("{}.log", self.name));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        if let Some(container) = self.container.take() {
            let mut program = vec![std::mem::take(&mut self.program)];
            program.append(&mut self.args);
            let mut run = container.command(&self.envs, &program)?.into_iter();
            self.program = run.next().unwrap_or_default();
            self.args = run.collect();
        }
        let mut command = match &self.cgroup {
            // The shell enters the cgroup and then becomes the program, so no socket is ever made outside of it.
            Some(dir) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(dir.join("cgroup.procs")).arg("setpriv");
                shell
            }
            None => Command::new("setpriv"),
        };
        if let Some(user) = &self.user {
            let (uid, gid) = user_ids(user)?;
            command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups");
        }
        // Nothing may outlive us, however we end.
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program).args(&self.args);
        command.envs(self.envs.iter().map(|(k, v)| (k, v)));
        command.stdin(if self.stdin { Stdio::piped() } else { Stdio::null() });
        if !self.terminal {
            command.stdout(file.try_clone()?);
        }
        command.stderr(file);
        // Ctrl-C on a terminal is for whoever runs the lab: it ends these itself, in order.
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.name))?;
        Ok(Process { name: self.name, child, log, stop: self.stop })
    }
}

/// A running process that ends when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    stop: Signal,
}

impl Process {
    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, once, when it was started with one.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// The last lines that it wrote.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(25)..).unwrap_or_default().join("\n")
    }

    /// Everything that it wrote.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn output(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("cannot read {}", self.log.display()))
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// When the system does not know it.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it does not within `limit` (it is killed then), or when it fails.
    pub fn finish(mut self, limit: Duration) -> Result<String> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                if !status.success() {
                    bail!("{} failed ({status}):\n{}", self.name, self.log_tail());
                }
                return self.output();
            }
            if Instant::now() > until {
                bail!("{} did not end within {limit:?}:\n{}", self.name, self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks it to end, waits, kills it when it does not; gives its status.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.signal(self.stop);
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended meanwhile; it is not reaped yet, so the pid is still its own.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}
