//! Plugins of services, routes, and of everything.

use serde_json::Value as Json;

use super::super::output::Out;
use super::{Import, Kong, Plugin, Reference};

/// What a plugin is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scope {
    Everything,
    Service(String),
    Route(String),
}

impl Import {
    pub(super) fn plugins(&mut self, kong: &Kong) {
        for plugin in kong
            .plugins
            .iter()
            .filter(|plugin| plugin.consumer.is_none())
        {
            let scope = match (&plugin.route, &plugin.service) {
                (Some(route), _) => Scope::Route(route.name().to_owned()),
                (None, Some(service)) => Scope::Service(service.name().to_owned()),
                (None, None) => Scope::Everything,
            };
            self.plugin(plugin, &scope);
        }
        for service in &kong.services {
            for plugin in &service.plugins {
                self.plugin(plugin, &Scope::Service(service.name.clone()));
            }
            for route in &service.routes {
                for plugin in &route.plugins {
                    self.plugin(plugin, &Scope::Route(route.name.clone()));
                }
            }
        }
        for route in &kong.routes {
            for plugin in &route.plugins {
                self.plugin(plugin, &Scope::Route(route.name.clone()));
            }
        }
    }

    fn plugin(&mut self, plugin: &Plugin, scope: &Scope) {
        if !plugin.enabled {
            return;
        }
        let config = &plugin.config;
        match plugin.name.as_str() {
            "key-auth" => self.key_auth(config, scope),
            "jwt" => {
                self.require("jwt", scope);
                self.anonymous(config, "jwt");
                self.imported.differ(
                    "jwt: tokens are taken from the header authorization alone; for others see \
                     jwt_authz.token",
                );
            }
            "acl" => self.acl(config, scope),
            "rate-limiting" => self.rate_limiting(config, scope),
            "correlation-id" => self.correlation_id(config),
            "request-termination" => self.request_termination(config, scope),
            other => self.imported.lose(elsewhere(other)),
        }
    }

    /// The APIs that a plugin is for.
    fn affected(&mut self, scope: &Scope) -> Vec<usize> {
        let apis = self.apis.iter().enumerate();
        let of = apis.filter(|(_, api)| match scope {
            Scope::Everything => true,
            Scope::Service(service) => api.service == *service,
            Scope::Route(route) => api.route == *route,
        });
        of.map(|(index, _)| index).collect()
    }

    fn names_of(&mut self, scope: &Scope) -> Vec<String> {
        let affected = self.affected(scope);
        let names = affected.iter().filter_map(|index| self.apis.get(*index));
        names.map(|api| api.name.clone()).collect()
    }

    fn require(&mut self, credential: &'static str, scope: &Scope) {
        for index in self.affected(scope) {
            if let Some(api) = self.apis.get_mut(index)
                && !api.requires.contains(&credential)
            {
                api.requires.push(credential);
            }
        }
    }

    fn key_auth(&mut self, config: &Json, scope: &Scope) {
        self.require("api_key", scope);
        self.anonymous(config, "key-auth");
        let names = config["key_names"].as_array();
        let names: Vec<&str> = names
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect();
        let name = names.first().copied().unwrap_or("apikey");
        if names.len() > 1 {
            let others = names.get(1..).unwrap_or_default().join(", ");
            self.imported
                .lose(format!("key-auth: the further key_names {others}"));
        }
        let on = |field: &str| config[field].as_bool().unwrap_or(true);
        let header = on("key_in_header").then(|| Out::text(name));
        let query = on("key_in_query").then(|| Out::text(name));
        if config["key_in_body"].as_bool() == Some(true) {
            self.imported
                .lose("key-auth: key_in_body, as bodies are not read");
        }
        let hides = config["hide_credentials"].as_bool().unwrap_or(false);
        let realm = config["realm"].as_str().map(Out::text);
        let key = Out::map([] as [(&str, Out); 0])
            .with("header", header)
            .with("query", query)
            .with("strip", (!hides).then_some(Out::Truth(false)))
            .with("realm", realm);
        match &self.key {
            Some(other) if *other != key => self.imported.lose(
                "key-auth: the places of keys differ from route to route; here they are the same \
                 everywhere, those of the first",
            ),
            _ => self.key = Some(key),
        }
    }

    fn anonymous(&mut self, config: &Json, plugin: &str) {
        if config["anonymous"]
            .as_str()
            .is_some_and(|consumer| !consumer.is_empty())
        {
            self.imported.lose(format!(
                "{plugin}: the consumer for anonymous callers; see usage_plan.anonymous, and \
                 require: {{ any_of: [api_key, anonymous] }} in access"
            ));
        }
    }

    fn acl(&mut self, config: &Json, scope: &Scope) {
        let groups = |field: &str| -> Option<Vec<String>> {
            let groups = config[field].as_array()?.iter();
            Some(groups.filter_map(Json::as_str).map(str::to_owned).collect())
        };
        for index in self.affected(scope) {
            if let Some(api) = self.apis.get_mut(index) {
                api.allow = groups("allow");
                api.deny = groups("deny").unwrap_or_default();
            }
        }
        self.imported.differ(
            "acl: groups become the lists of APIs that plans include; a refusal is 403 \
             api-not-in-plan",
        );
    }

    fn rate_limiting(&mut self, config: &Json, scope: &Scope) {
        self.limiting_differs(config);
        let windows = windows(config);
        let by = config["limit_by"].as_str().unwrap_or("consumer");
        if matches!(by, "consumer" | "credential") && *scope == Scope::Everything {
            self.windows = windows;
            return;
        }
        let key = match by {
            "consumer" | "credential" => Out::text("consumer"),
            "ip" => Out::text("client_address"),
            "service" => Out::text("global"),
            "header" => match config["header_name"].as_str() {
                Some(name) => Out::map([("header", Out::text(name))]),
                None => {
                    return self
                        .imported
                        .lose("rate-limiting by a header without header_name");
                }
            },
            other => return self.imported.lose(format!("rate-limiting by {other}")),
        };
        let apis = match scope {
            Scope::Everything => Vec::new(),
            scope => self.names_of(scope),
        };
        for (window, limit) in windows {
            let unit = match window {
                "second" => "s",
                "minute" => "m",
                "hour" => "h",
                "day" => "d",
                _ => {
                    self.imported.lose(format!(
                        "rate-limiting by {by}: {limit} a {window}; only plans have quotas so long"
                    ));
                    continue;
                }
            };
            let label = match scope {
                Scope::Everything => by.to_owned(),
                Scope::Service(name) | Scope::Route(name) => name.clone(),
            };
            let name = self.names.of(&format!("{label}-{window}"));
            let limit = Out::map([
                ("name", Out::text(name)),
                ("key", key.clone()),
                ("rate", Out::text(format!("{limit}/{unit}"))),
            ]);
            self.limits
                .push(limit.with("apis", Out::texts(apis.clone())));
        }
    }

    pub(super) fn limiting_differs(&mut self, config: &Json) {
        self.imported.differ(
            "rate-limiting: Kong counts in fixed windows, so twice the limit passes around the end \
             of one. For consumers, a second becomes a token bucket, and longer windows become \
             quotas by the calendar; for others all become token buckets, full at first",
        );
        self.imported.differ(
            "rate-limiting: in Kong the most specific plugin alone applies; here all limits that \
             are about a request do",
        );
        if matches!(config["policy"].as_str(), Some("redis" | "cluster")) {
            self.imported.differ(
                "rate-limiting: counters in Redis or in Kong's database; here each Envoy counts for \
                 itself, unless usage_plan.store keeps the quotas",
            );
        }
        if let Some(code) = config["error_code"].as_u64().filter(|code| *code != 429) {
            self.imported.lose(format!(
                "rate-limiting: error_code {code}; see problem_details.overrides"
            ));
        }
    }

    fn correlation_id(&mut self, config: &Json) {
        let header = config["header_name"].as_str().unwrap_or("Kong-Request-ID");
        let echo = config["echo_downstream"].as_bool().unwrap_or(false);
        let generator = config["generator"].as_str().unwrap_or("uuid#counter");
        if generator != "uuid" {
            self.imported
                .differ(format!("correlation-id: {generator} becomes a UUID"));
        }
        self.imported.differ(
            "correlation-id: Kong keeps whatever id a client sends; here only ids from the networks \
             in request_id.accept.from are kept",
        );
        let section = Out::map([
            ("header", Out::text(header)),
            ("format", Out::text("uuid4")),
        ]);
        let section = section.with("echo", (!echo).then_some(Out::Truth(false)));
        self.request_id.get_or_insert(section);
    }

    fn request_termination(&mut self, config: &Json, scope: &Scope) {
        let status = config["status_code"].as_u64().unwrap_or(503);
        let label = match scope {
            Scope::Everything => "everything".to_owned(),
            Scope::Service(name) => format!("service {name}"),
            Scope::Route(name) => format!("route {name}"),
        };
        if status != 410 {
            return self.imported.lose(format!(
                "request-termination of {label} with {status}: it is Envoy's direct_response"
            ));
        }
        self.imported.differ(format!(
            "request-termination of {label} with 410 becomes the end of an API version, with the \
             body of a problem; put its real date in place of 2000-01-01"
        ));
        for name in self.names_of(scope) {
            let end = Out::text("2000-01-01T00:00:00Z");
            self.sunset
                .push(Out::map([("api", Out::text(name)), ("sunset", end)]));
        }
    }
}

/// The windows of a `rate-limiting` plugin, from short to long.
pub(super) fn windows(config: &Json) -> Vec<(&'static str, u64)> {
    let names = ["second", "minute", "hour", "day", "month", "year"];
    let window = |name| {
        Some((
            name,
            config[name].as_f64().filter(|limit| *limit >= 1.0)? as u64,
        ))
    };
    names.into_iter().filter_map(window).collect()
}

/// Where in Envoy there is what a plugin does.
fn elsewhere(plugin: &str) -> String {
    let envoy = match plugin {
        "cors" => "Envoy's cors filter",
        "ip-restriction" => "Envoy's rbac filter",
        "request-size-limiting" => "Envoy's buffer filter",
        "prometheus" | "statsd" | "datadog" => "Envoy's stats",
        "http-log" | "file-log" | "tcp-log" | "udp-log" | "syslog" | "loggly" => {
            "Envoy's access logs"
        }
        "zipkin" | "opentelemetry" => "Envoy's tracing",
        "oauth2" | "ldap-auth" | "openid-connect" => "an issuer of tokens, and jwt_authz",
        "proxy-cache" => "Envoy's cache filter",
        "request-transformer" | "response-transformer" => "Envoy's header_mutation filter",
        "bot-detection" => "Envoy's rbac filter",
        _ => return format!("the plugin {plugin}"),
    };
    format!("the plugin {plugin}: see {envoy}")
}

/// The plugins of a consumer: its own, and those of the file that name it.
pub(super) fn of_consumer<'a>(
    kong: &'a Kong,
    consumer: &'a super::Consumer,
) -> impl Iterator<Item = &'a Plugin> {
    let named = kong.plugins.iter().filter(|plugin| {
        let name = plugin.consumer.as_ref().map(Reference::name);
        name.is_some_and(|name| name == consumer.label())
    });
    consumer.plugins.iter().chain(named)
}
