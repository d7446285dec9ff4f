//! The interpreter with the clients' packages: the one that `cargo xtask` names, or one made on demand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Name of the environment variable with the interpreter that has the clients' packages.
pub const PYTHON: &str = "LEASEWARDEN_PYTHON";

/// The interpreter that has the clients' packages.
///
/// # Errors
/// When it is not there and cannot be made: Python's `venv` is missing, or the packages cannot be had.
pub fn python() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(PYTHON).map(PathBuf::from) {
        if !path.exists() {
            bail!("{PYTHON} names {}, which is not there", path.display());
        }
        return Ok(path);
    }
    let venv = super::target_dir().join("lab/venv");
    let interpreter = venv.join("bin/python");
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/requirements.txt");
    let wanted = fs::read(&requirements).context("cannot read the clients' requirements")?;
    // The copy is the last thing made: it says that the environment is complete, and for which requirements.
    let stamp = venv.join("requirements.txt");
    if fs::read(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(interpreter);
    }
    let _ = fs::remove_dir_all(&venv);
    fs::create_dir_all(&venv).with_context(|| format!("cannot create {}", venv.display()))?;
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    run(Command::new(&interpreter).args(["-m", "pip", "install", "--quiet", "-r"]).arg(&requirements))?;
    fs::write(&stamp, &wanted)?;
    Ok(interpreter)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
