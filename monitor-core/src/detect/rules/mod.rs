//! One file per rule.

pub mod cache_key_unscoped;
pub mod conn_auth_reuse;
pub mod local_set_ineffective;
pub mod mcp_header_mismatch;
pub mod mcp_token_weak;
pub mod pool_reuse_unrevalidated;
pub mod pool_stale_binding;
pub mod response_desync;
pub mod result_cross_tenant;
pub mod session_set_under_pooler;
pub mod shared_service_unpartitioned;
pub mod tenant_label_missing;
pub mod tool_description_poisoned;
pub mod tool_manifest_drift;
pub mod tool_manifest_unsigned;
pub mod tool_output_injection;
