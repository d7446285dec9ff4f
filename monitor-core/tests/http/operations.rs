//! What a request is said to be: its operation, whom it names, who it is by, what it carries.

use super::*;

/// What is said of a request with these headers, answered with 200.
fn with_headers(headers: &str) -> Vec<String> {
    let got = talk(&[(C, &format!("GET /orders HTTP/1.1\r\nHost: x\r\n{headers}\r\n")), (S, OK)]);
    assert!(!got.iter().any(|l| l.starts_with("decode_error")), "{got:?}");
    got
}

#[test]
fn requests_are_told_by_method_shape_and_status() {
    let cases = [
        ("GET /orders/4711?x=1", "200 OK", "1 Data GET [/orders/{id}]"),
        ("GET /orders/7f0c0a52-9a5e-4a0e-8f0e-3d0d5f2f9b11/lines/2", "200 OK", "1 Data GET [/orders/{id}/lines/{id}]"),
        ("DELETE /a/b/c/d/e/f/g/h/i/j", "204 No Content", "1 Data DELETE [/a/b/c/d/e/f/g/h/…]"),
        ("GET http://orders.example/orders/5", "200 OK", "1 Data GET [/orders/{id}]"),
        ("POST /orders", "201 Created", "1 Data POST [/orders]"),
        ("GET /orders", "401 Unauthorized", "1 Data GET [/orders] -> error"),
        ("GET /orders", "503 Service Unavailable", "1 Data GET [/orders] -> error"),
        ("GET /orders", "302 Found", "1 Data GET [/orders]"),
        ("GET /healthz", "200 OK", "1 Control GET [/healthz]"),
        ("GET /health/live", "200 OK", "1 Control GET [/health/live]"),
        ("GET /healthy-recipes", "200 OK", "1 Data GET [/healthy-recipes]"),
        ("GET /metrics", "200 OK", "1 Control GET [/metrics]"),
        ("OPTIONS /orders", "200 OK", "1 Control OPTIONS [/orders]"),
        ("OPTIONS *", "200 OK", "1 Control OPTIONS [{id}]"),
    ];
    for (line, status, want) in cases {
        let got = talk(&[
            (C, &format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n")),
            (S, &format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")),
        ]);
        assert_eq!(operation(&got), want, "{line}");
        assert_eq!(got.last().unwrap(), "status Idle");
    }
}

#[test]
fn tenant_headers_are_markers() {
    let cases = [
        ("X-Tenant-ID: acme\r\n", " of acme"),
        ("x-scope-orgid:  Globex \r\n", " of globex"),
        ("X-Scope-OrgID: acme|globex\r\n", " of unreadable"),
        ("X-Tenant-ID: acme, globex\r\n", " of unreadable"),
        ("X-Tenant-ID: acme\r\nX-Org-ID: globex\r\n", " of unreadable"),
        ("X-Tenant-ID: acme\r\nX-Tenant-ID: acme\r\n", " of acme"),
        ("X-Tenant-ID: 77\r\n", " of opaque"),
        ("X-Tenant-ID:\r\n", ""),
        ("baggage: region=eu,tenant.id=acme;meta=1\r\n", " of acme"),
        ("baggage: tenant.id=acme\r\nX-Tenant-ID: globex\r\n", " of unreadable"),
        ("X-Unrelated: acme\r\n", ""),
    ];
    for (headers, marker) in cases {
        assert_eq!(operation(&with_headers(headers)), format!("1 Data GET [/orders]{marker}"), "{headers}");
    }
}

#[test]
fn credentials_are_told_apart_and_never_shown() {
    let of = |headers: &str| operation(&with_headers(headers)).split(" by ").nth(1).map(str::to_owned);
    let a = of("Authorization: Bearer synthetic-a\r\n").unwrap();
    assert_eq!(of("authorization: Bearer synthetic-a\r\n").unwrap(), a);
    assert_ne!(of("Authorization: Bearer synthetic-b\r\n").unwrap(), a);
    assert_ne!(of("Authorization: Basic synthetic-a\r\n").unwrap(), a);
    assert_ne!(of("X-Api-Key: Bearer synthetic-a\r\n").unwrap(), a);
    assert_eq!(of("Cookie: session=1\r\n"), None);
    // A session cookie is a credential of the request; the others are none, and a token comes first.
    let session = of("Cookie: theme=dark; JSESSIONID=9f86d081884c7d65; _ga=GA1.2.1159632287.1600000000\r\n").unwrap();
    assert_eq!(of("cookie: JSESSIONID=9f86d081884c7d65\r\n").unwrap(), session);
    assert_ne!(of("Cookie: JSESSIONID=60303ae22b998861\r\n").unwrap(), session);
    for other in [
        "SERVERID=s1",
        "_ga=GA1.2.1159632287.1600000000",
        "csrftoken=9f86d081884c7d659a2f",
        "AWSALB=9f86d081884c7d659a2f",
        "session=aaaaaaaaaaaaaaaaaaaa",
        "_hjSession_12=9f86d081884c7d659a2f",
    ] {
        assert_eq!(of(&format!("Cookie: {other}\r\n")), None, "{other}");
    }
    let both = of("Authorization: Bearer synthetic-a\r\nCookie: sid=9f86d081884c7d65\r\n").unwrap();
    assert_eq!(both, a);
    assert_eq!(of("Authorization: Negotiate YII=\r\n"), None);
    // Signatures change with every request; who signs does not.
    let aws =
        |key: &str, n: u8| of(&format!("Authorization: AWS4-HMAC-SHA256 Credential={key}/2026/x, Signature={n}\r\n"));
    assert_eq!(aws("LAB1", 1), aws("LAB1", 2));
    assert_ne!(aws("LAB1", 1), aws("LAB2", 1));
    let digest = |user: &str, n: u8| of(&format!("Authorization: Digest username=\"{user}\", response=\"{n}\"\r\n"));
    assert_eq!(digest("ann", 1), digest("ann", 2));
    assert_ne!(digest("ann", 1), digest("bob", 1));
}

#[test]
fn the_same_trace_id_is_the_same_mark_in_every_header() {
    let marks = |headers: &str| -> Vec<String> {
        with_headers(headers).into_iter().filter(|l| l.starts_with("trace")).collect()
    };
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let want = marks(&format!("traceparent: 00-{id}-00f067aa0ba902b7-01\r\n"));
    assert_eq!(want.len(), 1);
    assert_eq!(marks(&format!("b3: {}-00f067aa0ba902b7-1\r\n", id.to_uppercase())), want);
    assert_eq!(marks(&format!("X-Request-Id: {id}\r\n")), want);
    assert_eq!(marks("X-Request-Id: undefined\r\n"), [""; 0]);
    assert_eq!(marks("traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01\r\n"), [""; 0]);
}

#[test]
fn values_come_from_targets_and_text_bodies_as_the_program_sees_them() {
    let values = |lines: &[(Side, &str)]| -> Vec<String> {
        let got = SUITE.run_from(false, lines.iter().map(|(from, t)| Step::Bytes(*from, t.as_bytes(), true)));
        let all = got.iter().filter(|l| l.starts_with("value"));
        all.map(|l| l.rsplit(' ').next().unwrap().to_owned()).collect()
    };
    let post = |kind: &str, body: &str| {
        let head = format!("POST / HTTP/1.1\r\n{kind}Content-Length: {}\r\n\r\n{body}", body.len());
        values(&[(C, &head)])
    };
    let path = values(&[(C, "GET /ann%40example.com HTTP/1.1\r\n\r\n")]);
    assert_eq!(path.len(), 1);
    assert_eq!(values(&[(C, "GET /?q=ann%40example.com HTTP/1.1\r\n\r\n")]), path);
    assert_eq!(post("Content-Type: application/json\r\n", r#"{"":"ann@example.com"}"#), path);
    assert_eq!(post("Content-Type: text/plain\r\n", "ann@example.com"), path);
    assert_eq!(post("Content-Type: application/x-www-form-urlencoded\r\n", "e=ann%40example.com"), path);
    assert_eq!(post("", "ann@example.com"), path);
    assert_eq!(post("Content-Type: image/png\r\n", "ann@example.com"), [""; 0]);
    assert_eq!(post("Content-Type: text/plain\r\nContent-Encoding: gzip\r\n", "ann@example.com"), [""; 0]);
    let get = (C, "GET / HTTP/1.1\r\nX-Tenant-ID: value-1\r\nAuthorization: Bearer value-2\r\n\r\n");
    assert_eq!(values(&[get]), [""; 0], "headers hold identity, not values");
    assert_eq!(values(&[get, (S, "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\nann@example.com")]), path);
    // In chunks, cut inside the value.
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nann@\r\nB\r\nexample.com\r\n0\r\nT: z\r\n\r\n";
    assert_eq!(values(&[get, (S, chunked)]), path);
    let blob =
        format!("HTTP/1.1 200 OK\r\nContent-Length: 70016\r\n\r\n{} ann@example.com", "ab ".repeat(23_333) + " ");
    assert_eq!(values(&[get, (S, &blob)]), [""; 0], "beyond the budget");
}

#[test]
fn values_come_from_packed_bodies_too() {
    use std::io::Write as _;
    let text = b"{\"mail\":\"ann@example.com\",\"order\":47110815}";
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(text).unwrap();
    let packed = out.finish().unwrap();
    let values = |coding: &str, body: &[u8]| {
        let head = |first: &str| {
            format!("{first}\r\nContent-Type: application/json\r\n{coding}Content-Length: {}\r\n\r\n", body.len())
        };
        let request = [head("POST /a HTTP/1.1").as_bytes(), body].concat();
        let answer = [head("HTTP/1.1 200 OK").as_bytes(), body].concat();
        let got = SUITE.whole(&vec![(C, request), (S, answer)]);
        assert!(got.iter().any(|l| l.starts_with("answered 1 ") && !l.ends_with(" -")), "the answer's own print stays");
        got.into_iter().filter(|l| l.starts_with("value")).collect::<Vec<_>>()
    };
    let plain = values("", text);
    assert!(plain.len() >= 4, "{plain:?}");
    assert_eq!(values("Content-Encoding: gzip\r\n", &packed), plain);
    assert_eq!(values("Content-Encoding: br\r\n", &packed), [""; 0]);
}

#[test]
fn the_connection_is_authenticated_by_a_handshake_that_is_over() {
    let asks = |token: &str| format!("GET /a HTTP/1.1\r\nAuthorization: {token}\r\n\r\n");
    let again = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM abc\r\nContent-Length: 0\r\n\r\n";
    let refused = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    let ops = |lines: &[(Side, &str)]| -> Vec<String> {
        talk(lines).into_iter().filter(|l| l.starts_with("  ")).map(|l| l.trim_start().to_owned()).collect()
    };
    let bind = "Bind NTLM binds connectionauth=opaque for Session V3";
    assert_eq!(
        ops(&[
            (C, &asks("NTLM 1")),
            (S, again),
            (C, &asks("NTLM 3")),
            (S, OK),
            (C, "GET /b HTTP/1.1\r\n\r\n"),
            (S, OK)
        ]),
        ["1 Data GET [/a] -> error", &format!("2 {bind}"), "2 Data GET [/a]", "3 Data GET [/b]"]
    );
    // The handshake may be over although the request itself is refused.
    assert_eq!(ops(&[(C, &asks("ntlm 3")), (S, refused)]), [&format!("1 {bind}"), "1 Data GET [/a] -> error"]);
    assert_eq!(ops(&[(C, &asks("NTLM 3")), (S, again)]), ["1 Data GET [/a] -> error"]);
    // Nothing was answered: nothing is known.
    assert_eq!(ops(&[(C, &asks("NTLM 3"))]), ["1 Data GET [/a] -> unknown"]);
    assert_eq!(
        ops(&[(C, &asks("Negotiate YII=")), (S, OK)])[0],
        "1 Bind Negotiate binds connectionauth=opaque for Session V3"
    );
    assert!(!ops(&[(C, &asks("Bearer synthetic")), (S, OK)])[0].contains("binds"));
}
