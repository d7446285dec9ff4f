//! A shared service before Redis: a cancelled command in two versions of redis-py, AUTH per checkout, key prefixes; and ioredis,
//! whose connections carry the commands of several requests at once.

crate::shared::shared! {
    cancelled_451: "redis-cancelled-4.5.1" [with_1 = 1, with_16 = 16, with_32 = 32];
    cancelled_521: "redis-cancelled-5.2.1" [with_1 = 1, with_16 = 16, with_32 = 32];
    auth_failed: "redis-auth-failed" [with_1 = 1, with_16 = 16, with_32 = 32];
    auth_per_checkout: "redis-auth" [with_1 = 1, with_16 = 16, with_32 = 32];
    prefix_crossed: "redis-prefix-crossed" [with_1 = 1, with_16 = 16];
    prefix_right: "redis-prefix" [with_1 = 1, with_16 = 16, with_32 = 32];
    unscoped: "redis-unscoped" [with_1 = 1];
    ioredis_auth_failed: "ioredis-auth-failed" [with_1 = 1, with_16 = 16];
    ioredis_prefix: "ioredis-prefix" [with_1 = 1, with_16 = 16];
}
