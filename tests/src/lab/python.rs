//! Python interpreters with the packages that clients and services need: the one that `cargo xtask` names, or one made
//! on demand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Name of the environment variable with the interpreter that has [`Packages::Current`].
pub const PYTHON: &str = "LEASEWARDEN_PYTHON";

/// A set of packages that live together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packages {
    /// What clients and services need, in versions of today.
    Current,
    /// redis-py 4.5.1, whose asyncio connections went back into the pool with a reply unread.
    Redis451,
    /// What producers and workers of queues need.
    Queue,
    /// MCP's SDK 1.26.0: a session answers whoever knows its id.
    Mcp126,
    /// MCP's SDK 1.30.0: a session answers only who opened it.
    Mcp130,
    /// MCP's SDK 2.3.0, which speaks revision 2026-07-28.
    Mcp230,
    /// What the recipes of frameworks need.
    Recipes,
    /// What further recipes need, in versions of their own.
    Further,
    /// What services before MariaDB and memcached need.
    Stores,
    /// Go's own toolchain, for services of the lab that are written in Go.
    Go,
}

impl Packages {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Current,
        Self::Redis451,
        Self::Queue,
        Self::Mcp126,
        Self::Mcp130,
        Self::Mcp230,
        Self::Recipes,
        Self::Further,
        Self::Stores,
        Self::Go,
    ];

    /// The environment's directory.
    #[must_use]
    pub fn dir(self) -> PathBuf {
        super::target_dir().join("lab").join(match self {
            Self::Current => "venv",
            Self::Redis451 => "venv-redis-4.5.1",
            Self::Queue => "venv-queue",
            Self::Mcp126 => "venv-mcp-1.26.0",
            Self::Mcp130 => "venv-mcp-1.30.0",
            Self::Mcp230 => "venv-mcp-2.3.0",
            Self::Recipes => "venv-recipes",
            Self::Further => "venv-recipes-further",
            Self::Stores => "venv-stores",
            Self::Go => "venv-go",
        })
    }

    fn requirements(self) -> PathBuf {
        super::clients_dir().join(match self {
            Self::Current => "requirements.txt",
            Self::Redis451 => "requirements-redis-4.5.1.txt",
            Self::Queue => "requirements-queue.txt",
            Self::Mcp126 => "requirements-mcp-1.26.0.txt",
            Self::Mcp130 => "requirements-mcp-1.30.0.txt",
            Self::Mcp230 => "requirements-mcp-2.3.0.txt",
            Self::Recipes => "recipes/requirements.txt",
            Self::Further => "recipes/further/requirements.txt",
            Self::Stores => "requirements-stores.txt",
            Self::Go => "requirements-go.txt",
        })
    }

    /// The copy is the last thing made: it says that the environment is complete, and for which requirements.
    fn stamp(self) -> PathBuf {
        self.dir().join("requirements.txt")
    }

    /// Whether the environment is there, with these very requirements.
    #[must_use]
    pub fn is_made(self) -> bool {
        let wanted = fs::read(self.requirements()).ok();
        wanted.is_some() && fs::read(self.stamp()).ok() == wanted
    }

    /// Makes the environment, in place of what is there.
    ///
    /// # Errors
    /// When Python's `venv` is missing, or the packages cannot be had.
    pub fn make(self) -> Result<()> {
        let dir = self.dir();
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        run(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
        run(Command::new(dir.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "-r"])
            .arg(self.requirements()))?;
        fs::copy(self.requirements(), self.stamp())?;
        Ok(())
    }
}

/// The interpreter that has these packages.
///
/// # Errors
/// When it is not there and cannot be made: Python's `venv` is missing, or the packages cannot be had.
pub fn python(packages: Packages) -> Result<PathBuf> {
    if packages == Packages::Current
        && let Some(path) = std::env::var_os(PYTHON).map(PathBuf::from)
    {
        if !path.exists() {
            bail!("{PYTHON} names {}, which is not there", path.display());
        }
        return Ok(path);
    }
    if !packages.is_made() {
        packages.make()?;
    }
    Ok(packages.dir().join("bin/python"))
}

/// A launch of one of the lab's Python programs.
///
/// # Errors
/// As [`python`].
pub fn program(name: &str, packages: Packages, script: &str) -> Result<super::process::Launch> {
    let script: PathBuf = Path::new(&super::clients_dir()).join(script);
    Ok(super::process::Launch::new(name, python(packages)?).arg("-u").arg(script).env("PYTHONDONTWRITEBYTECODE", "1"))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
