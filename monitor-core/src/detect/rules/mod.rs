//! One file per rule.

pub mod cache_key_unscoped;
pub mod conn_auth_reuse;
pub mod local_set_ineffective;
pub mod pool_reuse_unrevalidated;
pub mod pool_stale_binding;
pub mod response_desync;
pub mod session_set_under_pooler;
pub mod shared_service_unpartitioned;
pub mod tenant_label_missing;
