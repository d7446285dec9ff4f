//! `dist`: everything a release consists of, in one folder: program, container image, chart, manifests, checksums.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::build::Profile;
use super::{charts, image, setup};
use crate::{paths, sh};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const SUMS: &str = "SHA256SUMS";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder to write; what is in it goes. Default: `target/dist`.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Use this static binary instead of building one.
    #[arg(long, value_name = "BINARY")]
    agent: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let binary = match &args.agent {
        Some(binary) => binary.clone(),
        None => {
            setup::ensure(setup::Need::Build)?;
            image::static_agent(Profile::Release)?
        }
    };
    let out = std::path::absolute(args.out.clone().unwrap_or_else(|| paths::target().join("dist")))?;
    empty(&out)?;
    program(&binary, &out)?;
    sh::step("the container image");
    image::write(&binary, &image::default_name(), &out.join(format!("leasewarden-{VERSION}-image.tar")))?;
    sh::step("the chart and the manifests");
    charts::package(&out)?;
    let sums = checksums(&out)?;
    print!("{sums}");
    fs::write(out.join(SUMS), sums)?;
    println!("{}\nnext: `sha256sum -c {SUMS}` in there", out.display());
    Ok(ExitCode::SUCCESS)
}

/// Makes the folder, or empties it when it is one of ours: what lies elsewhere is nobody's to delete.
fn empty(out: &Path) -> Result<()> {
    if out.is_dir() && fs::read_dir(out)?.next().is_some() {
        if !out.join(SUMS).exists() {
            bail!("{} is not empty and has no {SUMS}: choose another folder", out.display());
        }
        fs::remove_dir_all(out)?;
    }
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))
}

/// The stripped program with its licences, as a compressed archive.
fn program(binary: &Path, out: &Path) -> Result<()> {
    sh::step("the program");
    let stripped = out.join("leasewarden");
    image::strip(binary, &stripped)?;
    let said = sh::capture(Command::new(&stripped).arg("--version"))?;
    if !said.contains(VERSION) {
        bail!("{} says that it is `{}`, and this is {VERSION}", binary.display(), said.trim());
    }
    let name = format!("leasewarden-{VERSION}-{}-linux", std::env::consts::ARCH);
    let archive = out.join(format!("{name}.tar"));
    let mut tar = image::Tar::new(fs::File::create(&archive)?);
    tar.dir(&name, 0o755)?;
    tar.file(&format!("{name}/leasewarden"), 0o755, &fs::read(&stripped)?)?;
    for text in image::LICENCES.iter().chain(&["README.md", "CHANGELOG.md"]) {
        let from = paths::root().join(text);
        tar.file(&format!("{name}/{text}"), 0o644, &fs::read(&from).with_context(|| from.display().to_string())?)?;
    }
    tar.finish()?;
    fs::remove_file(stripped)?;
    // Without a name and a time in it: the same program gives the same archive.
    sh::quiet(Command::new("gzip").args(["--no-name", "--best"]).arg(archive))
}

/// What `sha256sum` would print, by name.
fn checksums(dir: &Path) -> Result<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let hex: String = Sha256::digest(fs::read(&path)?).iter().map(|byte| format!("{byte:02x}")).collect();
        lines.push((name.clone(), format!("{hex}  {name}\n")));
    }
    lines.sort();
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_earlier_release_is_replaced() {
        let dir = std::env::temp_dir().join(format!("leasewarden-dist-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("dear"), "abc").unwrap();
        assert!(empty(&dir).is_err());
        assert!(dir.join("dear").exists());
        // The digest of "abc" is the example of FIPS 180-2.
        let sums = checksums(&dir).unwrap();
        assert_eq!(sums, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  dear\n");
        fs::write(dir.join(SUMS), sums).unwrap();
        empty(&dir).unwrap();
        assert!(!dir.join("dear").exists());
        fs::remove_dir(dir).unwrap();
    }
}
