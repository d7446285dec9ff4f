//! One file per rule.

pub mod local_set_ineffective;
pub mod pool_reuse_unrevalidated;
pub mod pool_stale_binding;
pub mod session_set_under_pooler;
pub mod shared_service_unpartitioned;
pub mod tenant_label_missing;
