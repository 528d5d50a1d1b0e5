//! Routes, as APIs.

use super::super::parts::{api, is_literal, under};
use super::{Api, Import, Kong, Reference, Route};

impl Import {
    pub(super) fn routes(&mut self, kong: &Kong) {
        for service in &kong.services {
            for route in &service.routes {
                self.route(route, &service.name);
            }
        }
        for route in &kong.routes {
            let service = route
                .service
                .as_ref()
                .map_or("", Reference::name)
                .to_owned();
            self.route(route, &service);
        }
    }

    fn route(&mut self, route: &Route, service: &str) {
        let label = match (route.name.as_str(), service) {
            ("", "") => "route",
            ("", service) => service,
            (name, _) => name,
        };
        for (field, value) in [
            ("headers", &route.headers),
            ("snis", &route.snis),
            ("sources", &route.sources),
            ("destinations", &route.destinations),
        ] {
            if value.as_ref().is_some_and(|value| !value.is_null()) {
                self.imported.lose(format!("route {label}: {field}"));
            }
        }
        let hosts = self.hosts(route, label);
        let written = route.paths.clone().unwrap_or_default();
        let paths: Vec<String> = written
            .iter()
            .filter_map(|path| self.path(path, label))
            .collect();
        if !written.is_empty() && paths.is_empty() {
            self.imported.lose(format!(
                "route {label}: none of its paths can be written here"
            ));
            return;
        }
        let name = self.names.of(label);
        let methods = route.methods.clone().unwrap_or_default();
        self.apis.push(Api {
            document: api(&name, &hosts, &paths, &methods),
            name,
            service: service.to_owned(),
            route: route.name.clone(),
            requires: Vec::new(),
            allow: None,
            deny: Vec::new(),
        });
    }

    fn hosts(&mut self, route: &Route, label: &str) -> Vec<String> {
        let hosts = route.hosts.iter().flatten();
        let (good, bad): (Vec<&String>, Vec<&String>) =
            hosts.partition(|host| !host.ends_with(".*"));
        for host in bad {
            self.imported.lose(format!(
                "route {label}: the host {host}, write its hosts out"
            ));
        }
        good.into_iter().cloned().collect()
    }

    fn path(&mut self, path: &str, label: &str) -> Option<String> {
        if path.starts_with('~') || !is_literal(path) {
            self.imported.lose(format!(
                "route {label}: the path {path}, as templates have no regular expressions"
            ));
            return None;
        }
        if path != "/" && !path.ends_with('/') {
            self.imported.differ(
                "a path of Kong is a prefix of characters: /api takes /apiary too. Here it takes \
                 whole segments: /api and what is below it",
            );
        }
        Some(under(path))
    }
}
