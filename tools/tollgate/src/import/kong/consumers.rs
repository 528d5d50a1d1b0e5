//! Consumers, their credentials, and the plans that they need.

use std::collections::BTreeSet;

use super::super::output::Out;
use super::plugins::{of_consumer, windows};
use super::{Consumer, Credential, Import, Kong, Reference};
use crate::key;

impl Import {
    pub(super) fn consumers(&mut self, kong: &Kong) {
        for consumer in &kong.consumers {
            self.consumer(kong, consumer);
        }
    }

    fn consumer(&mut self, kong: &Kong, consumer: &Consumer) {
        let label = consumer.label();
        let own = |list: &[Credential], shared: &[Credential]| -> Vec<Credential> {
            let shared = shared.iter().filter(|credential| {
                let name = credential.consumer.as_ref().map(Reference::name);
                name.is_some_and(|name| name == label)
            });
            list.iter().chain(shared).cloned().collect()
        };
        let keys = own(&consumer.keyauth_credentials, &kong.keyauth_credentials);
        let secrets = own(&consumer.jwt_secrets, &kong.jwt_secrets);
        let groups = own(&consumer.acls, &kong.acls);
        let groups: BTreeSet<String> = groups
            .into_iter()
            .filter_map(|credential| credential.group)
            .collect();
        let keys: Vec<Out> = keys.iter().filter_map(|key| self.key(key, label)).collect();
        let clients: Vec<Out> = secrets
            .iter()
            .filter_map(|secret| self.provider(secret, label))
            .collect();
        if keys.is_empty() && clients.is_empty() {
            self.imported.lose(format!(
                "consumer {label}: it has no credential that can be taken"
            ));
            return;
        }
        let id = self.names.of(label);
        let plan = self.plan(kong, consumer, &groups);
        self.consumers.push(
            Out::map([("id", Out::text(id)), ("plan", Out::text(plan))])
                .with("keys", Out::List(keys))
                .with("clients", Out::List(clients)),
        );
    }

    /// A key, as its digest.
    fn key(&mut self, credential: &Credential, label: &str) -> Option<Out> {
        match credential.key.as_deref() {
            Some(found) if !found.is_empty() && !found.starts_with("{vault:") => {
                Some(Out::map([("sha256", Out::text(key::sha256(found)))]))
            }
            _ => {
                self.imported.lose(format!(
                    "consumer {label}: a key that is not in the file; add its digest by hand"
                ));
                None
            }
        }
    }

    /// A secret of tokens: an issuer of its own, whose tokens are this consumer's.
    fn provider(&mut self, secret: &Credential, label: &str) -> Option<Out> {
        let algorithm = secret.algorithm.as_deref().unwrap_or("HS256");
        let (Some(issuer), Some(pem)) = (&secret.key, &secret.rsa_public_key) else {
            self.imported.lose(format!(
                "consumer {label}: tokens signed by {algorithm} with a shared secret; let them be \
                 signed with a key pair"
            ));
            return None;
        };
        if !["RS256", "RS384", "RS512", "ES256", "ES384"].contains(&algorithm) {
            self.imported
                .lose(format!("consumer {label}: tokens signed by {algorithm}"));
            return None;
        }
        let name = self.names.of(&format!("{label}-jwt"));
        self.providers.push(Out::map([
            ("name", Out::text(&name)),
            ("issuer", Out::text(issuer)),
            ("any_audience", Out::Truth(true)),
            ("algorithms", Out::texts([algorithm])),
            ("client_claim", Out::text("iss")),
            ("jwks", Out::map([("pem", Out::text(pem))])),
        ]));
        self.imported.differ(
            "jwt: exp is required and checked; Kong checks it only where claims_to_verify names it. \
             Audiences are not checked, as in Kong: replace any_audience by audiences",
        );
        Some(Out::map([
            ("provider", Out::text(name)),
            ("id", Out::text(issuer)),
        ]))
    }

    /// The plan that a consumer needs; consumers that need the same share it.
    fn plan(&mut self, kong: &Kong, consumer: &Consumer, groups: &BTreeSet<String>) -> String {
        let mut own = None;
        for plugin in of_consumer(kong, consumer).filter(|plugin| plugin.enabled) {
            if plugin.name == "rate-limiting" && plugin.route.is_none() && plugin.service.is_none()
            {
                self.limiting_differs(&plugin.config);
                own = Some(windows(&plugin.config));
            } else {
                let label = consumer.label();
                self.imported
                    .lose(format!("consumer {label}: its plugin {}", plugin.name));
            }
        }
        let windows = own.unwrap_or_else(|| self.windows.clone());
        let allowed = self.allowed(groups);
        let document = plan_of(&windows, allowed);
        if let Some((name, _)) = self.plans.iter().find(|(_, known)| *known == document) {
            return name.clone();
        }
        let name = format!("plan-{}", self.plans.len() + 1);
        self.plans.push((name.clone(), document));
        name
    }

    /// The APIs that groups let a consumer use; all if none is closed to it.
    fn allowed(&self, groups: &BTreeSet<String>) -> Option<Vec<String>> {
        let is_open = |api: &&super::Api| {
            let is_allowed = match &api.allow {
                Some(allow) => allow.iter().any(|group| groups.contains(group)),
                None => true,
            };
            is_allowed && !api.deny.iter().any(|group| groups.contains(group))
        };
        let open: Vec<String> = self
            .apis
            .iter()
            .filter(is_open)
            .map(|api| api.name.clone())
            .collect();
        (open.len() < self.apis.len()).then_some(open)
    }
}

fn plan_of(windows: &[(&'static str, u64)], apis: Option<Vec<String>>) -> Out {
    let throttle = windows.iter().find(|(window, _)| *window == "second");
    let throttle = throttle.map(|(_, limit)| Out::text(format!("{limit}/s")));
    let quotas = windows.iter().filter(|(window, _)| *window != "second");
    let quotas = quotas.map(|(window, limit)| {
        Out::map([
            ("limit", Out::Number(*limit)),
            ("period", Out::text(*window)),
        ])
    });
    let plan = Out::map([] as [(&str, Out); 0])
        .with("throttle", throttle)
        .with("quota", Out::List(quotas.collect()));
    match (plan, apis) {
        // An empty list says that no API is included.
        (Out::Map(mut fields), Some(apis)) => {
            fields.push(("apis".to_owned(), Out::texts(apis)));
            Out::Map(fields)
        }
        (plan, _) => plan,
    }
}
