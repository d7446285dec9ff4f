//! Services of the lab that are written in Go, of its standard library alone, compiled by Go's own toolchain.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use super::process::Launch;
use super::python::{Packages, python};
use super::target_dir;

/// A launch of one of the lab's programs in Go.
///
/// # Errors
/// When the toolchain cannot be had, or refuses the program.
pub fn program(name: &str, source: &str) -> Result<Launch> {
    Ok(Launch::new(name, build(source)?))
}

/// Compiles it, if it is not there as it is now.
fn build(source: &str) -> Result<PathBuf> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = target_dir().join("lab");
    let made = lab.join("go").join(source.trim_end_matches(".go"));
    let from = super::clients_dir().join(source);
    let changed = |path: &PathBuf| path.metadata().and_then(|m| m.modified());
    if let (Ok(made_at), Ok(changed_at)) = (changed(&made), changed(&from))
        && made_at > changed_at
    {
        return Ok(made);
    }
    let interpreter = python(Packages::Go)?;
    let found = Command::new(&interpreter)
        .args(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
        .output()
        .context("cannot ask Python where its packages are")?;
    let go = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim()).join("go/bin/go");
    let output = Command::new(&go)
        .args(["build", "-trimpath", "-o"])
        .arg(&made)
        .arg(&from)
        .envs([("CGO_ENABLED", "0"), ("GOTOOLCHAIN", "local"), ("GOPROXY", "off")])
        .env("GOCACHE", lab.join("go-cache"))
        .output()
        .with_context(|| format!("cannot start {}", go.display()))?;
    if !output.status.success() {
        bail!("go build {source}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(made)
}
