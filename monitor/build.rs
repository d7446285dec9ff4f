//! Embeds the compiled probes. `cargo xtask build` names them in `LEASEWARDEN_BPF_OBJECT`; without it an empty file is
//! embedded, so that a plain `cargo build` needs no BPF toolchain.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=LEASEWARDEN_BPF_OBJECT");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("probes.o");
    let named = env::var_os("LEASEWARDEN_BPF_OBJECT").filter(|path| !path.is_empty()).map(PathBuf::from);
    let read = |path: PathBuf| {
        println!("cargo::rerun-if-changed={}", path.display());
        match fs::read(&path) {
            Ok(bytes) if bytes.starts_with(b"\x7fELF") => bytes,
            Ok(_) => panic!("LEASEWARDEN_BPF_OBJECT: {} is not an ELF object", path.display()),
            Err(e) => panic!("LEASEWARDEN_BPF_OBJECT: cannot read {}: {e}", path.display()),
        }
    };
    // The probes of TLS libraries are built together with the others, and lie beside them.
    let beside = named.as_ref().map(|path| path.with_file_name("leasewarden-tls-probes"));
    let tls_object = beside.map(read).unwrap_or_default();
    let object = named.map(read).unwrap_or_default();
    // What `--version` says.
    println!("cargo::rerun-if-env-changed=LEASEWARDEN_REVISION");
    let revision = env::var("LEASEWARDEN_REVISION").ok().filter(|r| !r.is_empty());
    println!("cargo::rustc-env=LEASEWARDEN_REVISION={}", revision.as_deref().unwrap_or("unknown"));
    let probes = if object.is_empty() { "without probes" } else { "with probes" };
    println!("cargo::rustc-env=LEASEWARDEN_PROBES={probes}");
    fs::write(out.with_file_name("tls-probes.o"), tls_object).expect("OUT_DIR is writable");
    fs::write(&out, object).expect("OUT_DIR is writable");
}
