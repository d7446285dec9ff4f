//! What a connection of PostgreSQL can be opened with.

/// What a connection can be opened with that is no custom setting.
pub(super) const SLOTS: &[&str] =
    &["user", "database", "role", "session_authorization", "search_path", "application_name", "options"];
