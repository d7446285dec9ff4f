//! Node.js with the packages of the lab's service.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::process::Launch;

fn dir() -> PathBuf {
    super::target_dir().join("lab/node")
}

/// Whether the packages are there, by this very lock file.
#[must_use]
pub fn is_made() -> bool {
    let wanted = fs::read(super::clients_dir().join("package-lock.json")).ok();
    // Put there last: it says that the packages are complete.
    wanted.is_some() && fs::read(dir().join("installed-lock.json")).ok() == wanted
}

/// Installs the packages, in place of what is there.
///
/// # Errors
/// When npm is missing or the packages cannot be had.
pub fn make() -> Result<()> {
    let (dir, from) = (dir(), super::clients_dir());
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(from.join(file), dir.join(file)).with_context(|| format!("cannot copy {file}"))?;
    }
    let output = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(&dir)
        .output()
        .context("cannot start npm")?;
    if !output.status.success() {
        bail!("npm ci failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    fs::copy(from.join("package-lock.json"), dir.join("installed-lock.json"))?;
    Ok(())
}

/// A launch of one of the lab's Node.js programs.
///
/// # Errors
/// When the packages cannot be had.
pub fn program(name: &str, script: &str) -> Result<Launch> {
    if !is_made() {
        make()?;
    }
    Ok(Launch::new(name, "node").arg(super::clients_dir().join(script)).env("NODE_PATH", dir().join("node_modules")))
}
