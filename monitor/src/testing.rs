//! Shared by unit tests: committed files that are generated, and golden files.

use std::path::PathBuf;

use monitor_core::engine::{RestartView, TlsView};

/// A path in the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Whether expected output is to be replaced by actual output.
pub(crate) fn blessing() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some_and(|v| v == "1")
}

/// Fails unless the committed file is what the binary generates now. `UPDATE_EXPECT=1` rewrites it.
pub(crate) fn assert_current(path: &str, generated: &str) {
    let file = repository(path);
    if blessing() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, generated).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == generated,
        "{path} is not current: run `UPDATE_EXPECT=1 cargo test -p monitor` and look at the change"
    );
}

/// A service of whose TLS most is read.
pub(crate) fn tls_view() -> TlsView {
    TlsView {
        read: 3,
        unread: vec![("older_than_agent", 2)],
        bytes_read: 8_000,
        bytes_unread: vec![("older_than_agent", 100)],
        server_names: vec![("db.example".into(), 3)],
        protocols: vec![("postgresql", 3)],
        restart: vec![RestartView { workload: "pooler".into(), reason: "older_than_agent", connections: 2 }],
    }
}
