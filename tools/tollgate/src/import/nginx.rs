//! `limit_req` and `limit_conn` of NGINX, for servers and locations.

use std::collections::BTreeMap;

use anyhow::Context as _;

use super::Imported;
use super::nginx_syntax::{Directive, parse};
use super::output::Out;
use super::parts::{Names, api, is_literal, under};
use crate::input::Input;

/// Imports a configuration.
pub(crate) fn import(input: &Input) -> anyhow::Result<Imported> {
    let parsed = parse(&input.text).with_context(|| input.name.clone())?;
    // A file that is included has no http block of its own.
    let http: Vec<Directive> = match parsed.iter().find(|directive| directive.name == "http") {
        Some(http) => http.block.clone(),
        None => parsed,
    };
    let mut import = Import::default();
    import.zones(&http);
    let inherited = import.limits_of(&http, &Limits::default());
    for server in http.iter().filter(|directive| directive.name == "server") {
        import.server(server, &inherited);
    }
    Ok(import.finish())
}

#[derive(Default)]
struct Import {
    imported: Imported,
    zones: BTreeMap<String, Zone>,
    names: Names,
    apis: Vec<Out>,
    /// The hosts and the path of each API.
    places: Vec<(Vec<String>, String)>,
    /// The uses of zones, each with the APIs that it is for.
    uses: Vec<(Use, Vec<String>)>,
}

/// A zone of `limit_req_zone` or `limit_conn_zone`.
#[derive(Clone)]
struct Zone {
    key: Out,
    /// None for connections.
    rate: Option<String>,
    clients: Option<u64>,
}

/// A `limit_req` or `limit_conn`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Use {
    zone: String,
    burst: u64,
    concurrent: Option<u64>,
    shadow: bool,
}

/// What applies in a block.
#[derive(Clone, Default)]
struct Limits {
    requests: Vec<Use>,
    connections: Vec<Use>,
}

impl Import {
    fn zones(&mut self, http: &[Directive]) {
        for directive in http {
            let is_rate = match directive.name.as_str() {
                "limit_req_zone" => true,
                "limit_conn_zone" => false,
                _ => continue,
            };
            let [key, parameters @ ..] = directive.words.as_slice() else {
                continue;
            };
            let Some((name, size)) = parameter(parameters, "zone=").map(zone_of) else {
                continue;
            };
            let Some(key) = key_of(key) else {
                self.imported.lose(format!(
                    "the zone {name} (line {}): its key {key} is no address, header, cookie or \
                     query parameter",
                    directive.line
                ));
                continue;
            };
            let zone = Zone {
                key,
                rate: is_rate.then(|| parameter(parameters, "rate=").unwrap_or("1r/s").to_owned()),
                clients: size.and_then(clients_of),
            };
            self.zones.insert(name.to_owned(), zone);
        }
    }

    /// The limits of a block; those around it, if it has none of its own.
    fn limits_of(&mut self, block: &[Directive], around: &Limits) -> Limits {
        let dry = |name: &str| {
            block.iter().any(|directive| {
                directive.name == name && directive.words.first().is_some_and(|word| word == "on")
            })
        };
        let mut own = Limits::default();
        for directive in block {
            let words = directive.words.as_slice();
            match directive.name.as_str() {
                "limit_req" => {
                    let Some(zone) = parameter(words, "zone=") else {
                        continue;
                    };
                    let nodelay = words.iter().any(|word| word == "nodelay");
                    let burst = parameter(words, "burst=").and_then(|burst| burst.parse().ok());
                    if let Some(delay) = parameter(words, "delay=") {
                        self.imported.differ(format!(
                            "limit_req zone={zone} delay={delay}: nothing is delayed here; all of \
                             the burst is served at once"
                        ));
                    } else if burst.is_some() && !nodelay {
                        self.imported.differ(format!(
                            "limit_req zone={zone} without nodelay: NGINX delays what is within \
                             the burst; here it is served at once, as with nodelay"
                        ));
                    }
                    own.requests.push(Use {
                        zone: zone.to_owned(),
                        burst: burst.unwrap_or_default(),
                        concurrent: None,
                        shadow: dry("limit_req_dry_run"),
                    });
                }
                "limit_conn" => {
                    let [zone, number, ..] = words else { continue };
                    own.connections.push(Use {
                        zone: zone.clone(),
                        burst: 0,
                        concurrent: number.parse().ok(),
                        shadow: dry("limit_conn_dry_run"),
                    });
                }
                "limit_req_status" | "limit_conn_status" => {
                    let status = words.first().map_or("", String::as_str);
                    if status != "429" {
                        self.imported.differ(format!(
                            "{} {status}: refusals have the status 429; for another set \
                             problem_details.overrides.rate-limited.status, or \
                             concurrency-limited",
                            directive.name
                        ));
                    }
                }
                "limit_rate" | "limit_rate_after" => self.imported.lose(format!(
                    "{} (line {}): the speed of responses is Envoy's bandwidth_limit filter",
                    directive.name, directive.line
                )),
                "include" => self.imported.lose(format!(
                    "include {} (line {}): the file was not read; give what `nginx -T` prints",
                    words.join(" "),
                    directive.line
                )),
                _ => {}
            }
        }
        Limits {
            requests: or(own.requests, &around.requests),
            connections: or(own.connections, &around.connections),
        }
    }

    fn server(&mut self, server: &Directive, around: &Limits) {
        let mut hosts = Vec::new();
        let mut lost = false;
        let names = server
            .block
            .iter()
            .filter(|directive| directive.name == "server_name");
        for name in names.flat_map(|directive| &directive.words) {
            match name.as_str() {
                "_" | "" => {}
                regex if regex.starts_with('~') || regex.ends_with(".*") => {
                    self.imported
                        .lose(format!("server_name {regex}: write its hosts out"));
                    lost = true;
                }
                // It stands for the domain and all below it.
                both if both.starts_with('.') => {
                    hosts.push(both.trim_start_matches('.').to_owned());
                    hosts.push(format!("*{both}"));
                }
                host => hosts.push(host.to_owned()),
            }
        }
        if hosts.is_empty() && lost {
            return;
        }
        let limits = self.limits_of(&server.block, around);
        let label = hosts
            .first()
            .cloned()
            .unwrap_or_else(|| "server".to_owned());
        let mut whole = Some("/**".to_owned());
        self.locations(&server.block, &hosts, &label, &limits, &mut whole);
        if let Some(path) = whole {
            self.place(&label, &hosts, path, &limits);
        }
    }

    /// The locations of a block. `whole` is taken by a location for all paths.
    fn locations(
        &mut self,
        block: &[Directive],
        hosts: &[String],
        label: &str,
        around: &Limits,
        whole: &mut Option<String>,
    ) {
        for location in block
            .iter()
            .filter(|directive| directive.name == "location")
        {
            let limits = self.limits_of(&location.block, around);
            let path = match location.words.as_slice() {
                [exact, path] if exact == "=" && is_literal(path) => Some(path.clone()),
                [prefix, path] if prefix == "^~" && is_literal(path) => Some(under(path)),
                [path] if is_literal(path) => Some(under(path)),
                _ => None,
            };
            match path {
                Some(path) => {
                    if path == "/**" {
                        whole.take();
                    }
                    let name = format!("{label}{}", path.trim_end_matches("/**"));
                    self.place(&name, hosts, path, &limits);
                }
                None => {
                    let words = location.words.join(" ");
                    self.imported.lose(format!(
                        "location {words} (line {}): templates of paths have no regular \
                         expressions; its requests have the limits of the server",
                        location.line
                    ));
                }
            }
            self.locations(&location.block, hosts, label, &limits, whole);
        }
    }

    /// An API for a server or a location, if anything limits it or sets it apart.
    fn place(&mut self, label: &str, hosts: &[String], path: String, limits: &Limits) {
        let place = (hosts.to_vec(), path.clone());
        if self.places.contains(&place) {
            self.imported.lose(format!(
                "a second server or location for {label}: the limits of the first apply, whatever \
                 the port"
            ));
            return;
        }
        self.places.push(place);
        let name = self.names.of(label);
        if path.len() > 3 && !path.trim_end_matches("/**").ends_with('/') && path.ends_with("/**") {
            self.imported.differ(
                "a location is a prefix of characters: /api takes /apiary too. Here it takes whole \
                 segments: /api and what is below it",
            );
        }
        self.apis.push(api(&name, hosts, &[path], &[]));
        for found in limits.requests.iter().chain(&limits.connections) {
            match self.uses.iter_mut().find(|(known, _)| known == found) {
                Some((_, apis)) => apis.push(name.clone()),
                None => self.uses.push((found.clone(), vec![name.clone()])),
            }
        }
    }

    fn finish(mut self) -> Imported {
        let mut limits = Vec::new();
        let mut names = Names::default();
        let mut zones_used = BTreeMap::<String, u32>::new();
        for (found, apis) in std::mem::take(&mut self.uses) {
            let Some(zone) = self.zones.get(&found.zone).cloned() else {
                self.imported.lose(format!(
                    "limits of the zone {}, which is not known",
                    found.zone
                ));
                continue;
            };
            *zones_used.entry(found.zone.clone()).or_default() += 1;
            let rate = zone.rate.as_ref().map(|rate| match found.burst {
                0 => rate.clone(),
                burst => format!("{rate} burst={burst}"),
            });
            let count = rate.is_some().then(|| Out::text("all"));
            let shadow = found.shadow.then(|| Out::text("shadow"));
            limits.push(
                Out::map([
                    ("name", Out::text(names.of(&found.zone))),
                    ("key", zone.key),
                ])
                .with("rate", rate.map(Out::Text))
                .with("concurrent", found.concurrent.map(Out::Number))
                .with("apis", Out::texts(apis))
                .with("count", count)
                .with("max_clients", zone.clients.map(Out::Number))
                .with("mode", shadow),
            );
        }
        if zones_used.values().any(|uses| *uses > 1) {
            self.imported.differ(
                "a zone that is used with several bursts is one bucket in NGINX; here each is a \
                 limit of its own",
            );
        }
        if !limits.is_empty() {
            self.imported.differ(
                "NGINX counts before it knows who calls, so these limits count: all; with admitted, \
                 what anything else refuses is given back",
            );
            self.imported.section("apis", Out::List(self.apis));
            self.imported.section("rate_limit", Out::List(limits));
        }
        self.imported
    }
}

fn or(own: Vec<Use>, around: &[Use]) -> Vec<Use> {
    match own.is_empty() {
        true => around.to_vec(),
        false => own,
    }
}

fn parameter<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name))
}

fn zone_of(zone: &str) -> (&str, Option<&str>) {
    match zone.split_once(':') {
        Some((name, size)) => (name, Some(size)),
        None => (zone, None),
    }
}

/// A zone holds about 8000 states of 128 bytes a megabyte on 64-bit platforms, as its documentation
/// says.
fn clients_of(size: &str) -> Option<u64> {
    let lower = size.to_ascii_lowercase();
    let (digits, unit) = match lower.strip_suffix('m') {
        Some(digits) => (digits, 8000.0),
        None => (lower.strip_suffix('k')?, 8000.0 / 1024.0),
    };
    let states = digits.parse::<f64>().ok()? * unit;
    Some((states as u64).max(1))
}

/// What tells clients apart; several variables in one text are a list.
fn key_of(text: &str) -> Option<Out> {
    if text.is_empty() {
        return Some(Out::text("global"));
    }
    let mut parts = Vec::new();
    let variables = text.replace(['{', '}'], "");
    for variable in variables
        .split('$')
        .map(|part| part.trim_matches([':', '-', '|', '.', ' ']))
    {
        let named = |kind: &str, name: &str| Out::map([(kind, Out::text(name))]);
        parts.push(match variable {
            "" => continue,
            "binary_remote_addr" | "remote_addr" => Out::text("client_address"),
            "server_name" | "host" => Out::text("api"),
            "jwt_claim_sub" => named("claim", "sub"),
            other => match other.split_once('_') {
                Some(("http", name)) => named("header", &name.replace('_', "-")),
                Some(("cookie", name)) => named("cookie", name),
                Some(("arg", name)) => named("query", name),
                _ => return None,
            },
        });
    }
    match parts.len() {
        0 => None,
        1 => parts.pop(),
        _ => Some(Out::List(parts)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known() {
        let one = |kind: &str, name: &str| Some(Out::map([(kind, Out::text(name))]));
        assert_eq!(
            key_of("$binary_remote_addr"),
            Some(Out::text("client_address"))
        );
        assert_eq!(key_of("$http_x_api_key"), one("header", "x-api-key"));
        assert_eq!(key_of("${arg_user}"), one("query", "user"));
        assert_eq!(
            key_of("$binary_remote_addr$cookie_sid"),
            Some(Out::List(vec![
                Out::text("client_address"),
                one("cookie", "sid").unwrap()
            ]))
        );
        assert_eq!(key_of("$request_uri"), None);
    }

    #[test]
    fn zones_hold_so_many_clients() {
        assert_eq!(clients_of("10m"), Some(80_000));
        assert_eq!(clients_of("128k"), Some(1000));
        assert_eq!(clients_of("x"), None);
    }
}
