//! Tokens and canaries as decoders are answered: whom they name is what the tenants' table knows.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use spki::der::Document;

use super::super::parts::Parts;
use crate::model::settings::{Canary, TenantSpec};
use crate::model::token::Verified;
use crate::model::{Claim, Nanos, Settings};

const PUBLIC: &str = include_str!("../../decode/token/test-only-keys/public.pem");
const PRIVATE: &str = include_str!("../../decode/token/test-only-keys/ed25519-private.pem");

fn token(claims: &str) -> String {
    let key = EncodingKey::from_ed_der(Document::from_pem(PRIVATE).unwrap().1.as_bytes());
    let claims: serde_json::Value = serde_json::from_str(claims).unwrap();
    encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap()
}

#[test]
fn tokens_name_tenants_by_name_and_alias_at_the_time_of_their_event() {
    let mut settings = Settings::default();
    settings.tenants.push(TenantSpec { name: "acme".into(), aliases: vec!["org_42".into()] });
    settings.tokens.keys.push(PUBLIC.into());
    let mut parts = Parts::new(settings);
    let acme = Claim::Tenant(parts.ctx.tenants.exact("acme").unwrap());
    parts.ctx.now = Nanos::secs(1000);
    let mut look = |claims| parts.token(None, "Bearer", &token(claims)).unwrap();
    for claims in [r#"{"tid":"ACME","exp":2000}"#, r#"{"https://x.example/tenant":"org_42"}"#] {
        let seen = look(claims);
        assert_eq!((seen.verified, seen.tenant, seen.audience), (Verified::Yes, acme, None), "{claims}");
    }
    assert!(matches!(look(r#"{"tid":"initech"}"#).tenant, Claim::Opaque(_)), "somebody, not known by name");
    assert_eq!(look(r#"{"tid":"acme","exp":900}"#).verified, Verified::Failed);
    let late = token(r#"{"tid":"ACME","exp":2000}"#);
    parts.ctx.now = Nanos::secs(2061);
    assert_eq!(parts.token(None, "Bearer", &late).unwrap().verified, Verified::Failed);
    assert!(parts.token(None, "Basic", "YTpi").is_none());
}

#[test]
fn canaries_name_the_tenant_whose_data_they_stand_in() {
    let mut settings = Settings::default();
    settings.canaries.push(Canary { tenant: "globex".into(), value: "planted-value".into() });
    let parts = Parts::new(settings);
    let globex = parts.ctx.tenants.exact("globex").unwrap();
    assert_eq!(parts.ctx.canaries.within("x planted-value y").as_slice(), [globex]);
}
