//! What others call the mistakes that rules find: weaknesses of the CWE, risks of OWASP's lists.
//!
//! A reference is given where its own description covers what the rule sees, not where it is merely near. Lists: CWE 4.18;
//! OWASP Top 10 of 2021, API Security Top 10 of 2023, Top 10 for LLM Applications of 2025.

/// One entry of somebody else's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Such as `CWE-639` or `OWASP API1:2023`.
    pub id: &'static str,
    /// Its title.
    pub title: &'static str,
    /// Where it is described.
    pub url: &'static str,
}

macro_rules! references {
    ($($name:ident = $id:literal $title:literal $url:literal;)*) => {
        $(const $name: Reference = Reference { id: $id, title: $title, url: $url };)*
    };
}

references! {
    PRIVILEGES = "CWE-250" "Execution with Unnecessary Privileges" "https://cwe.mitre.org/data/definitions/250.html";
    AUTHENTICATION = "CWE-287" "Improper Authentication" "https://cwe.mitre.org/data/definitions/287.html";
    SPOOFING = "CWE-290" "Authentication Bypass by Spoofing" "https://cwe.mitre.org/data/definitions/290.html";
    NOT_AUTHENTICATED = "CWE-306" "Missing Authentication for Critical Function" "https://cwe.mitre.org/data/definitions/306.html";
    AUTHENTICITY = "CWE-345" "Insufficient Verification of Data Authenticity" "https://cwe.mitre.org/data/definitions/345.html";
    INTEGRITY = "CWE-353" "Missing Support for Integrity Check" "https://cwe.mitre.org/data/definitions/353.html";
    RELEASE = "CWE-404" "Improper Resource Shutdown or Release" "https://cwe.mitre.org/data/definitions/404.html";
    INTERPRETATION = "CWE-436" "Interpretation Conflict" "https://cwe.mitre.org/data/definitions/436.html";
    DEPUTY = "CWE-441" "Unintended Proxy or Intermediary ('Confused Deputy')" "https://cwe.mitre.org/data/definitions/441.html";
    CLEANUP = "CWE-459" "Incomplete Cleanup" "https://cwe.mitre.org/data/definitions/459.html";
    WRONG_SESSION = "CWE-488" "Exposure of Data Element to Wrong Session" "https://cwe.mitre.org/data/definitions/488.html";
    NO_INTEGRITY = "CWE-494" "Download of Code Without Integrity Check" "https://cwe.mitre.org/data/definitions/494.html";
    CACHE = "CWE-524" "Use of Cache Containing Sensitive Information" "https://cwe.mitre.org/data/definitions/524.html";
    EXPIRATION = "CWE-613" "Insufficient Session Expiration" "https://cwe.mitre.org/data/definitions/613.html";
    USERS_KEY = "CWE-639" "Authorization Bypass Through User-Controlled Key" "https://cwe.mitre.org/data/definitions/639.html";
    ISOLATION = "CWE-653" "Improper Isolation or Compartmentalization" "https://cwe.mitre.org/data/definitions/653.html";
    WRONG_SPHERE = "CWE-668" "Exposure of Resource to Wrong Sphere" "https://cwe.mitre.org/data/definitions/668.html";
    THROTTLING = "CWE-770" "Allocation of Resources Without Limits or Throttling" "https://cwe.mitre.org/data/definitions/770.html";
    UNTRUSTED = "CWE-807" "Reliance on Untrusted Inputs in a Security Decision" "https://cwe.mitre.org/data/definitions/807.html";
    ONCE = "CWE-837" "Improper Enforcement of a Single, Unique Action" "https://cwe.mitre.org/data/definitions/837.html";
    NOT_AUTHORIZED = "CWE-862" "Missing Authorization" "https://cwe.mitre.org/data/definitions/862.html";
    PROMPTING = "CWE-1427" "Improper Neutralization of Input Used for LLM Prompting" "https://cwe.mitre.org/data/definitions/1427.html";

    ACCESS_CONTROL = "OWASP A01:2021" "Broken Access Control" "https://owasp.org/Top10/A01_2021-Broken_Access_Control/";
    DESIGN = "OWASP A04:2021" "Insecure Design" "https://owasp.org/Top10/A04_2021-Insecure_Design/";
    MISCONFIGURATION = "OWASP A05:2021" "Security Misconfiguration" "https://owasp.org/Top10/A05_2021-Security_Misconfiguration/";
    SOFTWARE_INTEGRITY = "OWASP A08:2021" "Software and Data Integrity Failures" "https://owasp.org/Top10/A08_2021-Software_and_Data_Integrity_Failures/";
    API_OBJECTS = "OWASP API1:2023" "Broken Object Level Authorization" "https://owasp.org/API-Security/editions/2023/en/0xa1-broken-object-level-authorization/";
    API_AUTHENTICATION = "OWASP API2:2023" "Broken Authentication" "https://owasp.org/API-Security/editions/2023/en/0xa2-broken-authentication/";
    API_CONSUMPTION = "OWASP API4:2023" "Unrestricted Resource Consumption" "https://owasp.org/API-Security/editions/2023/en/0xa4-unrestricted-resource-consumption/";
    API_FUNCTIONS = "OWASP API5:2023" "Broken Function Level Authorization" "https://owasp.org/API-Security/editions/2023/en/0xa5-broken-function-level-authorization/";
    API_MISCONFIGURATION = "OWASP API8:2023" "Security Misconfiguration" "https://owasp.org/API-Security/editions/2023/en/0xa8-security-misconfiguration/";
    LLM_INJECTION = "OWASP LLM01:2025" "Prompt Injection" "https://genai.owasp.org/llmrisk/llm01-prompt-injection/";
    LLM_DISCLOSURE = "OWASP LLM02:2025" "Sensitive Information Disclosure" "https://genai.owasp.org/llmrisk/llm022025-sensitive-information-disclosure/";
    LLM_SUPPLY_CHAIN = "OWASP LLM03:2025" "Supply Chain" "https://genai.owasp.org/llmrisk/llm032025-supply-chain/";
    LLM_AGENCY = "OWASP LLM06:2025" "Excessive Agency" "https://genai.owasp.org/llmrisk/llm062025-excessive-agency/";
}

/// What others call what `rule` finds, the nearest first.
pub fn references(rule: &str) -> impl Iterator<Item = &'static Reference> {
    let all: &[Reference] = match rule {
        // State of one borrower is left for, or missing at, the next.
        "pool-reuse-unrevalidated" => &[WRONG_SESSION, ISOLATION, ACCESS_CONTROL],
        "pool-stale-binding" => &[WRONG_SESSION, CLEANUP, ACCESS_CONTROL],
        "pool-first-use-unbound" => &[NOT_AUTHORIZED, ACCESS_CONTROL],
        "local-set-ineffective" => &[ISOLATION, ACCESS_CONTROL],
        "session-set-under-pooler" => &[WRONG_SESSION, CLEANUP, MISCONFIGURATION],
        "response-desync" => &[WRONG_SESSION, RELEASE, DESIGN],
        "conn-auth-reuse" => &[WRONG_SESSION, AUTHENTICATION, API_AUTHENTICATION],
        // Nothing divides what several tenants use.
        "shared-service-unpartitioned" => &[ISOLATION, DESIGN],
        "tenant-label-missing" => &[ISOLATION, MISCONFIGURATION],
        "http-cache-shared" => &[CACHE, ACCESS_CONTROL],
        "http-session-cross-tenant" => &[WRONG_SESSION, ACCESS_CONTROL],
        "identity-conflicting" => &[SPOOFING, ACCESS_CONTROL],
        "cache-key-unscoped" => &[CACHE, WRONG_SPHERE, ACCESS_CONTROL],
        "queue-tenant-missing" => &[ISOLATION, DESIGN],
        "queue-tenant-unrevalidated" => &[NOT_AUTHORIZED, AUTHENTICITY, ACCESS_CONTROL],
        "downstream-scope-missing" => &[DEPUTY, NOT_AUTHORIZED, ACCESS_CONTROL],
        // Ids and names that the caller chooses.
        "handle-cross-tenant" => &[USERS_KEY, API_OBJECTS],
        "mcp-session-cross-tenant" => &[USERS_KEY, WRONG_SESSION, API_AUTHENTICATION],
        "mcp-arg-tenant-mismatch" => &[USERS_KEY, UNTRUSTED, API_OBJECTS],
        "mcp-header-mismatch" => &[INTERPRETATION, API_MISCONFIGURATION],
        "result-cross-tenant" => &[WRONG_SPHERE, API_OBJECTS, LLM_DISCLOSURE],
        // Tokens.
        "mcp-call-token-missing" => &[NOT_AUTHENTICATED, API_AUTHENTICATION],
        "mcp-token-weak" => &[EXPIRATION, API_AUTHENTICATION],
        "mcp-token-fanout" => &[PRIVILEGES, DEPUTY, ACCESS_CONTROL],
        "mcp-token-passthrough" => &[DEPUTY, API_AUTHENTICATION],
        // Tools and their lists.
        "mcp-flat-registry" => &[NOT_AUTHORIZED, API_FUNCTIONS, LLM_AGENCY],
        "mcp-call-not-listed" => &[NOT_AUTHORIZED, API_FUNCTIONS],
        "mcp-list-cache-shared" => &[CACHE, ACCESS_CONTROL],
        "tool-description-poisoned" => &[PROMPTING, LLM_INJECTION, LLM_SUPPLY_CHAIN],
        "tool-output-injection" => &[PROMPTING, LLM_INJECTION],
        "tool-manifest-unsigned" => &[INTEGRITY, SOFTWARE_INTEGRITY],
        "tool-manifest-drift" => &[NO_INTEGRITY, SOFTWARE_INTEGRITY, LLM_SUPPLY_CHAIN],
        // Repetition.
        "retry-no-idempotency" => &[ONCE, DESIGN],
        "retry-budget-exceeded" => &[THROTTLING, API_CONSUMPTION],
        _ => &[],
    };
    all.iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::RULES;

    #[test]
    fn every_rule_has_a_weakness_and_a_risk() {
        for rule in RULES {
            let ids: Vec<_> = references(rule.id).map(|r| r.id).collect();
            assert!(ids.iter().any(|id| id.starts_with("CWE-")), "{}: {ids:?}", rule.id);
            assert!(ids.iter().any(|id| id.starts_with("OWASP ")), "{}: {ids:?}", rule.id);
            let numbered =
                |r: &Reference| r.id.strip_prefix("CWE-").is_none_or(|n| r.url.contains(&format!("/{n}.html")));
            assert!(references(rule.id).all(numbered), "{}", rule.id);
        }
    }
}
