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
}

impl Modules {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Current, Self::Recipes, Self::Further];

    /// Where they are installed.
    fn dir(self) -> PathBuf {
        super::target_dir().join("lab").join(match self {
            Self::Current => "node",
            Self::Recipes => "node-recipes",
            Self::Further => "node-recipes-further",
        })
    }

    /// Where `package.json` and its lock file are.
    fn source(self) -> PathBuf {
        match self {
            Self::Current => super::clients_dir(),
            Self::Recipes => super::clients_dir().join("recipes"),
            Self::Further => super::clients_dir().join("recipes/further"),
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
