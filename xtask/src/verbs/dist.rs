//! `dist`: everything a release consists of, in one folder: program, container image, chart, manifests, bill of materials,
//! checksums, and their signature.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::build::Profile;
use super::{charts, image, setup};
use crate::{paths, sbom, sh};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const SUMS: &str = "SHA256SUMS";
/// The signature of the checksums: 64 bytes of Ed25519 (RFC 8032).
const SIGNATURE: &str = "SHA256SUMS.sig";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder to write; what is in it goes. Default: `target/dist`.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Use this static binary instead of building one.
    #[arg(long, value_name = "BINARY")]
    agent: Option<PathBuf>,
    /// Sign the checksums with this Ed25519 private key (PEM, PKCS#8), as `openssl genpkey -algorithm ed25519` or
    /// `leasewarden tools keygen` write it.
    #[arg(long, value_name = "KEYFILE")]
    sign: Option<PathBuf>,
    /// Build everything a second time, in another folder, and fail unless every file is the same.
    #[arg(long)]
    twice: bool,
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
    let sums = pack(&binary, &out)?;
    print!("{sums}");
    if args.twice {
        again(args, &sums)?;
    }
    fs::write(out.join(SUMS), sums)?;
    let mut next = format!("sha256sum -c {SUMS}");
    if let Some(key) = &args.sign {
        sign(key, &out)?;
        next =
            format!("openssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in {SUMS} -sigfile {SIGNATURE} && {next}");
    }
    println!("{}\nnext: `{next}` in there", out.display());
    Ok(ExitCode::SUCCESS)
}

/// Puts everything into `out`, but for the checksums: those it gives.
fn pack(binary: &Path, out: &Path) -> Result<String> {
    program(binary, out)?;
    sh::step("the container image");
    image::write(binary, &image::default_name(), &out.join(format!("leasewarden-{VERSION}-image.tar")))?;
    sh::step("the chart and the manifests");
    charts::package(out)?;
    sh::step("the bill of materials");
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    fs::write(out.join(format!("leasewarden-{VERSION}.cdx.json")), sbom::cyclonedx(&target, &image::created())?)?;
    checksums(out)
}

/// Makes it all once more and compares. The second build has a folder of its own, so that nothing of the first is used
/// and a path that got into a file is found.
fn again(args: &Args, first: &str) -> Result<()> {
    let dir = paths::target().join("dist-again");
    let _ = fs::remove_dir_all(&dir);
    let out = dir.join("dist");
    let mut command = Command::new(std::env::current_exe()?);
    command.current_dir(paths::root()).arg("dist").arg("--out").arg(&out);
    match &args.agent {
        Some(binary) => command.arg("--agent").arg(binary),
        // The Python environment of the chart's tests is no part of what is built.
        None => command.env("CARGO_TARGET_DIR", dir.join("target")),
    };
    sh::step("the same once more");
    sh::run(command.stdout(std::process::Stdio::null()))?;
    let second = fs::read_to_string(out.join(SUMS))?;
    let differ: Vec<&str> = first.lines().filter(|line| !second.lines().any(|other| other == *line)).collect();
    if !differ.is_empty() || first.lines().count() != second.lines().count() {
        bail!("not reproducible; compare with {}:\n{}", out.display(), differ.join("\n"));
    }
    println!("built twice: every file is the same");
    fs::remove_dir_all(dir)?;
    Ok(())
}

/// Signs the checksums, and with them all files. OpenSSL does it, as whoever checks will.
fn sign(key: &Path, out: &Path) -> Result<()> {
    let key = std::path::absolute(key)?;
    let openssl = |args: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(args).current_dir(out);
        command
    };
    let signing = ["pkeyutl", "-sign", "-rawin", "-in", SUMS, "-out", SIGNATURE, "-inkey"];
    sh::quiet(openssl(&signing).arg(&key)).with_context(|| format!("cannot sign with {}", key.display()))?;
    // A key of another kind signs too; nobody could check it as it is said.
    let size = fs::metadata(out.join(SIGNATURE))?.len();
    if size != 64 {
        fs::remove_file(out.join(SIGNATURE))?;
        bail!("{} is no Ed25519 key: the signature has {size} bytes, not 64", key.display());
    }
    let checking = ["pkeyutl", "-verify", "-rawin", "-in", SUMS, "-sigfile", SIGNATURE, "-inkey"];
    sh::quiet(openssl(&checking).arg(&key))
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
    fn checksums_are_signed_by_ed25519_only() {
        let dir = std::env::temp_dir().join(format!("leasewarden-sign-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(SUMS), "abc  x\n").unwrap();
        let key = |kind: &[&str], name: &str| {
            let file = dir.join(name);
            sh::quiet(Command::new("openssl").arg("genpkey").args(kind).arg("-out").arg(&file)).unwrap();
            file
        };
        let good = key(&["-algorithm", "ed25519"], "good.key");
        sign(&good, &dir).unwrap();
        let public = dir.join("good.pub");
        sh::quiet(Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&good).arg("-out").arg(&public))
            .unwrap();
        let checked = || {
            let mut command = Command::new("openssl");
            command.args(["pkeyutl", "-verify", "-pubin", "-rawin", "-in", SUMS, "-sigfile", SIGNATURE, "-inkey"]);
            sh::quiet(command.arg(&public).current_dir(&dir)).is_ok()
        };
        assert!(checked());
        fs::write(dir.join(SUMS), "abd  x\n").unwrap();
        assert!(!checked(), "another content has another signature");
        let other = key(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "other.key");
        assert!(sign(&other, &dir).is_err());
        assert!(sign(&dir.join("missing.key"), &dir).is_err());
        fs::remove_dir_all(dir).unwrap();
    }

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
