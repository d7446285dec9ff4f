//! Debian packages from other suites than the machine's own, without touching the machine's apt set-up.
//!
//! Addresses are never written down here: they come from the machine's own sources, so a mirror or a proxy that works
//! for the machine works for us.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::sh;

/// Debian's own key ring; used where a source names none.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One entry of the machine's apt sources.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

/// Reads `deb` lines (the one-line format).
fn parse_list(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_list_line).collect()
}

fn parse_list_line(line: &str) -> Option<Source> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options.split_whitespace().find_map(|o| o.strip_prefix("signed-by=")).map(str::to_owned);
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source { uri: words.next()?, suites: vec![words.next()?], components: words.collect(), signed_by })
}

/// Reads stanzas (the deb822 format). A key written out in the file is not taken over: the system's key ring is.
fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            stanza.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let words = |name: &str| -> Vec<String> {
            field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        };
        let disabled = field("Enabled").is_some_and(|v| v.eq_ignore_ascii_case("no"));
        if disabled || !words("Types").iter().any(|t| t == "deb") {
            continue;
        }
        for uri in words("URIs") {
            sources.push(Source {
                uri,
                suites: words("Suites"),
                components: words("Components"),
                signed_by: field("Signed-By").filter(|v| v.starts_with('/')),
            });
        }
    }
    sources
}

fn machine_sources() -> Vec<Source> {
    let mut sources = fs::read_to_string("/etc/apt/sources.list").map(|t| parse_list(&t)).unwrap_or_default();
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    for path in parts.map(|entry| entry.path()) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        match path.extension().and_then(|e| e.to_str()) {
            Some("list") => sources.extend(parse_list(&text)),
            Some("sources") => sources.extend(parse_deb822(&text)),
            _ => {}
        }
    }
    sources
}

/// The release's code name, such as `bookworm`.
///
/// # Errors
/// When this is no Debian-family system.
pub(crate) fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .filter(|_| Path::new("/usr/bin/apt-get").exists())
        .context("this is no Debian-family system: install the packages that the README lists by other means")
}

/// The source line of another suite, derived from the machine's own sources.
fn source_line(sources: &[Source], codename: &str, suite: &str) -> Option<String> {
    let security = suite.ends_with("-security");
    let fits = |s: &&Source| {
        s.components.iter().any(|c| c == "main")
            && s.suites.iter().any(|known| if security { known.ends_with("-security") } else { known == codename })
    };
    let source = sources.iter().find(fits)?;
    let key = source.signed_by.as_deref().unwrap_or(KEYRING);
    Some(format!("deb [signed-by={key}] {} {suite} main", source.uri))
}

/// A private apt: own sources, own package lists, own archive directory.
pub(crate) struct PrivateApt {
    dir: PathBuf,
    status: PathBuf,
    /// Another kind of machine than this one, whose packages are meant.
    foreign: Option<&'static str>,
}

impl PrivateApt {
    /// Reads the package lists of `suites` (fresh ones are kept for a day). With `against_machine` the machine's own
    /// package status is used, so that [`Self::install`] is possible; without, nothing counts as installed.
    ///
    /// # Errors
    /// When a suite's address cannot be derived or its lists cannot be read.
    pub(crate) fn open(suites: &[&str], against_machine: bool) -> Result<Self> {
        Self::open_lists(suites, against_machine, false, None)
    }

    /// As [`Self::open`], for packages of another kind of machine (`arm64`), to be unpacked.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_foreign(suite: &str, architecture: &'static str) -> Result<Self> {
        Self::open_lists(&[suite], false, false, Some(architecture))
    }

    /// As [`Self::open`], for source packages of one suite, too: see [`Self::source`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_with_source(suite: &str) -> Result<Self> {
        Self::open_lists(&[suite], false, true, None)
    }

    fn open_lists(
        suites: &[&str],
        against_machine: bool,
        with_source: bool,
        foreign: Option<&'static str>,
    ) -> Result<Self> {
        let codename = codename()?;
        let sources = machine_sources();
        let name = suites.join("+") + if with_source { "+source" } else { "" };
        let name = foreign.map_or_else(|| name.clone(), |architecture| format!("{name}+{architecture}"));
        let dir = crate::paths::cache().join("apt").join(name);
        for sub in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(sub)).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let empty = dir.join("status");
        fs::write(&empty, "")?;
        let mut list = String::new();
        for suite in suites {
            let line = source_line(&sources, &codename, suite).with_context(|| {
                format!(
                    "no entry in /etc/apt/sources.list* from which the address of suite {suite} follows \
                     (wanted: the archive of {codename}{})",
                    if suite.ends_with("-security") { "-security" } else { "" }
                )
            })?;
            list.push_str(&line);
            list.push('\n');
            if with_source {
                list.push_str(&line.replacen("deb ", "deb-src ", 1));
                list.push('\n');
            }
        }
        let list_file = dir.join("sources.list");
        let same = fs::read_to_string(&list_file).is_ok_and(|old| old == list);
        fs::write(&list_file, list)?;
        let status = if against_machine { PathBuf::from("/var/lib/dpkg/status") } else { empty };
        let apt = Self { dir, status, foreign };
        let stamp = apt.dir.join("updated");
        let fresh = fs::metadata(&stamp)
            .and_then(|m| m.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() < 24 * 3600));
        if !(fresh && same) {
            sh::note(&format!("reading package lists of {}", suites.join(", ")));
            patiently(apt.command("apt-get").arg("update"), &PATIENCE)?;
            fs::write(&stamp, "")?;
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let dir = self.dir.display();
        for option in [
            format!("Dir::Etc::sourcelist={dir}/sources.list"),
            "Dir::Etc::sourceparts=-".to_owned(),
            "Dir::Etc::preferencesparts=-".to_owned(),
            format!("Dir::State::Lists={dir}/lists"),
            format!("Dir::State::status={}", self.status.display()),
            format!("Dir::Cache={dir}/cache"),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
            // The archive directory lies in a private folder that apt's own user cannot enter.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        if let Some(architecture) = self.foreign {
            for key in ["Architecture", "Architectures"] {
                command.arg("-o").arg(format!("APT::{key}={architecture}"));
            }
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        command
    }

    /// Names of the packages that begin so.
    ///
    /// # Errors
    /// When apt fails.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let text = sh::capture(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The packages that `package` depends on directly, as apt names them.
    ///
    /// # Errors
    /// When apt does not know the package.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        let text = sh::capture(self.command("apt-cache").args([
            "depends",
            "--no-recommends",
            "--no-suggests",
            "--no-conflicts",
            "--no-breaks",
            "--no-replaces",
            "--no-enhances",
            package,
        ]))?;
        Ok(text
            .lines()
            .filter_map(|line| line.trim().trim_start_matches('|').strip_prefix("Depends: "))
            .filter(|name| !name.starts_with('<'))
            .map(|name| name.trim_end_matches(":any").to_owned())
            .collect())
    }

    /// Downloads a package and unpacks it below `into`, installing nothing.
    ///
    /// # Errors
    /// When the download or the unpacking fails.
    pub(crate) fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        let downloads = self.dir.join("downloads");
        let _ = fs::remove_dir_all(&downloads);
        fs::create_dir_all(&downloads)?;
        fs::create_dir_all(into)?;
        patiently(self.command("apt-get").args(["download", package]).current_dir(&downloads), &PATIENCE)?;
        let deb = fs::read_dir(&downloads)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|e| e == "deb"))
            .with_context(|| format!("apt downloaded nothing for {package}"))?;
        sh::quiet(Command::new("dpkg").arg("-x").arg(&deb).arg(into))?;
        fs::remove_dir_all(&downloads)?;
        Ok(())
    }

    /// Downloads a source package into `into`; gives the archive of the original source.
    ///
    /// # Errors
    /// When the download fails.
    pub(crate) fn source(&self, package: &str, into: &Path) -> Result<PathBuf> {
        fs::create_dir_all(into)?;
        sh::quiet(self.command("apt-get").args(["source", "--download-only", package]).current_dir(into))?;
        fs::read_dir(into)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.contains(".orig.tar.")))
            .with_context(|| format!("apt downloaded no source of {package}"))
    }

    /// Installs packages into the machine from these sources, preferring `suite`.
    ///
    /// # Errors
    /// When apt fails.
    pub(crate) fn install(&self, suite: &str, packages: &[&str]) -> Result<()> {
        let arguments = ["install", "-y", "--no-install-recommends", "-t", suite];
        patiently(self.command("apt-get").args(arguments).args(packages), &PATIENCE)
    }
}

/// Installs packages from the machine's own sources; no service is started, what is configured is kept.
///
/// # Errors
/// When not root, or when apt fails.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let _quiet_services = NoServices::begin()?;
    let arguments = ["install", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"];
    let install = || patiently(system("apt-get").args(arguments).args(packages), &PATIENCE);
    if install().is_ok() {
        return Ok(());
    }
    sh::note("reading the package lists first");
    patiently(system("apt-get").args(["update", "-o", "Acquire::Retries=3"]), &PATIENCE)?;
    install()
}

/// How long to wait for somebody else's package manager.
struct Patience {
    at_most: Duration,
    between: Duration,
}

/// A cloud machine that has just begun updates itself for minutes.
const PATIENCE: Patience = Patience { at_most: Duration::from_secs(15 * 60), between: Duration::from_secs(5) };

/// Runs a command of apt's, again and again while another one holds the locks that it needs. apt itself waits
/// (`DPkg::Lock::Timeout`) for dpkg's lock alone: those of lists and archives it gives up at once.
///
/// # Errors
/// When it fails for another reason, or the lock is not given back.
fn patiently(command: &mut Command, patience: &Patience) -> Result<()> {
    let began = Instant::now();
    let mut told = String::new();
    loop {
        let Err(error) = sh::quiet(command) else { return Ok(()) };
        let said = format!("{error:#}");
        let Some(holder) = held_by(&said) else { return Err(error) };
        let waited = began.elapsed();
        if waited >= patience.at_most {
            let minutes = waited.as_secs() / 60;
            return Err(error.context(format!("another package manager has held its lock for {minutes} min")));
        }
        // Once for each holder, then once a minute: somebody watches and wonders.
        let line = format!("{holder}, minute {}", waited.as_secs() / 60 + 1);
        if line != told {
            sh::note(&format!(
                "waiting for the package manager: {holder} ({:.0} s so far, at most {} min)",
                waited.as_secs_f32(),
                patience.at_most.as_secs() / 60
            ));
            told = line;
        }
        std::thread::sleep(patience.between);
    }
}

/// Who holds the lock that apt or dpkg wanted, in its own words; `None`: it failed for another reason.
fn held_by(said: &str) -> Option<&str> {
    let lock = |line: &&str| {
        line.contains("Could not get lock")
            || line.contains("was locked by another process")
            || line.contains("Unable to acquire the dpkg")
    };
    let line = said.lines().find(lock)?.trim().trim_start_matches("E: ");
    Some(line.split_once(". It is held by ").map_or(line, |(_, holder)| holder))
}

/// Whether installing `packages` from the machine's own sources would remove something, or is impossible.
pub(crate) fn would_break(packages: &[&str]) -> bool {
    sh::capture(system("apt-get").args(["install", "-s", "--no-install-recommends"]).args(packages))
        .map_or(true, |plan| plan.lines().any(|line| line.starts_with("Remv ")))
}

fn system(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    command
}

/// While this lives, packages that are installed do not start their services. What was there before comes back.
pub(crate) struct NoServices {
    restore: Option<PathBuf>,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    /// # Errors
    /// When not root.
    pub(crate) fn begin() -> Result<Self> {
        if !sh::is_root() {
            bail!("installing packages needs root: run `sudo -E cargo xtask setup`");
        }
        let restore = Path::new(POLICY).exists().then(|| PathBuf::from(format!("{POLICY}.leasewarden-saved")));
        if let Some(saved) = &restore {
            fs::rename(POLICY, saved).context("cannot put policy-rc.d aside")?;
        }
        fs::write(
            POLICY,
            "#!/bin/sh\n# Put here by `cargo xtask setup` while it installs; removed when it is done.\nexit 101\n",
        )?;
        set_executable(Path::new(POLICY))?;
        Ok(Self { restore })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        let _ = fs::remove_file(POLICY);
        if let Some(saved) = &self.restore {
            let _ = fs::rename(saved, POLICY);
        }
    }
}

fn set_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "Types: deb\n# a comment\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
        Components: main\nSigned-By: /k.gpg\n\nTypes: deb\nURIs: http://sec.example/debian-security\n\
        Suites: bookworm-security\nComponents: main\nSigned-By: /k.gpg\n";

    #[test]
    fn other_suites_come_from_the_machines_own_addresses() {
        let sources = parse_deb822(DEB822);
        let line = |suite| source_line(&sources, "bookworm", suite);
        assert_eq!(line("sid").as_deref(), Some("deb [signed-by=/k.gpg] http://mirror.example/debian sid main"));
        assert_eq!(
            line("bullseye-security").as_deref(),
            Some("deb [signed-by=/k.gpg] http://sec.example/debian-security bullseye-security main")
        );
        assert_eq!(source_line(&sources, "trixie", "sid"), None, "no archive of this release is configured");
    }

    #[test]
    fn one_line_sources_are_read_with_and_without_options() {
        let sources = parse_list(
            "# x\ndeb http://a/debian bookworm main contrib\ndeb [arch=amd64 signed-by=/k] http://b s main\ndeb-src http://c s main",
        );
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].components, ["main", "contrib"]);
        assert_eq!(sources[1].signed_by.as_deref(), Some("/k"));
    }

    /// A command that says this and fails until it has been called so often.
    fn busy(dir: &Path, times: u32, said: &str) -> Command {
        let script = format!(
            "n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) > n; [ $n -ge {times} ] || {{ echo '{said}' >&2; exit 100; }}"
        );
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).current_dir(dir);
        command
    }

    #[test]
    fn a_lock_that_another_holds_is_waited_for() {
        let patience = Patience { at_most: Duration::from_secs(600), between: Duration::ZERO };
        for (i, said) in [
            "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 (unattended-upgr)\nE: Unable to acquire",
            "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 812 (apt-get)",
            "dpkg: error: dpkg frontend lock was locked by another process with pid 812",
            "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?",
        ]
        .into_iter()
        .enumerate()
        {
            let dir = std::env::temp_dir().join(format!("leasewarden-apt-{}-{i}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            patiently(&mut busy(&dir, 3, said), &patience).unwrap();
            assert_eq!(fs::read_to_string(dir.join("n")).unwrap().trim(), "4", "{said}");
            let _ = fs::remove_file(dir.join("n"));
            let never = Patience { at_most: Duration::ZERO, between: Duration::ZERO };
            let error = patiently(&mut busy(&dir, 3, said), &never).unwrap_err();
            assert!(format!("{error:#}").contains("has held its lock"), "{error:#}");
            // Whatever else fails, fails at once.
            let _ = fs::remove_file(dir.join("n"));
            let error = patiently(&mut busy(&dir, 3, "E: Unable to locate package nothing"), &patience).unwrap_err();
            assert!(format!("{error:#}").contains("Unable to locate"), "{error:#}");
            assert_eq!(fs::read_to_string(dir.join("n")).unwrap().trim(), "1");
            fs::remove_dir_all(dir).unwrap();
        }
        let said = "`apt-get` failed:\n    E: Could not get lock /x/lock. It is held by process 812 (unattended-upgr)";
        assert_eq!(held_by(said), Some("process 812 (unattended-upgr)"));
    }

    #[test]
    fn disabled_and_source_stanzas_are_left_out() {
        assert!(parse_deb822("Types: deb\nEnabled: no\nURIs: http://a\nSuites: s\nComponents: main").is_empty());
        assert!(parse_deb822("Types: deb-src\nURIs: http://a\nSuites: s\nComponents: main").is_empty());
    }
}
