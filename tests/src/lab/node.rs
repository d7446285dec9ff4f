//! Node.js with the packages that the lab's programs need.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::process::Launch;

/// A set of packages that live together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modules {
    /// What the lab's services, queues and MCP servers need.
    Current,
    /// What the recipes of frameworks need.
    Recipes,
    /// What further recipes need, in versions of their own.
    Further,
    /// Bun, which is a program of its own.
    Bun,
}

impl Modules {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Current, Self::Recipes, Self::Further, Self::Bun];

    /// Where they are installed.
    fn dir(self) -> PathBuf {
        super::target_dir().join("lab").join(match self {
            Self::Current => "node",
            Self::Recipes => "node-recipes",
            Self::Further => "node-recipes-further",
            Self::Bun => "node-bun",
        })
    }

    /// Where `package.json` and its lock file are.
    fn source(self) -> PathBuf {
        match self {
            Self::Current => super::clients_dir(),
            Self::Recipes => super::clients_dir().join("recipes"),
            Self::Further => super::clients_dir().join("recipes/further"),
            Self::Bun => super::clients_dir().join("bun"),
        }
    }

    /// Whether the packages are there, by this very lock file.
    #[must_use]
    pub fn is_made(self) -> bool {
        let wanted = fs::read(self.source().join("package-lock.json")).ok();
        // Put there last: it says that the packages are complete.
        wanted.is_some() && fs::read(self.dir().join("installed-lock.json")).ok() == wanted
    }

    /// Installs the packages, in place of what is there.
    ///
    /// # Errors
    /// When npm is missing or the packages cannot be had.
    pub fn make(self) -> Result<()> {
        let (dir, from) = (self.dir(), self.source());
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
}

/// A launch of one of the lab's Node.js programs.
///
/// # Errors
/// When the packages cannot be had.
pub fn program(name: &str, modules: Modules, script: &str) -> Result<Launch> {
    if !modules.is_made() {
        modules.make()?;
    }
    let script = super::clients_dir().join(script);
    Ok(Launch::new(name, "node").arg(script).env("NODE_PATH", modules.dir().join("node_modules")))
}

/// A launch of one of the lab's programs on Bun.
///
/// # Errors
/// When it cannot be had.
pub fn on_bun(name: &str, script: &str) -> Result<Launch> {
    if !Modules::Bun.is_made() {
        Modules::Bun.make()?;
    }
    let bun = Modules::Bun.dir().join("node_modules/@oven/bun-linux-x64/bin/bun");
    Ok(Launch::new(name, bun).arg(super::clients_dir().join(script)))
}
