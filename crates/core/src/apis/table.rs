//! The table of APIs.

use std::collections::{BTreeMap, BTreeSet};

use super::authority::Authority;
use super::claims::{Claim, Claims, Requests};
use super::host::HostTable;
use super::method::{UNNAMED, check_method};
use super::routes::Routes;
use super::{ApiConfig, HostOptions, HostPattern, Method, Template};
use crate::config::{ConfigErrors, Rejected, expected_one_of, quote};
use crate::name::Name;
use crate::order;
use crate::target::{AmbiguousRequest, LetterCase, PathOptions, RequestTarget};

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
    /// Whether any API takes some methods and not others.
    names_methods: bool,
    host_options: HostOptions,
    letter_case: LetterCase,
    unreadable: bool,
}

#[derive(Clone, Debug)]
struct Api {
    name: String,
    /// The most specific first.
    templates: Vec<Template>,
    /// Those of all its matches.
    hosts: BTreeSet<HostPattern>,
    /// The same; none stands for all.
    methods: BTreeSet<Option<Method>>,
}

impl ApiTable {
    /// Makes the table for requests that are read with these options. All mistakes are recorded;
    /// with any, the table is good for nothing but to look names up, so that a reference to an API
    /// that has a mistake is not reported as well.
    pub fn compile(
        configs: Vec<ApiConfig>,
        hosts: HostOptions,
        paths: PathOptions,
        errors: &mut ConfigErrors,
    ) -> ApiTable {
        let mut table = ApiTable {
            host_options: hosts,
            letter_case: paths.letter_case,
            ..ApiTable::default()
        };
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
                hosts: BTreeSet::new(),
                methods: BTreeSet::new(),
            });
            for (index, requests) in matches.0.into_iter().enumerate() {
                let path = format!("{path}.match[{index}]");
                let requests = Requests::parse(requests, &path, table.letter_case, errors);
                claims.add(id, &requests, |claim, other| {
                    errors.add(path.as_str(), table.conflict(id, other, claim));
                });
                table.add_requests(requests);
            }
        }
        match claims.compile() {
            Ok(hosts) => table.hosts = hosts,
            Err(error) => drop(errors.add("apis", format!("can't be routed: {error}"))),
        }
        table.names_methods = table.hosts.iter().any(Routes::name_methods);
        table
    }

    /// Makes another table for requests that are read with the same options, for a policy that has
    /// matches of its own.
    pub fn compile_like(&self, configs: Vec<ApiConfig>, errors: &mut ConfigErrors) -> ApiTable {
        let paths = PathOptions {
            letter_case: self.letter_case,
            ..PathOptions::default()
        };
        ApiTable::compile(configs, self.host_options, paths, errors)
    }

    /// The empty table of a document whose `apis` can't be read at all: no reference to an API is
    /// then reported as unknown.
    pub fn unreadable() -> ApiTable {
        ApiTable {
            unreadable: true,
            ..ApiTable::default()
        }
    }

    /// The API that the request is for, if any. The request is refused if the readings of its path
    /// or of its host are for different ones, or for one and for none. Where any API names hosts or
    /// methods, a malformed host or method is refused too.
    ///
    /// `authority` is Envoy's `:authority`; a request without one, or with an empty one, is only for
    /// APIs of any host.
    pub fn find(
        &self,
        authority: Option<&[u8]>,
        method: &[u8],
        target: &RequestTarget<'_>,
    ) -> Result<Option<ApiId>, AmbiguousRequest> {
        if self.is_empty() {
            return Ok(None);
        }
        if self.names_methods {
            check_method(method)?;
        }
        let find = |host: Option<&str>| {
            target.agree(|path| self.hosts.find(host, |routes| routes.find(method, path)))
        };
        let Some(authority) = self.read_authority(authority)? else {
            return find(None);
        };
        let api = find(Some(authority.host()))?;
        match authority.is_settled() || find(None)? == api {
            true => Ok(api),
            false => Err(AmbiguousRequest::HostReadings),
        }
    }

    /// Reads the authority if there is one and it matters.
    fn read_authority(
        &self,
        authority: Option<&[u8]>,
    ) -> Result<Option<Authority>, AmbiguousRequest> {
        authority
            .filter(|authority| self.hosts.names_hosts() && !authority.is_empty())
            .map(|authority| Authority::parse(authority, self.host_options.ports))
            .transpose()
    }

    /// The letter case in which paths are read, for other tables to compare them in.
    pub fn letter_case(&self) -> LetterCase {
        self.letter_case
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
    /// [captures](Template::captures) is the most specific that takes the path. They are in lower
    /// case where letter case is ignored.
    pub fn templates(&self, id: ApiId) -> &[Template] {
        self.apis.get(id.index()).map_or(&[], |api| &api.templates)
    }

    /// A host and a method of each kind that the matches of an API tell apart: for each of its hosts
    /// one that fits, none for any; for each of its methods that, and for all one that is named
    /// nowhere. A host and a method may be of different matches, so whether a request with them is
    /// for the API depends on its path.
    pub fn samples(&self, id: ApiId) -> impl Iterator<Item = (Option<String>, &str)> {
        self.apis.get(id.index()).into_iter().flat_map(|api| {
            api.hosts.iter().flat_map(|host| {
                let methods = api.methods.iter();
                let methods = methods.map(|method| method.as_ref().map_or(UNNAMED, Method::as_str));
                methods.map(|method| (host.sample(), method))
            })
        })
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

    /// Adds requests to the API that was added last.
    fn add_requests(&mut self, requests: Requests) {
        if let Some(api) = self.apis.last_mut() {
            api.hosts.extend(requests.hosts);
            api.methods.extend(requests.methods);
            api.templates.extend(requests.templates);
            order::sort_by(&mut api.templates, Template::cmp_specificity);
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

#[cfg(test)]
mod tests;
