//! `vm`: boots every kernel of the matrix in QEMU with the agent inside; one verdict line each.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::build::{self, Profile, agent};
use super::setup::{self, Need, ensure};
use crate::cpio::Cpio;
use crate::kernels::{self, Arch, Kernel, MATRIX};
use crate::{paths, sh};

/// What a machine is given.
pub(crate) struct Machine {
    pub(crate) memory_mib: u32,
    pub(crate) processors: u32,
    /// One that has given no verdict by then is ended: it hangs.
    pub(crate) budget: Duration,
}

const MACHINE: Machine = Machine { memory_mib: 512, processors: 1, budget: Duration::from_secs(480) };
/// Machines at a time. Emulation uses one core each.
const AT_A_TIME: usize = 2;

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only this kernel series, such as 6.1; may be repeated.
    #[arg(long = "kernel", value_name = "SERIES")]
    kernels: Vec<String>,
    /// Use this agent instead of building one.
    #[arg(long, value_name = "BINARY")]
    agent: Option<PathBuf>,
    /// The kind of machine: the probes are the same bytes on each, the agent is built for it.
    #[arg(long, value_enum, value_name = "ARCH", default_value = "amd64")]
    arch: Option<Arch>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let failed = matrix(args)?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Boots the matrix, prints a verdict each; gives the number of kernels that failed.
///
/// # Errors
/// When nothing can be booted at all.
pub(crate) fn matrix(args: &Args) -> Result<usize> {
    let chosen: Vec<_> =
        MATRIX.iter().filter(|s| args.kernels.is_empty() || args.kernels.iter().any(|k| k == s.name)).collect();
    if let Some(unknown) = args.kernels.iter().find(|k| !MATRIX.iter().any(|s| s.name == k.as_str())) {
        let known: Vec<_> = MATRIX.iter().map(|s| s.name).collect();
        bail!("no kernel series {unknown}; there are {}", known.join(", "));
    }
    ensure(Need::Test)?;
    let arch = args.arch.unwrap_or(Arch::Amd64);
    if arch == Arch::Arm64 {
        setup::arm64()?;
    }
    sh::step("kernels");
    // A kernel that cannot be had must not hide what the others say.
    let mut failed = 0;
    let mut kernels = Vec::new();
    for series in chosen {
        match kernels::fetch(series, arch) {
            Ok(kernel) => kernels.push(kernel),
            Err(error) => {
                failed += 1;
                println!("kernel {:<5} FAILED: {error:#}", series.name);
            }
        }
    }
    let (binary, init) = match (&args.agent, arch) {
        (Some(binary), Arch::Amd64) => (binary.clone(), build_init()?),
        (None, Arch::Amd64) => (agent(Profile::Dev)?, build_init()?),
        (given, Arch::Arm64) => build::arm64(given.as_deref())?,
    };
    let logs = paths::lab().join("vm");
    fs::create_dir_all(&logs)?;
    let image = logs.join("test.cpio");
    write_image(&image, &init, &binary, arch)?;
    sh::step(&format!("booting {} kernels, {AT_A_TIME} at a time", kernels.len()));
    let bad = boot_all(&kernels, &image, &logs);
    failed += bad;
    println!("\nvm: {} kernels ok, {failed} failed; consoles in {}", kernels.len() - bad, logs.display());
    Ok(failed)
}

fn build_init() -> Result<PathBuf> {
    sh::step("building the machines' first process");
    sh::run(sh::cargo().args(["build", "--package", "tests", "--bin", "vm-init", "--features", "vm"]))?;
    Ok(paths::target().join("debug/vm-init"))
}

/// The machines run the very binary that the scenarios test, with the shared libraries that it needs beside it: a
/// static one would be a second build of everything.
fn write_image(image: &Path, init: &Path, binary: &Path, arch: Arch) -> Result<()> {
    let file = File::create(image).with_context(|| format!("cannot write {}", image.display()))?;
    let mut cpio = Cpio::new(std::io::BufWriter::new(file));
    for dir in ["dev", "proc", "sys", "tmp", "run"] {
        cpio.dir(dir)?;
    }
    let mut libraries = BTreeSet::new();
    // Without debug information, and the agent without symbols: the image is unpacked into the machine's memory. Where no
    // optimiser was at work, symbols are what tells which of rustls' functions is given secrets.
    for (name, program, what) in [("init", init, "--strip-debug"), ("leasewarden", binary, "--strip-all")] {
        let stripped = image.with_file_name(name);
        let strip = if arch == Arch::Arm64 { "aarch64-linux-gnu-strip" } else { "strip" };
        sh::quiet(Command::new(strip).arg(what).arg("-o").arg(&stripped).arg(program))?;
        cpio.file(name, &stripped).with_context(|| format!("cannot pack {}", program.display()))?;
        libraries.extend(shared_libraries(program)?);
    }
    let folders: BTreeSet<&Path> = libraries.iter().flat_map(|library| library.ancestors().skip(1)).collect();
    for folder in folders.iter().filter_map(|folder| folder.strip_prefix("/").ok()?.to_str()).filter(|f| !f.is_empty())
    {
        cpio.dir(folder)?;
    }
    for library in &libraries {
        let name = library.strip_prefix("/").unwrap_or(library).to_str().context("odd library name")?;
        cpio.file(name, library).with_context(|| format!("cannot pack {}", library.display()))?;
    }
    cpio.finish()?;
    Ok(())
}

/// The shared libraries and the loader of a program, by the paths under which it asks for them. None: it is static.
///
/// # Errors
/// When one is not there.
pub(crate) fn shared_libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let Ok(text) = sh::capture(Command::new("ldd").arg(program).env("LC_ALL", "C")) else { return Ok(Vec::new()) };
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        bail!("{}: {}", program.display(), line.trim());
    }
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// Boots them all; gives the number that failed.
fn boot_all(kernels: &[Kernel], image: &Path, logs: &Path) -> usize {
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let printing = Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(kernel) = kernels.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let began = Instant::now();
                    let console = logs.join(format!("{}.log", kernel.series));
                    let result = boot(kernel, image, &console, &MACHINE);
                    let _line = printing.lock();
                    let seconds = began.elapsed().as_secs_f32();
                    match result {
                        Ok(verdict) => {
                            println!("kernel {:<5} {} {verdict} ({seconds:.0} s)", kernel.series, kernel.release)
                        }
                        Err(error) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            println!("kernel {:<5} {} {error:#} ({seconds:.0} s)", kernel.series, kernel.release);
                            println!("             console: {}", console.display());
                        }
                    }
                }
            });
        }
    });
    failed.into_inner()
}

/// Boots one kernel; gives its verdict.
///
/// # Errors
/// When the verdict is bad, or there is none in time.
pub(crate) fn boot(kernel: &Kernel, image: &Path, console: &Path, given: &Machine) -> Result<String> {
    let log = File::create(console)?;
    // Never KVM: the device may be there and hang. `-no-reboot`: a panic ends the machine.
    let (program, kind, console_name) = match kernel.arch {
        Arch::Amd64 => ("qemu-system-x86_64", ["-M", "q35", "-cpu", "max"], "ttyS0"),
        // Of `max`, pointer authentication alone costs half of the time in emulation.
        Arch::Arm64 => ("qemu-system-aarch64", ["-M", "virt", "-cpu", "cortex-a72"], "ttyAMA0"),
    };
    let mut machine = Command::new(program)
        .args(kind)
        .args(["-accel", "tcg,thread=multi"])
        .args(["-smp", &given.processors.to_string(), "-m", &given.memory_mib.to_string()])
        .args(["-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-serial", "stdio"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(image)
        .arg("-append")
        .arg(format!("console={console_name} panic=-1 quiet lsm=lockdown,capability,yama,apparmor,bpf"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start QEMU")?;
    let until = Instant::now() + given.budget;
    let status = loop {
        if let Some(status) = machine.try_wait()? {
            break status;
        }
        if Instant::now() > until {
            machine.kill()?;
            machine.wait()?;
            bail!("FAILED: no verdict within {} s", given.budget.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let said = String::from_utf8_lossy(&fs::read(console)?).into_owned();
    let verdict = said.lines().find_map(|line| line.trim().strip_prefix("VERDICT ")).map(str::to_owned);
    // The status says nothing: a panic and switching off both end the machine with 0. A panic gives no verdict.
    match verdict {
        Some(verdict) if status.success() && verdict.starts_with("ok") => Ok(verdict),
        Some(verdict) => bail!("{verdict}"),
        None => {
            let cause = said.lines().find(|line| line.contains("Kernel panic"));
            let last =
                cause.or_else(|| said.lines().rev().find(|l| !l.trim().is_empty())).unwrap_or("an empty console");
            bail!("FAILED: the machine ended without a verdict ({status}): {}", last.trim())
        }
    }
}
