//! Pictures of the dashboards, drawn with Grafana's own widgets in Chromium from the data of a running Prometheus. For who
//! changes them: 720 MB of Node.js packages, kept outside of the repository, and no part of the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{apt, paths, sh};

/// The packages that are asked for, and the page that is drawn.
const SOURCES: [(&str, &str); 4] = [
    ("package.json", include_str!("draw/package.json")),
    ("render.tsx", include_str!("draw/render.tsx")),
    ("scrollbars.js", include_str!("draw/scrollbars.js")),
    ("shot.mjs", include_str!("draw/shot.mjs")),
];

/// What to draw, and from what.
pub(super) struct Wanted<'a> {
    /// Where the pictures go.
    pub(super) into: &'a Path,
    /// The Prometheus.
    pub(super) prometheus: &'a str,
    /// How many seconds back.
    pub(super) seconds: u64,
    /// `variable=value`.
    pub(super) values: &'a [String],
}

/// Draws the dashboards of these files.
///
/// # Errors
/// A tool is missing, or a panel shows an error.
pub(super) fn draw(dashboards: &[PathBuf], wanted: &Wanted<'_>) -> Result<()> {
    let dir = environment()?;
    fs::create_dir_all(wanted.into)?;
    let into = fs::canonicalize(wanted.into)?;
    let mut failed = Vec::new();
    for file in dashboards {
        let name = file.file_stem().context("a dashboard without a name")?.to_string_lossy().into_owned();
        let out = into.join(&name).with_extension("png");
        sh::step(&format!("drawing {}", out.display()));
        let mut command = Command::new("node");
        command.arg("shot.mjs").arg(file).arg(wanted.prometheus).arg(&out).arg(wanted.seconds.to_string());
        let status = command.args(wanted.values).current_dir(&dir).status().context("cannot start node")?;
        if !status.success() {
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("panels with errors in {}", failed.join(", "));
    }
    Ok(())
}

/// The Node.js packages and the page, made when the sources are not those it was made of.
fn environment() -> Result<PathBuf> {
    for (program, package) in [("node", "nodejs"), ("npm", "npm"), ("chromium", "chromium")] {
        if paths::find_program(program).is_none() {
            apt::install(&[package])?;
        }
    }
    let dir = paths::cache().join("dashboards-draw");
    fs::create_dir_all(&dir)?;
    let is_current = |(name, text): &(&str, &str)| fs::read_to_string(dir.join(name)).is_ok_and(|old| old == *text);
    if SOURCES.iter().all(is_current) && dir.join("render.js").exists() {
        return Ok(dir);
    }
    let packages_are_current = is_current(&SOURCES[0]) && dir.join("node_modules").exists();
    for (name, text) in SOURCES {
        fs::write(dir.join(name), text)?;
    }
    if !packages_are_current {
        sh::step("installing Grafana's widgets (Node.js packages, 720 MB; delete them with the cache when done)");
        let npm = ["install", "--legacy-peer-deps", "--no-audit", "--no-fund", "--loglevel=error"];
        sh::quiet(sh::cmd("npm", npm).current_dir(&dir))?;
    }
    let mut bundle = Command::new(dir.join("node_modules/.bin/esbuild"));
    bundle.args(["render.tsx", "--bundle", "--outfile=render.js", "--format=iife", "--jsx=automatic", "--minify"]);
    bundle.args(["svg", "woff2", "png", "ttf"].map(|end| format!("--loader:.{end}=dataurl")));
    bundle.args(["--define:process.env.NODE_ENV=\"production\"", "--define:global=window", "--log-level=error"]);
    bundle.arg("--alias:react-custom-scrollbars-2=./scrollbars.js");
    sh::quiet(bundle.current_dir(&dir))?;
    Ok(dir)
}
