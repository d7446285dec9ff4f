//! The `leasewarden` binary.

use std::process::ExitCode;

/// What was read from tenants' connections is gone once it is given back.
#[global_allocator]
static ALLOCATOR: monitor::wipe::Wiping = monitor::wipe::Wiping;

fn main() -> ExitCode {
    monitor::cli::main()
}
