//! Running programs: one progress line each, and an error that names the command and shows what it said.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Says which step begins.
pub(crate) fn step(what: &str) {
    eprintln!("==> {what}");
}

/// Says something about the step under way.
pub(crate) fn note(what: &str) {
    eprintln!("    {what}");
}

/// Says something nobody may overlook.
pub(crate) fn loud(what: &str) {
    let line = "!".repeat(what.chars().count().min(100) + 6);
    eprintln!("{line}\n!! {what}\n{line}");
}

/// `cargo`, as the one that runs this.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::paths::root());
    command
}

/// A command, ready for [`run`], [`quiet`] or [`capture`].
pub(crate) fn cmd<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(crate::paths::root());
    command
}

/// The command line, for people.
pub(crate) fn show(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

/// Runs a command whose output the user sees.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", show(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", show(command));
    }
    Ok(())
}

/// Runs a command whose output matters only when it fails; then the error shows the end of it.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn quiet(command: &mut Command) -> Result<()> {
    capture(command).map(drop)
}

/// Runs a command and gives back what it printed.
///
/// # Errors
/// When it cannot be started or fails; the error shows the end of what it said.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{}`", show(command)))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let said = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = said.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n    ");
    bail!("`{}` failed ({}):\n    {tail}", show(command), output.status)
}

/// Whether this process is root; packages, cgroups and probes need it.
pub(crate) fn is_root() -> bool {
    tests::lab::is_root()
}
