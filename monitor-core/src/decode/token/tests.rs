//! Tokens made with real keys, and everything that may be wrong with one.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};
use spki::der::Document;

use super::*;
use crate::model::{OpaqueId, TenantId};

const SALT: Salt = Salt(3, 4);
/// 2026-11-21T00:00:00Z.
const NOW: u64 = 1_795_219_200;
const SECRET: &[u8] = b"a secret of the tests, of 32 byte";
const PUBLIC_PEM: &str = include_str!("test-only-keys/public.pem");

fn der(pem: &str) -> Vec<u8> {
    Document::from_pem(pem).unwrap().1.as_bytes().to_vec()
}

fn rsa() -> EncodingKey {
    EncodingKey::from_rsa_der(&der(include_str!("test-only-keys/rsa-private.pem")))
}

fn p256() -> EncodingKey {
    EncodingKey::from_ec_der(&der(include_str!("test-only-keys/p256-private.pem")))
}

fn p384() -> EncodingKey {
    EncodingKey::from_ec_der(&der(include_str!("test-only-keys/p384-private.pem")))
}

fn ed25519() -> EncodingKey {
    EncodingKey::from_ed_der(&der(include_str!("test-only-keys/ed25519-private.pem")))
}

fn stranger() -> EncodingKey {
    EncodingKey::from_ed_der(&der(include_str!("test-only-keys/other-ed25519-private.pem")))
}

fn secret() -> EncodingKey {
    EncodingKey::from_secret(SECRET)
}

/// The JWKS of all keys, each with its kind as `kid`.
fn jwks() -> String {
    let jwk = |key: &EncodingKey, algorithm, kid: &str| {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(key, algorithm).unwrap()).unwrap();
        let members = jwk.as_object_mut().unwrap();
        members.insert("kid".into(), json!(kid));
        // One RSA key does all of its algorithms.
        members.remove("alg");
        jwk
    };
    let keys = [
        jwk(&rsa(), Algorithm::RS256, "rsa"),
        jwk(&p256(), Algorithm::ES256, "p256"),
        jwk(&p384(), Algorithm::ES384, "p384"),
        jwk(&ed25519(), Algorithm::EdDSA, "ed25519"),
        jwk(&secret(), Algorithm::HS256, "secret"),
        // To be ignored, not refused: RFC 7517 §5.
        json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "k1"}),
        json!({"kty": "RSA", "use": "enc", "n": "AA", "e": "AQAB"}),
        json!({"kty": "future"}),
    ];
    json!({ "keys": keys }).to_string()
}

fn policy(keys: &[&str]) -> TokenPolicy {
    TokenPolicy {
        keys: keys.iter().map(|k| (*k).to_owned()).collect(),
        audiences: vec![("orders-mcp".into(), vec!["https://orders.example".into(), "orders".into()])],
        ..TokenPolicy::default()
    }
}

fn verifier(keys: &[&str]) -> Verifier {
    let (verifier, problems) = Verifier::new(&policy(keys), SALT);
    assert_eq!(problems, []);
    verifier
}

fn claims() -> Value {
    json!({"tid": "acme", "azp": "globex", "aud": "https://orders.example/", "scope": "orders.read",
           "iat": NOW - 60, "nbf": NOW - 60, "exp": NOW + 540})
}

fn made(algorithm: Algorithm, kid: Option<&str>, key: &EncodingKey, claims: &Value) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, claims, key).unwrap()
}

/// acme is tenant 0; everybody else is somebody.
fn whom(name: &str) -> Claim {
    if name == "acme" { Claim::Tenant(TenantId(0)) } else { Claim::Opaque(OpaqueId(9)) }
}

fn look(verifier: &mut Verifier, token: &str) -> Token {
    verifier.inspect("Bearer", token, Nanos::secs(NOW), Some("orders-mcp"), &mut whom).unwrap()
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn every_algorithm_verifies_with_its_own_key() {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
    let jwks = jwks();
    let mut by_jwks = verifier(&[&jwks]);
    let mut by_pem = verifier(&[PUBLIC_PEM]);
    let all: [(&str, EncodingKey, &[Algorithm]); 5] = [
        ("rsa", rsa(), &[RS256, RS384, RS512, PS256, PS384, PS512]),
        ("p256", p256(), &[ES256]),
        ("p384", p384(), &[ES384]),
        ("ed25519", ed25519(), &[EdDSA]),
        ("secret", secret(), &[HS256, HS384, HS512]),
    ];
    for (kid, key, algorithms) in &all {
        for &algorithm in *algorithms {
            for kid in [Some(*kid), None] {
                let token = made(algorithm, kid, key, &claims());
                let seen = look(&mut by_jwks, &token);
                let want = Token {
                    print: SALT.fingerprint(token.as_bytes()),
                    readable: true,
                    verified: Verified::Yes,
                    tenant: Claim::Tenant(TenantId(0)),
                    audience: Some(true),
                    has_audience: true,
                    lifetime: Some(Nanos::secs(600)),
                    has_scope: true,
                };
                assert_eq!(seen, want, "{algorithm:?} {kid:?}");
                // A key in PEM has no name, and there is no PEM for a secret: some of these keys try and fail.
                let want = if *algorithms == [HS256, HS384, HS512] { Verified::NoKey } else { Verified::Yes };
                assert_eq!(look(&mut by_pem, &token).verified, want, "{algorithm:?} {kid:?}");
                // One bit elsewhere, in claims or signature.
                let (message, signature) = token.rsplit_once('.').unwrap();
                let (header, _) = message.split_once('.').unwrap();
                let mut other = claims();
                other["tid"] = json!("globex");
                let forged = format!("{header}.{}.{signature}", part(&other));
                assert_eq!(look(&mut by_jwks, &forged).verified, Verified::Failed, "{algorithm:?} {kid:?}");
                let short = token.get(..token.len() - 4).unwrap();
                assert_eq!(look(&mut by_jwks, short).verified, Verified::Failed, "{algorithm:?} {kid:?}");
            }
        }
    }
}

#[test]
fn the_keys_type_decides_and_not_the_header() {
    let jwks = jwks();
    let mut v = verifier(&[&jwks, PUBLIC_PEM]);
    // The public key as the secret of an HMAC: the classic confusion.
    let first = PUBLIC_PEM.split_inclusive("-----END PUBLIC KEY-----").next().unwrap();
    for public in [PUBLIC_PEM.as_bytes(), first.as_bytes(), &der(first), jwks.as_bytes()] {
        let key = EncodingKey::from_secret(public);
        for kid in ["rsa", "p256", "ed25519"] {
            let token = made(Algorithm::HS256, Some(kid), &key, &claims());
            assert_eq!(look(&mut v, &token).verified, Verified::Failed, "{kid}");
        }
        assert_eq!(look(&mut v, &made(Algorithm::HS256, None, &key, &claims())).verified, Verified::Failed);
    }
    // No signature at all.
    for none in ["none", "None", "NONE"] {
        let token = format!("{}.{}.", part(&json!({"alg": none})), part(&claims()));
        let seen = look(&mut v, &token);
        assert_eq!((seen.readable, seen.verified), (true, Verified::Failed), "{none}");
    }
    let unsigned = format!("{}.{}.", part(&json!({"alg": "RS256", "kid": "rsa"})), part(&claims()));
    assert_eq!(look(&mut v, &unsigned).verified, Verified::Failed);
    // An extension that must be understood, well signed.
    let head = part(&json!({"alg": "HS256", "kid": "secret", "crit": ["b64"], "b64": false}));
    let message = format!("{head}.{}", part(&claims()));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &secret(), Algorithm::HS256).unwrap();
    assert_eq!(look(&mut v, &format!("{message}.{signature}")).verified, Verified::Failed);
}

#[test]
fn a_key_for_one_algorithm_serves_no_other() {
    let mut jwk: Value = serde_json::to_value(Jwk::from_encoding_key(&rsa(), Algorithm::RS256).unwrap()).unwrap();
    jwk["kid"] = json!("rsa");
    jwk["alg"] = json!("PS256");
    // A single JWK is taken, too.
    let mut v = verifier(&[&jwk.to_string()]);
    assert_eq!(look(&mut v, &made(Algorithm::PS256, Some("rsa"), &rsa(), &claims())).verified, Verified::Yes);
    assert_eq!(look(&mut v, &made(Algorithm::RS256, Some("rsa"), &rsa(), &claims())).verified, Verified::Failed);
}

#[test]
fn whose_key_is_not_here_makes_a_claim_and_no_more() {
    let jwks = jwks();
    let mut v = verifier(&[&jwks]);
    let seen = look(&mut v, &made(Algorithm::EdDSA, Some("theirs"), &stranger(), &claims()));
    assert_eq!((seen.verified, seen.tenant), (Verified::NoKey, Claim::Tenant(TenantId(0))));
    // Under the name of a key that is here, or of no name while there is one: it is wrong.
    for kid in [Some("ed25519"), None] {
        let seen = look(&mut v, &made(Algorithm::EdDSA, kid, &stranger(), &claims()));
        assert_eq!(seen.verified, Verified::Failed, "{kid:?}");
    }
    let mut none = verifier(&[]);
    let seen = look(&mut none, &made(Algorithm::EdDSA, None, &ed25519(), &claims()));
    assert_eq!((seen.readable, seen.verified), (true, Verified::NoKey));
    let es512 = format!("{}.{}.AAAA", part(&json!({"alg": "ES512", "kid": "p521"})), part(&claims()));
    assert_eq!(look(&mut v, &es512).verified, Verified::NoKey);
}

#[test]
fn times_are_judged_at_every_use_and_signatures_once() {
    let mut v = verifier(&[PUBLIC_PEM]);
    let token = made(Algorithm::ES256, None, &p256(), &claims());
    let at = |v: &mut Verifier, now| v.inspect("bearer", &token, Nanos::secs(now), None, &mut whom).unwrap().verified;
    for (now, want) in [
        (NOW, Verified::Yes),
        (NOW + 599, Verified::Yes),
        (NOW + 600, Verified::Failed),
        (NOW - 120, Verified::Yes),
        (NOW - 121, Verified::Failed),
        (NOW, Verified::Yes),
    ] {
        assert_eq!(at(&mut v, now), want, "{now}");
    }
    assert_eq!(v.len(), 1);
}

#[test]
fn audience_lifetime_and_scope_are_told() {
    let mut v = verifier(&[PUBLIC_PEM]);
    let mut with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        look(&mut v, &made(Algorithm::EdDSA, None, &ed25519(), &claims))
    };
    assert_eq!(with("aud", json!("https://billing.example")).audience, Some(false));
    assert_eq!(with("aud", json!(["x", "orders"])).audience, Some(true));
    let none = with("aud", Value::Null);
    assert_eq!((none.audience, none.has_audience), (Some(false), false));
    assert_eq!(with("exp", json!(NOW + 86_340)).lifetime, Some(Nanos::secs(86_400)));
    assert_eq!(with("iat", Value::Null).lifetime, Some(Nanos::secs(600)));
    assert!(!with("scope", json!("")).has_scope);
    assert_eq!(with("tid", json!("initech")).tenant, Claim::Opaque(OpaqueId(9)));
    assert_eq!(with("tid", json!(["acme", "globex"])).tenant, Claim::Unreadable);
    assert_eq!(with("tid", Value::Null).tenant, Claim::Neutral, "azp names the application");
    let token = made(Algorithm::EdDSA, None, &ed25519(), &claims());
    let elsewhere = v.inspect("Bearer", &token, Nanos::secs(NOW), Some("other"), &mut whom).unwrap();
    assert_eq!(elsewhere.audience, None, "nobody said what it accepts");
}

#[test]
fn what_is_no_jwt_is_opaque_and_what_is_no_token_is_nothing() {
    let mut v = verifier(&[PUBLIC_PEM]);
    let huge = made(Algorithm::EdDSA, None, &ed25519(), &json!({"tid": "acme", "x": "y".repeat(MAX_TOKEN)}));
    let jwe = format!("{}.a.b.c.d", part(&json!({"alg": "RSA-OAEP", "enc": "A256GCM"})));
    for text in [
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "a.b.c",
        "..",
        &jwe,
        &huge,
        &format!("{}.{}.AA", part(&json!({"typ": "JWT"})), part(&claims())),
        &format!("{}.{}.AA", part(&json!({"alg": "HS256"})), part(&json!(["tid"]))),
        &format!("{}.{}.AA", part(&json!(7)), part(&claims())),
        "päss.wörd.ö",
    ] {
        let seen = look(&mut v, text);
        assert_eq!((seen.readable, seen.verified, seen.tenant), (false, Verified::NoKey, Claim::Neutral), "{text:.40}");
        assert_eq!(seen.print, SALT.fingerprint(text.as_bytes()));
    }
    for (scheme, token) in [("Basic", "dXNlcjpwYXNz"), ("Negotiate", "YII"), ("Bearer", ""), ("AWS4-HMAC-SHA256", "x")]
    {
        assert!(v.inspect(scheme, token, Nanos(0), None, &mut whom).is_none(), "{scheme}");
    }
    let token = made(Algorithm::EdDSA, None, &ed25519(), &claims());
    for scheme in ["", "DPoP", "BEARER"] {
        let seen = v.inspect(scheme, &token, Nanos::secs(NOW), None, &mut whom).unwrap();
        assert_eq!(seen.verified, Verified::Yes, "{scheme}");
    }
}

#[test]
fn a_flood_of_new_tokens_is_not_verified_and_said_so() {
    let mut v = verifier(&[PUBLIC_PEM]);
    let known = made(Algorithm::EdDSA, None, &ed25519(), &claims());
    assert_eq!(look(&mut v, &known).verified, Verified::Yes);
    let head = part(&json!({"alg": "HS256"}));
    for i in 0..1500 {
        look(&mut v, &format!("{head}.{}.AA", part(&json!({ "i": i }))));
    }
    assert_eq!(v.n_unchecked(), 501);
    assert_eq!(look(&mut v, &known).verified, Verified::Yes, "what is known needs no work");
    let late = made(Algorithm::EdDSA, None, &ed25519(), &json!({"tid": "acme"}));
    assert!(!look(&mut v, &late).readable);
    let next = v.inspect("Bearer", &late, Nanos::secs(NOW + 1), None, &mut whom).unwrap();
    assert_eq!(next.verified, Verified::Yes);
    assert!(v.len() <= Verifier::limit());
}

#[test]
fn what_is_wrong_with_keys_is_said_with_its_line_and_without_any_value() {
    let private = include_str!("test-only-keys/ed25519-private.pem");
    let two = format!("# ours\n{PUBLIC_PEM}# and\n{private}");
    let short = include_str!("test-only-keys/short-public.pem");
    let unsupported = include_str!("test-only-keys/unsupported-public.pem");
    let (x, y) = ("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
    let list = format!(
        "{{\"keys\": [\n{{\"kty\": \"RSA\", \"n\": \"hush-hus\"}},\n{{\"kty\": \"EC\", \"crv\": \"P-256\", \"x\": \"{x}\", \
         \"y\": \"{y}\"}},\n{{\"kty\": \"oct\", \"k\": 12345678}},\n{{\"kty\": \"oct\", \"k\": \"hush hush\"}},\n\
         {{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \"AAAA\"}},\n{{\"kty\": \"oct\", \"k\": \"aHVzaA\", \"alg\": \"RS256\"}}]}}"
    );
    let cases: [(&str, &[(u64, &str)]); 9] = [
        (
            "{\"keys\": [\n{\"k\": \"hush-hush\"",
            &[(2, "it is neither a JWKS document nor PEM: EOF while parsing an object at line 2 column 17")],
        ),
        ("hush-hush", &[(1, "it is neither a JWKS document nor PEM: expected value at line 1 column 1")]),
        ("{\"key\": \"hush-hush\"}", &[(1, "it is JSON, but no JWKS document: expected an object with a list `keys`")]),
        ("{\"keys\": []}", &[(1, "no key in it can verify tokens")]),
        ("{\"keys\": [{\"kty\": \"EC\", \"crv\": \"P-521\"}]}", &[(1, "no key in it can verify tokens")]),
        (
            &list,
            &[
                (2, "keys[0]: `e` is missing"),
                (3, "keys[1]: a P-256 key that is not well formed"),
                (4, "keys[2]: expected a JWK: an object with `kty`, and all members that RFC 7517 names as text"),
                (5, "keys[3]: `k` is not base64url without padding"),
                (6, "keys[4]: `x` must have 32 bytes, and has 3"),
                (7, "keys[5]: `alg` does not go with a shared secret"),
            ],
        ),
        (&two, &[(24, "a private key; tokens are verified with the public one")]),
        (short, &[(1, "an RSA key of 2048 to 4096 bits is needed; this has 1024")]),
        (unsupported, &[(1, "a key of another type than RSA, P-256, P-384 and Ed25519")]),
    ];
    for (text, want) in cases {
        let (_, problems) = Verifier::new(&policy(&[PUBLIC_PEM, text]), SALT);
        let got: Vec<(u64, &str)> = problems.iter().map(|p| (p.line, p.message.as_str())).collect();
        assert_eq!(got, want, "{text:.60}");
        assert!(problems.iter().all(|p| p.document == 1 && !p.message.contains("hush")), "{problems:?}");
    }
    // What is right beside it is used all the same.
    let (mut v, problems) = Verifier::new(&policy(&[&two]), SALT);
    assert_eq!(problems.len(), 1);
    assert_eq!(look(&mut v, &made(Algorithm::EdDSA, None, &ed25519(), &claims())).verified, Verified::Yes);
    assert!(!format!("{:?}", verifier(&[&jwks()])).contains("a secret"));
}

#[test]
fn a_damaged_token_never_verifies() {
    let mut v = verifier(&[PUBLIC_PEM]);
    let token = made(Algorithm::EdDSA, None, &ed25519(), &claims());
    for end in 0..token.len() {
        assert_ne!(look(&mut v, &format!("{}x", token.get(..end).unwrap())).verified, Verified::Yes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever is presented, the answer is no proof, and there is one.
    #[test]
    fn arbitrary_text_is_answered(scheme in ".{0,8}", token in ".{0,200}", now in any::<u64>()) {
        let mut v = verifier(&[]);
        let seen = v.inspect(&scheme, &token, Nanos(now), Some("orders-mcp"), &mut whom);
        prop_assert!(seen.is_none_or(|t| t.verified != Verified::Yes));
        let seen = v.inspect("Bearer", &token, Nanos(now), None, &mut whom);
        prop_assert_eq!(seen.is_none(), token.trim().is_empty());
    }

    /// Well-formed on the outside, anything within.
    #[test]
    fn arbitrary_parts_are_answered(
        header in ".{0,60}", payload in ".{0,120}", signature in proptest::collection::vec(any::<u8>(), 0..300),
        algorithm in prop_oneof!["RS256", "PS512", "ES256", "ES384", "EdDSA", "HS256", "none", ".{0,8}"],
        kid in prop_oneof![Just(json!("rsa")), Just(json!("p256")), Just(json!(7)), Just(Value::Null)],
        exp in any::<f64>(),
    ) {
        thread_local!(static V: std::cell::RefCell<Verifier> = std::cell::RefCell::new(verifier(&[&jwks(), PUBLIC_PEM])));
        let signature = URL_SAFE_NO_PAD.encode(signature);
        let head = part(&json!({"alg": algorithm, "kid": kid}));
        let claims = json!({"exp": exp, "iat": exp, "tid": payload, "aud": [payload]});
        V.with_borrow_mut(|v| {
            for token in [
                format!("{head}.{}.{signature}", part(&claims)),
                format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(&payload)),
                format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(&header), part(&claims)),
            ] {
                let seen = v.inspect("Bearer", &token, Nanos::secs(NOW), Some("orders-mcp"), &mut whom);
                prop_assert!(seen.is_some_and(|t| t.verified != Verified::Yes));
            }
            Ok(())
        })?;
    }

    /// Documents of keys come from the operator, and may be anything.
    #[test]
    fn arbitrary_documents_of_keys_are_answered(text in ".{0,200}", n in "[A-Za-z0-9_-]{0,60}") {
        let jwk = json!({"keys": [{"kty": "RSA", "n": n, "e": "AQAB"}, {"kty": "OKP", "crv": "Ed25519", "x": n},
                                  {"kty": "EC", "crv": "P-384", "x": n, "y": n}, {"kty": text, "crv": n}]});
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{n}\n-----END PUBLIC KEY-----{text}-----BEGIN {text}");
        let (_, problems) = Verifier::new(&policy(&[&text, &jwk.to_string(), &pem]), SALT);
        prop_assert!(problems.iter().all(|p| p.line >= 1));
    }
}
