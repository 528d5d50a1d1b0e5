//! The table of APIs.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use matchit::InsertError;

use super::host::HostTable;
use super::routes::{Route, Routes};
use super::{ApiConfig, HostPattern, MatchConfig, Method, Template};
use crate::config::{ConfigErrors, OneOrMany, Rejected, expected_one_of, quote};
use crate::name::Name;
use crate::target::{AmbiguousPath, RequestTarget};

/// An API, by its position in the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiId(u16);

impl ApiId {
    /// The position.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The APIs of a document, found by name and by request.
#[derive(Clone, Debug, Default)]
pub struct ApiTable {
    apis: Vec<Api>,
    /// The ids of the APIs, sorted by name.
    by_name: BTreeMap<String, ApiId>,
    hosts: HostTable<Routes<ApiId>>,
    unreadable: bool,
}

#[derive(Clone, Debug)]
struct Api {
    name: String,
    /// The most specific first.
    templates: Vec<Template>,
}

impl ApiTable {
    /// Makes the table. All mistakes are recorded; with any, the table is good for nothing but to
    /// look names up, so that a reference to an API that has a mistake is not reported as well.
    pub fn compile(configs: Vec<ApiConfig>, errors: &mut ConfigErrors) -> ApiTable {
        let mut table = ApiTable::default();
        let mut claims = Claims::default();
        for (index, ApiConfig { name, matches }) in configs.into_iter().enumerate() {
            let Ok(id) = u16::try_from(index).map(ApiId) else {
                errors.add(
                    "apis",
                    format!("found more than {MOST_APIS} APIs, use fewer"),
                );
                break;
            };
            let path = format!("apis[{index}]");
            table.add_name(id, &path, &name, errors);
            if matches.0.is_empty() {
                let message = "the list is empty, so no request is for this API; add {} for all";
                errors.add(format!("{path}.match"), message);
            }
            table.apis.push(Api {
                name,
                templates: Vec::new(),
            });
            for (index, requests) in matches.0.into_iter().enumerate() {
                let path = format!("{path}.match[{index}]");
                let requests = Requests::parse(requests, &path, errors);
                claims.add(id, &requests, |claim, other| {
                    errors.add(path.as_str(), table.conflict(id, other, claim));
                });
                table.add_templates(requests.templates);
            }
        }
        match claims.compile() {
            Ok(hosts) => table.hosts = hosts,
            Err(error) => drop(errors.add("apis", format!("can't be routed: {error}"))),
        }
        table
    }

    /// The empty table of a document whose `apis` can't be read at all: no reference to an API is
    /// then reported as unknown.
    pub fn unreadable() -> ApiTable {
        ApiTable {
            unreadable: true,
            ..ApiTable::default()
        }
    }

    /// The API that the request is for, if any. The path is refused if its readings are for
    /// different ones, or for one and for none.
    ///
    /// `authority` is Envoy's `:authority`; a request without one is only for APIs of any host.
    pub fn find(
        &self,
        authority: Option<&[u8]>,
        method: &[u8],
        target: &RequestTarget<'_>,
    ) -> Result<Option<ApiId>, AmbiguousPath> {
        if self.is_empty() {
            return Ok(None);
        }
        target.agree(|path| {
            self.hosts
                .find(authority, |routes| routes.find(method, path))
        })
    }

    /// The API of a name that another section has at `path`. An unknown name is recorded.
    pub fn resolve(
        &self,
        name: &str,
        path: impl Into<String>,
        errors: &mut ConfigErrors,
    ) -> Result<ApiId, Rejected> {
        match self.id(name) {
            Some(id) => Ok(id),
            // That was recorded when it was found unreadable.
            None if self.unreadable => Err(errors.append(ConfigErrors::default())),
            None if self.is_empty() => {
                let name = quote(name);
                let message =
                    format!("unknown API {name}: there are none, add them under \"apis\"");
                Err(errors.add(path, message))
            }
            None => {
                let known: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
                let expected = expected_one_of(name, &known);
                Err(errors.add(path, format!("unknown API {}{expected}", quote(name))))
            }
        }
    }

    /// The API of a name.
    pub fn id(&self, name: &str) -> Option<ApiId> {
        self.by_name.get(name).copied()
    }

    /// The name of an API; empty if it is one of another table.
    pub fn name(&self, id: ApiId) -> &str {
        self.apis.get(id.index()).map_or("", |api| &api.name)
    }

    /// The templates of an API, of all its matches, the most specific first. The first that
    /// [captures](Template::captures) is the most specific that takes the path.
    pub fn templates(&self, id: ApiId) -> &[Template] {
        self.apis.get(id.index()).map_or(&[], |api| &api.templates)
    }

    /// The APIs and their names, in the order of the document.
    pub fn iter(&self) -> impl Iterator<Item = (ApiId, &str)> {
        (0..=u16::MAX)
            .map(ApiId)
            .zip(self.apis.iter().map(|api| api.name.as_str()))
    }

    /// The number of APIs.
    pub fn len(&self) -> usize {
        self.apis.len()
    }

    /// Whether there are no APIs.
    pub fn is_empty(&self) -> bool {
        self.apis.is_empty()
    }

    fn add_name(&mut self, id: ApiId, path: &str, name: &str, errors: &mut ConfigErrors) {
        let path = format!("{path}.name");
        if let Err(error) = name.parse::<Name>() {
            errors.add(path, error.to_string());
        } else if let Some(other) = self.id(name) {
            let other = other.index();
            let message = format!(
                "{} is the name of apis[{other}] too, use another",
                quote(name)
            );
            errors.add(path, message);
        }
        self.by_name.entry(name.to_owned()).or_insert(id);
    }

    /// Adds templates to the API that was added last.
    fn add_templates(&mut self, templates: Vec<Template>) {
        if let Some(api) = self.apis.last_mut() {
            api.templates.extend(templates);
            api.templates.sort_by(Template::cmp_specificity);
            api.templates.dedup();
        }
    }

    fn conflict(&self, id: ApiId, other: ApiId, claim: &Claim) -> String {
        format!(
            "\"{}\" takes {claim}, which \"{}\" (apis[{}]) takes already; give one of them another \
             host, path or method",
            self.name(id),
            self.name(other),
            other.index()
        )
    }
}

const MOST_APIS: usize = 1 << u16::BITS;

/// A parsed match.
struct Requests {
    hosts: Vec<HostPattern>,
    templates: Vec<Template>,
    /// None takes all methods.
    methods: Vec<Option<Method>>,
}

impl Requests {
    fn parse(config: MatchConfig, path: &str, errors: &mut ConfigErrors) -> Requests {
        let mut list = FieldParser { path, errors };
        Requests {
            hosts: list
                .parse("hosts", config.hosts)
                .unwrap_or_else(|| vec![HostPattern::ANY]),
            templates: list
                .parse("path", config.path)
                .unwrap_or_else(|| vec![Template::everything()]),
            methods: list.parse("methods", config.methods).map_or_else(
                || vec![None],
                |methods: Vec<Method>| methods.into_iter().map(Some).collect(),
            ),
        }
    }
}

/// Parses the fields of what is at `path`.
struct FieldParser<'p> {
    path: &'p str,
    errors: &'p mut ConfigErrors,
}

impl FieldParser<'_> {
    /// The values of a field that can be parsed; the others are recorded. Nothing if the field is
    /// absent.
    fn parse<T>(&mut self, field: &str, texts: Option<OneOrMany<String>>) -> Option<Vec<T>>
    where
        T: FromStr<Err: fmt::Display>,
    {
        let OneOrMany(texts) = texts?;
        let path = format!("{}.{field}", self.path);
        if texts.is_empty() {
            let message = format!("the list is empty, leave {field} out to take all");
            self.errors.add(path, message);
            return Some(Vec::new());
        }
        let alone = texts.len() == 1;
        let values = texts.iter().enumerate().filter_map(|(index, text)| {
            let error: T::Err = match text.parse() {
                Ok(value) => return Some(value),
                Err(error) => error,
            };
            let path = if alone {
                path.clone()
            } else {
                format!("{path}[{index}]")
            };
            self.errors.add(path, error.to_string());
            None
        });
        Some(values.collect())
    }
}

/// Which API takes which requests.
#[derive(Default)]
struct Claims(BTreeMap<Claim, (ApiId, Template)>);

/// Two claims are equal if they are for the same requests and none is more specific. They are
/// sorted by host.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    host: HostPattern,
    /// The template without names.
    shape: String,
    method: Option<Method>,
}

impl Claims {
    /// Adds the claims of an API. Calls `conflict` with the first one for each other API that has
    /// one for the same requests.
    fn add(&mut self, api: ApiId, requests: &Requests, mut conflict: impl FnMut(&Claim, ApiId)) {
        let mut others = BTreeSet::new();
        for (claim, template) in requests.claims() {
            match self.0.entry(claim) {
                Entry::Vacant(free) => drop(free.insert((api, template.clone()))),
                Entry::Occupied(taken) => {
                    let (other, _) = *taken.get();
                    if other != api && others.insert(other) {
                        conflict(taken.key(), other);
                    }
                }
            }
        }
    }

    fn compile(&self) -> Result<HostTable<Routes<ApiId>>, InsertError> {
        let mut by_host: BTreeMap<&HostPattern, Vec<Route<'_, ApiId>>> = BTreeMap::new();
        for (claim, (api, template)) in &self.0 {
            let route = Route {
                method: claim.method.as_ref(),
                template,
                value: *api,
            };
            by_host.entry(&claim.host).or_default().push(route);
        }
        let mut hosts = HostTable::default();
        for (host, routes) in by_host {
            hosts.insert(host.clone(), Routes::compile(routes)?);
        }
        Ok(hosts)
    }
}

impl Requests {
    fn claims(&self) -> impl Iterator<Item = (Claim, &Template)> {
        self.hosts.iter().flat_map(move |host| {
            self.templates.iter().flat_map(move |template| {
                self.methods.iter().map(move |method| {
                    let (host, method) = (host.clone(), method.clone());
                    (
                        Claim {
                            host,
                            shape: template.shape(),
                            method,
                        },
                        template,
                    )
                })
            })
        })
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(method) = &self.method {
            write!(f, "{method} ")?;
        }
        f.write_str(&self.shape)?;
        match self.host == HostPattern::ANY {
            true => Ok(()),
            false => write!(f, " on {}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Document;
    use crate::target::PathOptions;

    fn compile(apis: &str) -> (ApiTable, ConfigErrors) {
        let mut errors = ConfigErrors::default();
        let text = format!(r#"{{"apis": {apis}}}"#);
        let mut document = Document::parse(text.as_bytes()).unwrap();
        let configs = document.take::<Vec<ApiConfig>>("apis", &mut errors);
        let table = configs
            .map(|configs| ApiTable::compile(configs.unwrap_or_default(), &mut errors))
            .unwrap_or_else(|_| ApiTable::unreadable());
        (table, errors)
    }

    fn table(apis: &str) -> ApiTable {
        let (table, errors) = compile(apis);
        assert!(errors.is_empty(), "{errors}");
        table
    }

    fn find<'t>(
        table: &'t ApiTable,
        host: &str,
        method: &str,
        path: &str,
    ) -> Result<Option<&'t str>, AmbiguousPath> {
        let target = RequestTarget::parse(path.as_bytes(), &PathOptions::default())?;
        let api = table.find(Some(host.as_bytes()), method.as_bytes(), &target)?;
        Ok(api.map(|api| table.name(api)))
    }

    const BANK: &str = r#"[
        {"name": "rest", "match": {"hosts": "*.bank.example"}},
        {"name": "cards", "match": [{"path": ["/v1/cards/**", "/v2/cards/**"]}]},
        {"name": "accounts", "match": [
            {"hosts": ["api.bank.example"], "path": "/v1/accounts/**", "methods": ["GET", "POST"]}
        ]},
        {"name": "transfers", "match": [
            {"hosts": ["api.bank.example"], "path": "/v1/accounts/{id}/transfers", "methods": "POST"}
        ]}
    ]"#;

    #[test]
    fn a_request_is_for_the_api_that_fits_most_specifically() {
        let table = table(BANK);
        for (host, method, path, expected) in [
            ("api.bank.example", "GET", "/v1/accounts", Some("accounts")),
            (
                "API.bank.example:443",
                "GET",
                "/v1//accounts/7/",
                Some("accounts"),
            ),
            (
                "api.bank.example",
                "POST",
                "/v1/accounts/7/transfers",
                Some("transfers"),
            ),
            // Not its method: the less specific path has it.
            (
                "api.bank.example",
                "GET",
                "/v1/accounts/7/transfers",
                Some("accounts"),
            ),
            // Not the method of any: the less specific host has it.
            ("api.bank.example", "DELETE", "/v1/accounts/7", Some("rest")),
            ("api.bank.example", "GET", "/v1/cards/7", Some("rest")),
            ("bank.example", "GET", "/v1/cards/7", Some("cards")),
            ("bank.example", "GET", "/v2/cards", Some("cards")),
            ("bank.example", "GET", "/v3/cards", None),
            ("x.y.bank.example", "OPTIONS", "*", Some("rest")),
            ("", "CONNECT", "", None),
        ] {
            assert_eq!(
                find(&table, host, method, path),
                Ok(expected),
                "{method} {host}{path}"
            );
        }
        let target = RequestTarget::parse(b"/v1/cards/7", &PathOptions::default()).unwrap();
        assert_eq!(table.find(None, b"GET", &target), Ok(table.id("cards")));
    }

    #[test]
    fn a_path_that_may_be_one_api_or_another_is_refused() {
        let table = table(BANK);
        let different = Err(AmbiguousPath::DifferentRules);
        for (host, path, expected) in [
            ("api.bank.example", "/v1/accounts;x/7", different),
            (
                "api.bank.example",
                "/v1/accounts/7;x=1",
                Ok(Some("accounts")),
            ),
            ("api.bank.example", "/v9/accounts;x/7", Ok(Some("rest"))),
            ("bank.example", "/v1/cards;x/7", different),
            ("bank.example", "/v1;x/cards/7", different),
            ("bank.example", "/v9;x/cards/7", Ok(None)),
        ] {
            assert_eq!(find(&table, host, "GET", path), expected, "{host}{path}");
        }
        assert_eq!(
            find(&ApiTable::default(), "a", "GET", "/v1;x/cards"),
            Ok(None)
        );
    }

    #[test]
    fn every_mistake_is_recorded_with_its_path() {
        let (table, errors) = compile(
            r#"[
                {"name": "", "match": [{"path": "/a"}]},
                {"name": "a", "match": []},
                {"name": "a", "match": [
                    {"path": "b", "hosts": ["x:1", "ok.example", "*.*"], "methods": ["get"]},
                    {"path": ["/c", "/*.d"], "methods": []}
                ]}
            ]"#,
        );
        let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let expected = [
            "apis[0].name: found \"\", expected a name",
            "apis[1].match: the list is empty, so no request is for this API",
            "apis[2].name: \"a\" is the name of apis[1] too, use another",
            "apis[2].match[0].hosts[0]: the host \"x:1\" has a port",
            "apis[2].match[0].hosts[2]: the host \"*.*\" has a *",
            "apis[2].match[0].path: the path \"b\" does not begin with a slash",
            "apis[2].match[0].methods: methods are case-sensitive, write \"GET\"",
            "apis[2].match[1].path[1]: the path \"/*.d\" has a wildcard for a part",
            "apis[2].match[1].methods: the list is empty, leave methods out to take all",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\nis not\n{expected}");
        }
        assert_eq!(table.id("a").map(ApiId::index), Some(1));
    }

    #[test]
    fn shapes_that_do_not_fit_are_recorded_too() {
        let (table, errors) = compile(r#"[{"name": 7, "match": [{"paths": "/"}]}, {"name": "b"}]"#);
        let errors = errors.to_string();
        for expected in [
            "apis[0].name: found the number 7, expected text",
            "apis[0].match[0].paths: unknown field, did you mean \"path\"?",
            "apis[1]: the field \"match\" is missing, add it",
        ] {
            assert!(errors.contains(expected), "{expected}\nnot in\n{errors}");
        }
        // What refers to an API is then not reported on top.
        let mut errors = ConfigErrors::default();
        assert!(table.resolve("b", "sunset[0].api", &mut errors).is_err());
        assert!(errors.is_empty());
    }

    #[test]
    fn two_apis_that_take_the_same_requests_are_named() {
        let (_, errors) = compile(
            r#"[
                {"name": "a", "match": [
                    {"hosts": ["x.example", "y.example"], "path": "/v1/{id}", "methods": ["GET", "PUT"]},
                    {"path": "/v1/{id}"},
                    {"path": "/v1/{other}"}
                ]},
                {"name": "b", "match": [
                    {"hosts": "X.example", "path": "/v1/*/", "methods": ["POST", "PUT"]},
                    {"hosts": "x.example", "path": "/v1/*"},
                    {"path": ["/v1/*", "/v2/*"]}
                ]}
            ]"#,
        );
        assert_eq!(
            errors.to_string(),
            "apis[1].match[0]: \"b\" takes PUT /v1/* on x.example, which \"a\" (apis[0]) takes \
             already; give one of them another host, path or method\n\
             apis[1].match[2]: \"b\" takes /v1/*, which \"a\" (apis[0]) takes already; give one of \
             them another host, path or method"
        );
    }

    #[test]
    fn names_are_resolved_or_reported() {
        let table = table(BANK);
        let mut errors = ConfigErrors::default();
        let cards = table
            .resolve("cards", "sunset[0].api", &mut errors)
            .unwrap();
        assert_eq!((cards.index(), table.name(cards)), (1, "cards"));
        assert!(table.resolve("card", "sunset[1].api", &mut errors).is_err());
        assert!(
            ApiTable::default()
                .resolve("a", "access[0]", &mut errors)
                .is_err()
        );
        assert_eq!(
            errors.to_string(),
            "sunset[1].api: unknown API \"card\", did you mean \"cards\"? (expected one of \
             accounts, cards, rest, transfers)\n\
             access[0]: unknown API \"a\": there are none, add them under \"apis\""
        );
        let names: Vec<_> = table.iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["rest", "cards", "accounts", "transfers"]);
    }

    #[test]
    fn the_templates_of_an_api_are_the_most_specific_first() {
        let table = table(
            r#"[{"name": "a", "match": [{"path": ["/**", "/v1/{id}"]}, {"path": "/v1/x", "hosts": "h"}]}]"#,
        );
        let id = table.id("a").unwrap();
        let shown: Vec<String> = table
            .templates(id)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(shown, ["/v1/x", "/v1/{id}", "/**"]);
    }
}
