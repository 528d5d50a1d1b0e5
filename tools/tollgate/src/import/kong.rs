//! Declarative configurations of Kong Gateway 3 (`kong.yml`).

mod consumers;
mod plugins;
mod routes;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value as Json;

use super::Imported;
use super::output::Out;
use super::parts::Names;
use crate::input::Input;

#[derive(Deserialize)]
struct Kong {
    #[serde(default)]
    services: Vec<Service>,
    #[serde(default)]
    routes: Vec<Route>,
    #[serde(default)]
    consumers: Vec<Consumer>,
    #[serde(default)]
    plugins: Vec<Plugin>,
    #[serde(default)]
    acls: Vec<Credential>,
    #[serde(default)]
    keyauth_credentials: Vec<Credential>,
    #[serde(default)]
    jwt_secrets: Vec<Credential>,
    #[serde(flatten)]
    others: serde_json::Map<String, Json>,
}

#[derive(Clone, Deserialize)]
struct Service {
    #[serde(default)]
    name: String,
    #[serde(default)]
    routes: Vec<Route>,
    #[serde(default)]
    plugins: Vec<Plugin>,
}

#[derive(Clone, Deserialize)]
struct Route {
    #[serde(default)]
    name: String,
    service: Option<Reference>,
    paths: Option<Vec<String>>,
    hosts: Option<Vec<String>>,
    methods: Option<Vec<String>>,
    headers: Option<Json>,
    snis: Option<Json>,
    sources: Option<Json>,
    destinations: Option<Json>,
    #[serde(default)]
    plugins: Vec<Plugin>,
}

/// Another entity, by its name, or as `{ name: … }`.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Reference {
    Name(String),
    Object {
        name: Option<String>,
        username: Option<String>,
        id: Option<String>,
    },
}

impl Reference {
    fn name(&self) -> &str {
        match self {
            Reference::Name(name) => name,
            Reference::Object { name, username, id } => {
                let name = name.as_ref().or(username.as_ref()).or(id.as_ref());
                name.map_or("", String::as_str)
            }
        }
    }
}

#[derive(Clone, Deserialize)]
struct Plugin {
    name: String,
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(default)]
    config: Json,
    service: Option<Reference>,
    route: Option<Reference>,
    consumer: Option<Reference>,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Deserialize)]
struct Consumer {
    username: Option<String>,
    custom_id: Option<String>,
    #[serde(default)]
    keyauth_credentials: Vec<Credential>,
    #[serde(default)]
    jwt_secrets: Vec<Credential>,
    #[serde(default)]
    acls: Vec<Credential>,
    #[serde(default)]
    plugins: Vec<Plugin>,
}

impl Consumer {
    fn label(&self) -> &str {
        let label = self.username.as_ref().or(self.custom_id.as_ref());
        label.map_or("", String::as_str)
    }
}

/// A key, a secret of tokens, or a group.
#[derive(Clone, Deserialize)]
struct Credential {
    key: Option<String>,
    group: Option<String>,
    algorithm: Option<String>,
    rsa_public_key: Option<String>,
    consumer: Option<Reference>,
}

/// Imports a configuration.
pub(crate) fn import(input: &Input) -> anyhow::Result<Imported> {
    let kong: Kong = serde_saphyr::from_str(&input.text).with_context(|| {
        format!(
            "{}: expected a declarative configuration of Kong",
            input.name
        )
    })?;
    let mut import = Import::default();
    import.routes(&kong);
    import.plugins(&kong);
    import.consumers(&kong);
    import.others(&kong);
    Ok(import.finish())
}

#[derive(Default)]
struct Import {
    imported: Imported,
    names: Names,
    apis: Vec<Api>,
    request_id: Option<Out>,
    limits: Vec<Out>,
    /// The windows of the plugin that is for every consumer.
    windows: Vec<(&'static str, u64)>,
    key: Option<Out>,
    providers: Vec<Out>,
    plans: Vec<(String, Out)>,
    consumers: Vec<Out>,
    sunset: Vec<Out>,
}

/// A route, as the API that it becomes.
struct Api {
    name: String,
    service: String,
    route: String,
    document: Out,
    requires: Vec<&'static str>,
    allow: Option<Vec<String>>,
    deny: Vec<String>,
}

impl Import {
    fn others(&mut self, kong: &Kong) {
        for name in kong.others.keys().filter(|name| !name.starts_with('_')) {
            self.imported.lose(match name.as_str() {
                "upstreams" | "targets" => format!("{name}: they are Envoy's clusters"),
                "certificates" | "ca_certificates" | "snis" => {
                    format!("{name}: TLS is Envoy's transport_socket")
                }
                _ => name.clone(),
            });
        }
        self.imported.differ(
            "routing is Envoy's: services, upstreams, strip_path and preserve_host become its \
             clusters and routes",
        );
    }

    fn finish(mut self) -> Imported {
        let has_token = !self.providers.is_empty();
        let access = self.access(has_token);
        let apis = self.apis.iter().map(|api| api.document.clone()).collect();
        let usage_plan = Out::map([] as [(&str, Out); 0])
            .with("key", self.key.take())
            .with("plans", Out::map(std::mem::take(&mut self.plans)))
            .with("consumers", Out::List(std::mem::take(&mut self.consumers)));
        let usage_plan = match (usage_plan, has_token) {
            // Nothing has to be said of callers with a token, but that they are on their plans.
            (Out::Map(mut fields), true) => {
                fields.push(("token".to_owned(), Out::Map(Vec::new())));
                Out::Map(fields)
            }
            (usage_plan, _) => usage_plan,
        };
        let providers = Out::List(std::mem::take(&mut self.providers));
        let jwt_authz = Out::map([] as [(&str, Out); 0]).with("providers", providers);
        let imported = &mut self.imported;
        imported.section("apis", Out::List(apis));
        imported.section(
            "request_id",
            self.request_id.unwrap_or(Out::Map(Vec::new())),
        );
        imported.section("rate_limit", Out::List(self.limits));
        imported.section("jwt_authz", jwt_authz);
        imported.section("usage_plan", usage_plan);
        imported.section("access", access);
        imported.section("sunset", Out::List(self.sunset));
        self.imported
    }

    /// A rule for each set of credentials that routes need.
    fn access(&mut self, has_token: bool) -> Out {
        let has_keys = self.consumers.iter().any(|consumer| match consumer {
            Out::Map(fields) => fields.iter().any(|(name, _)| name == "keys"),
            _ => false,
        });
        if !has_token && !has_keys {
            return Out::List(Vec::new());
        }
        let mut groups: Vec<(Vec<&'static str>, Vec<String>)> = Vec::new();
        for api in &self.apis {
            let available = |credential: &&&str| match **credential {
                "jwt" => has_token,
                _ => has_keys,
            };
            let requires: Vec<&'static str> =
                api.requires.iter().filter(available).copied().collect();
            match groups.iter_mut().find(|(known, _)| *known == requires) {
                Some((_, apis)) => apis.push(api.name.clone()),
                None => groups.push((requires, vec![api.name.clone()])),
            }
        }
        let rule = |(requires, apis): (Vec<&'static str>, Vec<String>)| {
            let requirement = match requires.as_slice() {
                [] => Out::text("anonymous"),
                [only] => Out::text(*only),
                all => Out::map([("all_of", Out::texts(all.iter().copied()))]),
            };
            Out::map([("apis", Out::texts(apis)), ("require", requirement)])
        };
        self.imported.differ(
            "routes without key-auth and jwt become APIs that need no credential. What is for no \
             route is 404 in Kong; here it needs every credential that the document checks",
        );
        Out::List(groups.into_iter().map(rule).collect())
    }
}
