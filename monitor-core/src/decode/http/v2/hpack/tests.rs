//! RFC 7541 appendix C, late starts, and what no encoder sends.

use super::*;

type List = Vec<(String, String)>;

fn list(fields: &Fields) -> List {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    fields.iter().map(|(n, v)| (text(n), text(v))).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn of(fields: &[(&str, &str)]) -> List {
    fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

/// C.3 (plain) and C.4 (Huffman).
const REQUESTS: [&[&str]; 2] = [
    &[
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ],
    &[
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ],
];

/// C.5 and C.6, with a table of 256 bytes.
const RESPONSES: [&[&str]; 2] = [
    &[
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d \
         546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f \
         6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b \
         2076 6572 7369 6f6e 3d31",
    ],
    &[
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 \
         8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 \
         dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ],
];

fn requests() -> [List; 3] {
    let with = |scheme, path, more: &[(&str, &str)]| {
        let mut all =
            of(&[(":method", "GET"), (":scheme", scheme), (":path", path), (":authority", "www.example.com")]);
        all.extend(of(more));
        all
    };
    [
        with("http", "/", &[]),
        with("http", "/", &[("cache-control", "no-cache")]),
        with("https", "/index.html", &[("custom-key", "custom-value")]),
    ]
}

fn responses() -> [List; 3] {
    let (old, new) = ("Mon, 21 Oct 2013 20:13:21 GMT", "Mon, 21 Oct 2013 20:13:22 GMT");
    let place = ("location", "https://www.example.com");
    let private = ("cache-control", "private");
    let cookie = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    [
        of(&[(":status", "302"), private, ("date", old), place]),
        of(&[(":status", "307"), private, ("date", old), place]),
        of(&[(":status", "200"), private, ("date", new), place, ("content-encoding", "gzip"), ("set-cookie", cookie)]),
    ]
}

#[test]
fn the_standards_examples() {
    for (all, want, limit) in [(REQUESTS, requests(), 4096), (RESPONSES, responses(), 256)] {
        for blocks in all {
            let mut hpack = Hpack::new(true);
            hpack.window.resize(limit);
            let mut fields = Fields::default();
            for (block, want) in blocks.iter().zip(&want) {
                hpack.decode(&bytes(block), &mut fields).unwrap();
                assert_eq!((list(&fields), fields.is_partial()), (want.clone(), false));
            }
        }
    }
}

#[test]
fn a_late_start_knows_what_came_since_and_nothing_else() {
    for (all, want) in [(REQUESTS, requests()), (RESPONSES, responses())] {
        for (blocks, from) in all.iter().flat_map(|blocks| (1..3).map(move |from| (blocks, from))) {
            let mut hpack = Hpack::new(false);
            let mut fields = Fields::default();
            for (block, want) in blocks.iter().zip(&want).skip(from) {
                hpack.decode(&bytes(block), &mut fields).unwrap();
                let got = list(&fields);
                let mut rest = want.iter();
                assert!(got.iter().all(|g| rest.any(|w| w == g)), "{got:?}");
                assert_eq!(got.len() < want.len(), fields.is_partial());
            }
        }
    }
    // In the third request `:authority` is older than the late start at the second, and `cache-control` is not in it.
    let mut hpack = Hpack::new(false);
    let mut fields = Fields::default();
    hpack.decode(&bytes(REQUESTS[0][1]), &mut fields).unwrap();
    assert_eq!(
        list(&fields),
        of(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("cache-control", "no-cache")])
    );
    hpack.decode(b"\xbe\xbf", &mut fields).unwrap();
    assert_eq!((list(&fields), fields.is_partial()), (of(&[("cache-control", "no-cache")]), true));
}

#[test]
fn a_value_that_stands_there_under_a_name_that_is_not_known_is_kept_apart() {
    let mut hpack = Hpack::new(false);
    let mut fields = Fields::default();
    // Name 62 with a value, put into the table; then a reference to it.
    hpack.decode(b"\x7e\x01v\x82", &mut fields).unwrap();
    assert_eq!((list(&fields), fields.is_partial()), (of(&[(":method", "GET")]), true));
    hpack.decode(b"\xbe\x82", &mut fields).unwrap();
    assert_eq!((list(&fields), fields.is_partial()), (of(&[(":method", "GET")]), true));
    // A name of the static table is always known.
    hpack.decode(b"\x1f\x08\x01t", &mut fields).unwrap();
    assert_eq!((list(&fields), fields.is_partial()), (of(&[("authorization", "t")]), false));
}

#[test]
fn what_no_encoder_sends_is_refused() {
    let mut fields = Fields::default();
    for bad in [
        &b"\x80"[..],                    // index 0
        b"\x82\x20",                     // a size after a field
        b"\x41",                         // a value is missing
        b"\x00\x01",                     // a name ends early
        b"\x41\x85\xf1",                 // a string that is longer than the block
        b"\xff\xff\xff\xff\xff\xff\xff", // a number without an end
        b"\x41\x81\xff",                 // padding alone
    ] {
        assert!(Hpack::new(true).decode(bad, &mut fields).is_err(), "{bad:x?}");
        assert!(!is_block(bad));
    }
    assert!(is_block(b"\x3f\xe1\x1f\x82"));
}

#[test]
fn a_list_is_cut_at_its_bounds_and_the_table_stays_right() {
    let mut hpack = Hpack::new(true);
    let mut fields = Fields::default();
    hpack.decode(&[0x82; list::MAX_FIELDS], &mut fields).unwrap();
    assert_eq!((fields.iter().count(), fields.is_partial()), (list::MAX_FIELDS, false));
    hpack.decode(&[0x82; list::MAX_FIELDS + 1], &mut fields).unwrap();
    assert_eq!((fields.iter().count(), fields.is_partial()), (list::MAX_FIELDS, true));
    // One entry of 4 KiB, referred to a thousand times.
    let mut whole = Hpack::new(true);
    let mut long = b"\x40\x01n\x7f\x81\x1e".to_vec();
    long.extend(vec![b'v'; 127 + 1 + 30 * 128]);
    whole.decode(&long, &mut fields).unwrap();
    assert_eq!(fields.iter().count(), 1);
    whole.decode(&[0xbe; 1000], &mut fields).unwrap();
    assert!(fields.memory() <= 2 * list::MAX_TEXT + (8 << 10) && fields.is_partial());
    // What is put in after the list is full is still there later.
    let mut full = vec![0x82; list::MAX_FIELDS];
    full.extend(b"\x40\x01a\x01b");
    hpack.decode(&full, &mut fields).unwrap();
    hpack.decode(b"\xbe", &mut fields).unwrap();
    assert_eq!(list(&fields), of(&[("a", "b")]));
}

#[test]
fn who_says_a_block() {
    assert_eq!(side(&bytes(REQUESTS[0][0])), Some(Side::Client));
    assert_eq!(side(&bytes(RESPONSES[1][0])), Some(Side::Server));
    assert_eq!(side(b"\x3f\xe1\x1f\x88"), Some(Side::Server));
    assert_eq!((side(b"\xbe"), side(b""), side(b"\x40\x01a\x01b")), (None, None, None));
}
