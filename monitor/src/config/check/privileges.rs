//! Checks of `user`, `group` and `sandbox`.

use super::Check;
use crate::config::file::{PrincipalName, SandboxName};
use crate::config::located::Located;
use crate::privileges::{Principal, PrivilegesConfig, Sandbox};

impl Check<'_> {
    pub(super) fn privileges(
        &mut self,
        user: Option<&Located<PrincipalName>>,
        group: Option<&Located<PrincipalName>>,
        sandbox: Option<SandboxName>,
    ) {
        let [user, group] =
            [("user", user), ("group", group)].map(|(path, name)| name.and_then(|name| self.principal(path, name)));
        let sandbox = match sandbox {
            None | Some(SandboxName::On) => Sandbox::On,
            Some(SandboxName::Log) => Sandbox::Log,
            Some(SandboxName::Off) => Sandbox::Off,
        };
        self.config.privileges = PrivilegesConfig { user, group, sandbox, tls: false };
    }

    /// Whether there is one of this name is said by the host that the agent runs on.
    fn principal(&mut self, path: &str, name: &Located<PrincipalName>) -> Option<Principal> {
        match &name.value {
            PrincipalName::Id(id) => Some(Principal::Id(*id)),
            PrincipalName::Name(text) if text.is_empty() || text.contains([':', '\n', '/']) => {
                self.problem(name.at, path, "expected a name or a number");
                None
            }
            PrincipalName::Name(text) => Some(Principal::Name(text.clone())),
        }
    }
}
