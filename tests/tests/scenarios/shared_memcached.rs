//! A shared service before memcached: keys that name their tenant, and keys that do not.

crate::shared::shared! {
    unscoped: "memcached-unscoped" [with_1 = 1, with_16 = 16];
    prefix: "memcached-prefix" [with_1 = 1, with_16 = 16];
}
