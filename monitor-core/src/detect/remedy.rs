//! What to do about a finding, in the words of the protocol that it was found on.
//!
//! A rule's own remediation holds for every protocol. Where one has a means of its own (a setting, a user, a subject), it
//! is named here; a protocol that is not listed gets the general words, and never another's.

use super::RuleInfo;
use crate::model::Protocol;

/// What to do about a finding of `rule` at a service that speaks `protocol`.
pub(super) fn remedy(rule: &RuleInfo, protocol: Option<Protocol>) -> &'static str {
    let specific = match rule.id {
        "pool-reuse-unrevalidated" | "pool-stale-binding" => protocol.and_then(|p| rebind(rule.id, p)),
        "pool-first-use-unbound" => protocol.and_then(first_bind),
        "shared-service-unpartitioned" => protocol.and_then(partition),
        "downstream-scope-missing" => protocol.and_then(pass_on),
        "session-set-under-pooler" => protocol.and_then(bind_under_pooler),
        "cache-key-unscoped" => protocol.and_then(scope_keys),
        _ => None,
    };
    specific.unwrap_or(rule.remediation)
}

/// A pooled connection goes from one tenant to the next.
fn rebind(rule: &str, protocol: Protocol) -> Option<&'static str> {
    Some(match protocol {
        Protocol::Postgres if rule == "pool-stale-binding" => {
            "Bind at checkout and reset at return: BEGIN; SELECT set_config('app.tenant_id', $1, true); …; COMMIT. \
             Behind a transaction pooler never SET for the session."
        }
        Protocol::Postgres => {
            "Bind per unit of work, in the transaction that uses it: BEGIN; SELECT set_config('app.tenant_id', $1, \
             true); …; COMMIT. Drop the connection when the binding fails."
        }
        Protocol::MySql if rule == "pool-stale-binding" => {
            "Bind at checkout and reset at return: SET @tenant_id (or USE, SET ROLE) for each borrower, \
             COM_RESET_CONNECTION when it gives the connection back; it resets variables, but neither database nor user."
        }
        Protocol::MySql => {
            "Bind per checkout: SET @tenant_id for views and triggers to read, USE for a database of the tenant's own, or \
             COM_CHANGE_USER to its own user. Drop the connection when that fails; a reset alone binds nobody."
        }
        Protocol::Redis => {
            "Give each tenant a user of its own (ACL SETUSER … ~tenant:acme:*) and a pool per user, or send AUTH again \
             at checkout and RESET at return; begin every key with the tenant."
        }
        Protocol::Memcached => {
            "Begin every key with the tenant, in the one place that all of the program's keys come from; memcached knows \
             nobody by name, so what must be kept apart for certain needs a server for each tenant."
        }
        Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Mcp => {
            "Send the tenant's own credential with every request, and let the server decide by that alone; keep no \
             credential on the connection or in the client's defaults."
        }
        Protocol::Amqp => {
            "Open a connection per tenant with the tenant's own user and virtual host: a connection of AMQP 0-9-1 \
             cannot change either."
        }
        Protocol::Nats => {
            "Open a connection per tenant with the tenant's own credentials, and give each an account or permissions \
             for its own subjects."
        }
        Protocol::Kafka => {
            "Open a client per tenant with the tenant's own principal, and let ACLs allow it its own topics alone; \
             else carry a signed tenant in each record."
        }
        Protocol::Mqtt => {
            "Open a connection per tenant with the tenant's own client id and user, and let the broker allow it its own \
             topics alone."
        }
        _ => return None,
    })
}

/// A pool binds its connections, but not a new one's first use.
fn first_bind(protocol: Protocol) -> Option<&'static str> {
    (protocol == Protocol::Postgres).then_some(
        "Bind per unit of work, in the transaction that uses it, rather than in a hook of the pool; else bind in the \
         hook for new connections, too (sqlx: after_connect beside before_acquire).",
    )
}

/// What a client of a pooler set for its session is there for the next client.
fn bind_under_pooler(protocol: Protocol) -> Option<&'static str> {
    Some(match protocol {
        Protocol::Postgres => {
            "Bind for the transaction (SET LOCAL, set_config(…, true)); or pool per session; or set \
             server_reset_query_always=1."
        }
        Protocol::MySql => {
            "What is set lasts until the connection is reset: let every borrower SET @tenant_id, USE its database or name \
             it in each statement; or let the pooler keep a connection for the client that has set something (ProxySQL: \
             multiplex=0)."
        }
        _ => return None,
    })
}

/// A key says nothing of whose its content is.
fn scope_keys(protocol: Protocol) -> Option<&'static str> {
    Some(match protocol {
        Protocol::Redis => {
            "Begin every key with the tenant (tenant:acme:…) and let the server enforce it: one user per tenant with ACL \
             ~tenant:acme:*. Suppress the rule for keys that are global on purpose."
        }
        Protocol::Memcached => {
            "Begin every key with the tenant (tenant:acme:…), in the one place that all of the program's keys come from: \
             memcached itself enforces nothing. Suppress the rule for keys that are global on purpose."
        }
        _ => return None,
    })
}

/// Several tenants use a service that is not told for whom it works.
fn partition(protocol: Protocol) -> Option<&'static str> {
    Some(match protocol {
        Protocol::Postgres => {
            "Partition the service by tenant (row-level security with a bound tenant, a role or database per tenant), \
             or declare what enforces it and suppress this finding with a reason."
        }
        Protocol::MySql => {
            "Partition the service by tenant (a database and a user per tenant, or views that read a variable which is \
             bound for each unit of work), or declare what enforces it and suppress this finding with a reason."
        }
        Protocol::Redis => {
            "Partition the service by tenant (a user per tenant with ACL ~tenant:acme:*, keys that begin with the \
             tenant, or an instance of its own), or declare what enforces it and suppress this finding with a reason."
        }
        Protocol::Memcached => {
            "Partition the service by tenant (keys that begin with the tenant, or a server for each), or declare what \
             keeps tenants apart and suppress this finding with a reason."
        }
        Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Mcp => {
            "Demand the tenant's own credential with every request and decide by it, or declare what enforces the \
             separation and suppress this finding with a reason."
        }
        Protocol::Amqp => {
            "Give each tenant a user and a virtual host (or queues that its user alone may use), or declare what \
             enforces the separation and suppress this finding with a reason."
        }
        Protocol::Nats => {
            "Give each tenant an account, or a user with permissions for its own subjects, or declare what enforces the \
             separation and suppress this finding with a reason."
        }
        Protocol::Kafka => {
            "Give each tenant a principal with ACLs for topics and groups of its own, or declare what enforces the \
             separation and suppress this finding with a reason."
        }
        Protocol::Mqtt => {
            "Give each tenant a user with access to topics of its own, or declare what enforces the separation and \
             suppress this finding with a reason."
        }
        _ => return None,
    })
}

/// A tool's own work does not say for whom it is.
fn pass_on(protocol: Protocol) -> Option<&'static str> {
    Some(match protocol {
        Protocol::Postgres => {
            "Pass the tenant's scope on with every statement (a role, or a setting that row-level security reads, bound \
             in the transaction). A service that holds nothing of tenants' can be suppressed as such."
        }
        Protocol::MySql => {
            "Pass the tenant's scope on: the tenant's own database or user, or a variable that views read, bound for each \
             unit of work. A service that holds nothing of tenants' can be suppressed as such."
        }
        Protocol::Redis => {
            "Pass the tenant's scope on: keys that begin with the tenant, under a user that may use no others. A \
             service that holds nothing of tenants' can be suppressed as such."
        }
        Protocol::Memcached => {
            "Pass the tenant's scope on: keys that begin with the tenant. A service that holds nothing of tenants' can be \
             suppressed as such."
        }
        Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Mcp => {
            "Pass the tenant's scope on with every request (a token exchanged for the tenant, RFC 8693) and let the \
             service check it. A service that holds nothing of tenants' can be suppressed as such."
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::RULES;

    const ALL: [Protocol; 13] = [
        Protocol::MySql,
        Protocol::Memcached,
        Protocol::Postgres,
        Protocol::Redis,
        Protocol::Http,
        Protocol::Http2,
        Protocol::Grpc,
        Protocol::Mcp,
        Protocol::Amqp,
        Protocol::Nats,
        Protocol::Kafka,
        Protocol::Mqtt,
        Protocol::Unknown,
    ];
    /// Words that mean something to one protocol only.
    const WORDS: [(&str, &[Protocol]); 21] = [
        ("set_config", &[Protocol::Postgres]),
        ("SET LOCAL", &[Protocol::Postgres]),
        ("BEGIN", &[Protocol::Postgres]),
        ("COMMIT", &[Protocol::Postgres]),
        ("row-level", &[Protocol::Postgres]),
        ("role", &[Protocol::Postgres]),
        ("transaction", &[Protocol::Postgres]),
        ("sqlx", &[Protocol::Postgres]),
        ("database", &[Protocol::Postgres, Protocol::MySql]),
        ("server_reset_query", &[Protocol::Postgres]),
        ("COM_", &[Protocol::MySql]),
        ("SET @", &[Protocol::MySql]),
        (" USE", &[Protocol::MySql]),
        ("multiplex", &[Protocol::MySql]),
        ("memcached", &[Protocol::Memcached]),
        ("ACL ", &[Protocol::Redis]),
        ("AUTH", &[Protocol::Redis]),
        ("virtual host", &[Protocol::Amqp]),
        ("subjects", &[Protocol::Nats]),
        ("topics", &[Protocol::Kafka, Protocol::Mqtt]),
        ("client id", &[Protocol::Mqtt]),
    ];
    /// Rules that speak of one protocol alone, whatever else they are asked about; `role` of a workload is another one.
    const OF_ONE: [&str; 2] = ["local-set-ineffective", "tenant-label-missing"];

    #[test]
    fn no_remedy_speaks_of_another_protocol() {
        for rule in RULES.iter().filter(|r| !OF_ONE.contains(&r.id)) {
            for protocol in ALL {
                let text = remedy(rule, Some(protocol));
                for (word, at_home) in WORDS {
                    let foreign = text.contains(word) && !at_home.contains(&protocol);
                    assert!(!foreign, "{} at {}: `{word}` in {text}", rule.id, protocol.name());
                }
            }
            assert_eq!(remedy(rule, None), rule.remediation, "{}", rule.id);
        }
    }

    #[test]
    fn databases_and_caches_are_told_their_own_means() {
        for rule in RULES.iter().filter(|r| matches!(r.id, "pool-stale-binding" | "pool-reuse-unrevalidated")) {
            assert!(remedy(rule, Some(Protocol::Postgres)).contains("set_config"));
            assert!(remedy(rule, Some(Protocol::MySql)).contains("SET @tenant_id"));
            assert!(remedy(rule, Some(Protocol::Redis)).contains("AUTH"));
            assert!(remedy(rule, Some(Protocol::Http)).contains("credential"));
            assert!(remedy(rule, Some(Protocol::Memcached)).contains("key"));
        }
        let of = |id: &str, protocol| remedy(RULES.iter().find(|r| r.id == id).unwrap(), Some(protocol));
        assert!(of("session-set-under-pooler", Protocol::Postgres).contains("SET LOCAL"));
        assert!(of("session-set-under-pooler", Protocol::MySql).contains("SET @tenant_id"));
        assert!(of("cache-key-unscoped", Protocol::Redis).contains("ACL "));
        assert!(of("cache-key-unscoped", Protocol::Memcached).contains("memcached"));
    }
}
