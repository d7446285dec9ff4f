//! `charts`: the Helm chart and the plain manifests, tested with the real Helm engine and the schemas of Kubernetes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::{paths, sh};

/// The Helm engine's package wants no older one.
const PYTHON: (u32, u32) = (3, 12);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the manifests from the chart instead of testing.
    #[arg(long)]
    write: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.write {
        let mut command = script("charts.py")?;
        sh::run(command.arg("--write").stderr(std::process::Stdio::null()))?;
    } else {
        test()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lints, renders, installs, upgrades and validates; no cluster, no root.
///
/// # Errors
/// When a test fails, or the Python packages cannot be had.
pub(crate) fn test() -> Result<()> {
    sh::step("testing the chart and the manifests");
    let mut command = script("charts.py")?;
    // The engine's own chatter; and Python's, should it not even begin.
    let chatter = paths::lab().join("charts.err");
    sh::run(command.stderr(fs::File::create(&chatter)?)).with_context(|| format!("see also {}", chatter.display()))
}

/// Puts the packaged chart and the plain manifests into a folder.
///
/// # Errors
/// When the engine cannot be had or refuses.
pub(crate) fn package(out: &Path) -> Result<()> {
    let mut command = script("charts.py")?;
    sh::quiet(command.arg("--package").arg(out))
}

/// A command that runs one of the Python programs of `deploy/tests`.
///
/// # Errors
/// When the environment cannot be made.
pub(crate) fn script(name: &str) -> Result<Command> {
    let mut command = Command::new(environment()?.join("bin/python"));
    command.arg("-u").arg(folder().join(name)).env("PYTHONDONTWRITEBYTECODE", "1").current_dir(paths::root());
    Ok(command)
}

fn folder() -> PathBuf {
    paths::root().join("deploy/tests")
}

/// The Python environment with the Helm engine; made when it is not there or its requirements have changed.
fn environment() -> Result<PathBuf> {
    let dir = paths::lab().join("venv-helm");
    let wanted = folder().join("requirements.txt");
    let stamp = dir.join("requirements.txt");
    let text = fs::read(&wanted).with_context(|| format!("cannot read {}", wanted.display()))?;
    if fs::read(&stamp).is_ok_and(|old| old == text) {
        return Ok(dir);
    }
    let python = python().with_context(no_python)?;
    sh::step("installing the Helm engine and Kubernetes' schemas (Python packages)");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    sh::quiet(Command::new(python).args(["-m", "venv"]).arg(&dir))?;
    sh::quiet(Command::new(dir.join("bin/python")).args(["-m", "pip", "install", "--quiet", "-r"]).arg(&wanted))?;
    // Last: it says that the environment is complete, and for which requirements.
    fs::write(stamp, text)?;
    Ok(dir)
}

/// Why the chart cannot be tested on this machine; `None` when it can.
pub(crate) fn cannot() -> Option<String> {
    python().is_none().then(no_python)
}

fn no_python() -> String {
    let (major, minor) = PYTHON;
    format!("the Helm engine (PyPI: helm-sdkpy) needs Python {major}.{minor} or later: none on PATH or under pyenv")
}

/// A Python that is new enough.
fn python() -> Option<PathBuf> {
    let named = ["python3", "python3.12", "python3.13", "python3.14", "python3.15"];
    let on_path = named.into_iter().filter_map(paths::find_program);
    let versions = std::env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv")))
        .map(|root| root.join("versions"));
    let pyenv = versions.into_iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    on_path.chain(pyenv.map(|entry| entry.path().join("bin/python3"))).find(|python| is_new(python))
}

fn is_new(python: &Path) -> bool {
    let code = format!("import sys, venv, ensurepip; sys.exit(sys.version_info < {PYTHON:?})");
    Command::new(python).args(["-c", &code]).output().is_ok_and(|output| output.status.success())
}
