//! Calls as the HTTP decoder tells of them.

use httparse::Header;

use super::*;
use crate::decode::fuzzing::Checks;

fn head<'a>(target: &'a str, headers: &'a [Header<'a>]) -> RequestHead<'a> {
    RequestHead { method: "POST", target, headers, irregular: false, partial: false }
}

#[test]
fn which_requests_are_calls() {
    for (kind, is) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("Application/GRPC;x=y", true),
        ("application/grpc-web+proto", false),
        ("application/grp", false),
        ("application/json", false),
    ] {
        let mut reader = Reader::new(Salt(1, 2));
        let headers = [Header { name: "content-type", value: kind.as_bytes() }];
        let mut sink = Checks::default();
        sink.arrived(1, Nanos(1));
        assert_eq!(reader.request(1, &head("/a.B/C", &headers), Nanos(1), &mut sink), is, "{kind}");
    }
    assert_eq!(name("/a.b.C/Do"), Some(("a.b.C", "Do")));
    assert_eq!(name("/prefix/a.b.C/Do"), Some(("prefix/a.b.C", "Do")));
    assert_eq!((name("/a"), name("//a"), name("a/b"), name("/a/")), (None, None, None, None));
    assert!(is_control("grpc.health.v1.Health") && !is_control("shop.Health"));
}

#[test]
fn what_is_held_is_bounded_over_all_calls() {
    let mut reader = Reader::new(Salt(1, 2));
    let headers = [Header { name: "content-type", value: b"application/grpc" }];
    let mut sink = Checks::default();
    let mut beginning = vec![0, 0, 0, 0xff, 0xff];
    beginning.resize(60 << 10, b'x');
    for request in 1..=256 {
        sink.arrived(request, Nanos(1));
        reader.request(request, &head("/a.B/C", &headers), Nanos(1), &mut sink);
        for from in [Side::Client, Side::Server] {
            reader.bytes(request, from, &beginning, Nanos(1), &mut sink);
        }
        let held: usize = reader.calls.values().flat_map(|c| c.says.iter()).map(|d| d.messages.memory()).sum();
        assert_eq!(held, reader.held);
        assert!(held <= MAX_HELD + 2 * messages::MAX_MESSAGE + 4096, "{held}");
    }
    for request in 1..=256 {
        reader.missing(request, Side::Client, 5, Nanos(2), &mut sink);
    }
    reader.calls.clear();
}
