//! The kernels of the matrix: Debian's cloud images, downloaded and unpacked, never installed, cached outside the
//! repository.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::apt::PrivateApt;
use crate::sh;

/// A kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arch {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Arch {
    /// As Debian calls it.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// One kernel series and the suites that may have it, in the order in which they are asked.
pub(crate) struct Series {
    /// `major.minor`.
    pub(crate) name: &'static str,
    suites: &'static [&'static str],
}

/// The matrix: the oldest kernel with a ring buffer worth having (5.8 and later) that is still maintained, every
/// long-term one that Debian builds since, and the newest there is.
pub(crate) const MATRIX: &[Series] = &[
    Series { name: "5.10", suites: &["bullseye-security", "bullseye"] },
    Series { name: "6.1", suites: &["bookworm-security", "bookworm"] },
    Series { name: "6.12", suites: &["trixie-security", "trixie", "bookworm-backports"] },
    Series { name: "6.18", suites: &["trixie-backports"] },
    Series { name: "7.2", suites: &["sid"] },
];

/// A kernel ready to boot.
pub(crate) struct Kernel {
    /// The series asked for.
    pub(crate) series: &'static str,
    /// The exact release, such as `6.1.0-37-cloud-amd64`.
    pub(crate) release: String,
    /// The image.
    pub(crate) image: PathBuf,
    /// What it runs on.
    pub(crate) arch: Arch,
}

/// The kernel of a series, from the cache or else from a Debian archive.
///
/// # Errors
/// When no suite has it, or it cannot be downloaded.
pub(crate) fn fetch(series: &'static Series, arch: Arch) -> Result<Kernel> {
    let name = match arch {
        Arch::Amd64 => series.name.to_owned(),
        Arch::Arm64 => format!("{}-{}", series.name, arch.debian()),
    };
    let dir = crate::paths::cache().join("kernels").join(name);
    let image = dir.join("vmlinuz");
    let release_file = dir.join("release");
    if let (true, Ok(release)) = (image.exists(), fs::read_to_string(&release_file)) {
        return Ok(Kernel { series: series.name, release: release.trim().to_owned(), image, arch });
    }
    let mut problems = Vec::new();
    for suite in series.suites {
        match download(series.name, arch, suite, &dir) {
            Ok(release) => {
                fs::write(&release_file, &release)?;
                return Ok(Kernel { series: series.name, release, image, arch });
            }
            Err(error) => problems.push(format!("{suite}: {error:#}")),
        }
    }
    bail!("no kernel {} to be had:\n  {}", series.name, problems.join("\n  "))
}

fn download(series: &str, arch: Arch, suite: &str, dir: &Path) -> Result<String> {
    let apt = match arch {
        Arch::Amd64 => PrivateApt::open(&[suite], false)?,
        Arch::Arm64 => PrivateApt::open_foreign(suite, arch.debian())?,
    };
    // Not through `linux-image-cloud-amd64`: a suite goes on to the next series while it still has the last one.
    let release = newest(series, arch, &apt.names("linux-image-")?).with_context(|| format!("has no {series}"))?;
    let package = format!("linux-image-{release}");
    sh::note(&format!("downloading kernel {release} ({suite})"));
    let tree = dir.join("tree");
    let _ = fs::remove_dir_all(&tree);
    apt.unpack(&package, &tree)?;
    if find_image(&tree).is_none() {
        // Since 7.2 the package is empty and depends on the one with the image.
        let binary = apt
            .depends(&package)?
            .into_iter()
            .find(|name| name.starts_with("linux-binary-"))
            .with_context(|| format!("{package} holds no image"))?;
        apt.unpack(&binary, &tree)?;
    }
    let image = find_image(&tree).with_context(|| format!("no vmlinuz in {package}"))?;
    fs::copy(image, dir.join("vmlinuz"))?;
    fs::remove_dir_all(&tree)?;
    Ok(release)
}

/// The newest cloud release of a series among package names.
fn newest(series: &str, arch: Arch, names: &[String]) -> Option<String> {
    let end = format!("-cloud-{}", arch.debian());
    let numbers = |release: &str| -> Vec<u64> {
        release.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
    };
    names
        .iter()
        .filter_map(|name| name.strip_prefix("linux-image-"))
        .filter(|release| release.starts_with(&format!("{series}.")) && release.ends_with(&end))
        .max_by_key(|release| numbers(release))
        .map(str::to_owned)
}

/// `boot/vmlinuz-RELEASE`, or `usr/lib/modules/RELEASE/vmlinuz`.
fn find_image(tree: &Path) -> Option<PathBuf> {
    let list = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let in_boot = list(tree.join("boot"))
        .find(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("vmlinuz-")));
    in_boot.or_else(|| {
        ["usr/lib/modules", "lib/modules"]
            .into_iter()
            .flat_map(|sub| list(tree.join(sub)))
            .map(|dir| dir.join("vmlinuz"))
            .find(|file| file.is_file())
    })
}

#[cfg(test)]
mod tests {
    use super::{Arch, newest};

    #[test]
    fn the_newest_release_of_a_series_is_chosen_by_number() {
        let names = ["6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64", "6.12.9+deb13-cloud-amd64", "6.12.10+deb13-amd64"]
            .map(|release| format!("linux-image-{release}"));
        let newest = |series| newest(series, Arch::Amd64, &names);
        assert_eq!(newest("6.1").as_deref(), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(newest("6.12").as_deref(), Some("6.12.9+deb13-cloud-amd64"));
        assert_eq!(newest("6.18"), None);
        assert_eq!(super::newest("6.1", Arch::Arm64, &names), None);
    }
}
