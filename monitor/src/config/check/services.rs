//! Checks of `services`.

use monitor_core::model::settings::ServiceSpec;
use monitor_core::model::{BindPolicy, Protocol, Strength};

use super::super::file::{self, ProtocolName, StrengthName};
use super::super::located::Located;
use super::Check;

impl Check<'_> {
    pub(super) fn services(&mut self, services: Vec<file::Service>) {
        for (i, service) in services.into_iter().enumerate() {
            let path = format!("services[{i}]");
            self.name(&service.name, format!("{path}.name"));
            let matches = &service.matches.value;
            let net = matches.ip.as_ref().and_then(|ip| self.network(ip, &format!("{path}.match.ip")));
            if self.whole && matches.port.is_none() && matches.ip.is_none() {
                self.problem(service.matches.at, format!("{path}.match"), "expected `port`, `ip` or both");
            }
            if let Some(port) = matches.port.as_ref().filter(|p| p.value == 0) {
                self.problem(port.at, format!("{path}.match.port"), "expected a port from 1 to 65535, found 0");
            }
            let (minimum, policy) = match service.revalidation {
                Some(r) => self.revalidation(r, &format!("{path}.revalidation")),
                None => (None, BindPolicy::default()),
            };
            let proxies = service.proxy_protocol.map(|p| p.from).unwrap_or_default();
            let proxies = proxies
                .iter()
                .enumerate()
                .filter_map(|(j, net)| self.network(net, &format!("{path}.proxy_protocol.from[{j}]")));
            let proxies = proxies.collect();
            self.config.settings.services.push(ServiceSpec {
                name: service.name.value,
                port: matches.port.as_ref().map(|p| p.value),
                net,
                protocol: service.protocol.map(|p| match p {
                    ProtocolName::Postgres => Protocol::Postgres,
                    ProtocolName::Redis => Protocol::Redis,
                    ProtocolName::Http => Protocol::Http,
                    ProtocolName::Http2 => Protocol::Http2,
                    ProtocolName::Grpc => Protocol::Grpc,
                    ProtocolName::Mcp => Protocol::Mcp,
                    ProtocolName::Amqp => Protocol::Amqp,
                    ProtocolName::Nats => Protocol::Nats,
                    ProtocolName::Kafka => Protocol::Kafka,
                    ProtocolName::Mqtt => Protocol::Mqtt,
                    ProtocolName::Mysql => Protocol::MySql,
                    ProtocolName::Memcached => Protocol::Memcached,
                }),
                minimum,
                policy,
                proxies,
            });
        }
    }

    fn revalidation(&mut self, r: file::Revalidation, path: &str) -> (Option<Strength>, BindPolicy) {
        for (key, patterns) in [("roles", &r.roles), ("users", &r.users)] {
            for (i, pattern) in patterns.iter().flatten().enumerate() {
                if pattern.matches("{tenant}").count() != 1 {
                    let path = format!("{path}.{key}[{i}]");
                    self.problem(
                        pattern.at,
                        path,
                        "expected a pattern with `{tenant}` once, such as `tenant_{tenant}`",
                    );
                }
            }
        }
        for (i, guc) in r.gucs.iter().flatten().enumerate() {
            if guc.trim().is_empty() {
                self.problem(guc.at, format!("{path}.gucs[{i}]"), "expected the name of a setting, found empty text");
            }
        }
        let plain =
            |list: Option<Vec<Located<String>>>| list.map(|l| l.into_iter().map(|s| s.value).collect::<Vec<_>>());
        let minimum = r.minimum.map(|m| match m {
            StrengthName::V1 => Strength::V1,
            StrengthName::V2 => Strength::V2,
            StrengthName::V3 => Strength::V3,
        });
        let gucs = plain(r.gucs).map(|l| l.into_iter().map(|g| g.to_lowercase()).collect());
        (minimum, BindPolicy { gucs, roles: plain(r.roles), users: plain(r.users) })
    }
}
