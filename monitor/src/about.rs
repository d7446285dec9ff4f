//! Which agent this is.

/// The commit it was built from, or `unknown`: builds for development do not say, so that a commit builds nothing anew.
pub const REVISION: &str = env!("LEASEWARDEN_REVISION");

/// Version, revision, and whether the kernel probes are inside: without them it can only `replay`.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (revision ",
    env!("LEASEWARDEN_REVISION"),
    ", ",
    env!("LEASEWARDEN_PROBES"),
    ")"
);
