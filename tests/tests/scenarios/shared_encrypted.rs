//! The same services with everything encrypted that they say, read by the secrets of their own libraries alone: what is
//! found is what is found in clear.

crate::shared::shared! { encrypted:
    // psycopg's own libssl; aiohttp, which works on buffers in memory, as all of asyncio does.
    psycopg_unbound: "asyncio-unbound" [with_1 = 1, with_16 = 16];
    psycopg_session_set: "asyncio-session-set" [with_1 = 1, with_16 = 16];
    psycopg_per_transaction: "asyncio-per-transaction" [with_1 = 1, with_16 = 16];
    // In memory on both sides.
    asyncpg_unbound: "asyncpg-unbound" [with_1 = 1, with_16 = 16];
    asyncpg_per_transaction: "asyncpg-per-transaction" [with_1 = 1, with_16 = 16];
    // Node's own OpenSSL.
    node_unbound: "node-unbound" [with_1 = 1, with_16 = 16];
    node_session_set: "node-session-set" [with_1 = 1, with_16 = 16];
    node_per_transaction: "node-per-transaction" [with_1 = 1, with_16 = 16];
    // rustls.
    tokio_unbound: "tokio-unbound" [with_1 = 1, with_16 = 16];
    tokio_session_set: "tokio-session-set" [with_1 = 1, with_16 = 16];
    tokio_per_transaction: "tokio-per-transaction" [with_1 = 1, with_16 = 16];
    // redis-py.
    redis_auth_failed: "redis-auth-failed" [with_1 = 1, with_16 = 16];
    redis_auth: "redis-auth" [with_1 = 1, with_16 = 16];
    ioredis_auth_failed: "ioredis-auth-failed" [with_1 = 1, with_16 = 16];
    ioredis_auth: "ioredis-auth" [with_1 = 1, with_16 = 16];
    // httpx to another service.
    gateway_static: "gateway-static-token" [with_1 = 1, with_16 = 16];
    gateway_exchanged: "gateway-exchanged-token" [with_1 = 1, with_16 = 16];
    // The same over HTTP/2, agreed upon in the handshake.
    http2_static: "http2-static-token" [with_16 = 16];
    http2_forwarded: "http2-forwarded-token" [with_16 = 16];
    // Go on both sides.
    go_static: "gateway-go-static-token" [with_1 = 1, with_16 = 16];
    go_exchanged: "gateway-go-exchanged-token" [with_1 = 1, with_16 = 16];
    // BoringSSL in Bun, on both sides. It is so quick that sixteen in flight are one tenant's first, then the other's: that
    // each comes after the other is certain only with one.
    bun_static: "gateway-bun-static-token" [with_1 = 1];
    bun_exchanged: "gateway-bun-exchanged-token" [with_1 = 1, with_16 = 16];
}
