//! A gateway whose pool is one connection of HTTP/2, over which both tenants' requests go side by side: plain and gRPC.

crate::shared::shared! {
    static_token: "http2-static-token" [with_1 = 1, with_16 = 16];
    forwarded_token: "http2-forwarded-token" [with_1 = 1, with_16 = 16];
    grpc_static_token: "grpc-static-token" [with_1 = 1, with_16 = 16];
    grpc_exchanged_token: "grpc-exchanged-token" [with_1 = 1, with_16 = 16];
    grpc_js_static_token: "grpc-js-static-token" [with_16 = 16];
    grpc_js_exchanged_token: "grpc-js-exchanged-token" [with_16 = 16];
}
