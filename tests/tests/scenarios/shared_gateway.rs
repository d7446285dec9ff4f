//! A gateway with a pool of HTTP keep-alive connections: a token per request, and one token for everybody.

crate::shared::shared! {
    static_token: "gateway-static-token" [with_1 = 1, with_16 = 16, with_32 = 32];
    static_token_traced: "gateway-static-token-traced" [with_16 = 16];
    exchanged_token: "gateway-exchanged-token" [with_1 = 1, with_16 = 16, with_32 = 32];
    forwarded_token: "gateway-forwarded-token" [with_1 = 1, with_16 = 16];
}
