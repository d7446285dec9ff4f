//! Embeds the compiled probes. `cargo xtask build` names them in `LEASEWARDEN_BPF_OBJECT`; without it an empty file is
//! embedded, so that a plain `cargo build` needs no BPF toolchain.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=LEASEWARDEN_BPF_OBJECT");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("probes.o");
    let object = match env::var_os("LEASEWARDEN_BPF_OBJECT") {
        Some(path) if !path.is_empty() => {
            let path = PathBuf::from(path);
            println!("cargo::rerun-if-changed={}", path.display());
            match fs::read(&path) {
                Ok(bytes) if bytes.starts_with(b"\x7fELF") => bytes,
                Ok(_) => panic!("LEASEWARDEN_BPF_OBJECT: {} is not an ELF object", path.display()),
                Err(e) => panic!("LEASEWARDEN_BPF_OBJECT: cannot read {}: {e}", path.display()),
            }
        }
        _ => Vec::new(),
    };
    // What `--version` says.
    println!("cargo::rerun-if-env-changed=LEASEWARDEN_REVISION");
    let revision = env::var("LEASEWARDEN_REVISION").ok().filter(|r| !r.is_empty());
    println!("cargo::rustc-env=LEASEWARDEN_REVISION={}", revision.as_deref().unwrap_or("unknown"));
    let probes = if object.is_empty() { "without probes" } else { "with probes" };
    println!("cargo::rustc-env=LEASEWARDEN_PROBES={probes}");
    fs::write(&out, object).expect("OUT_DIR is writable");
}
