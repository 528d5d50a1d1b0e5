//! What the matches of each API take, and that no two take the same.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use matchit::InsertError;

use super::host::HostTable;
use super::routes::{Route, Routes};
use super::{ApiId, HostPattern, MatchConfig, Method, Template};
use crate::config::{ConfigErrors, OneOrMany};
use crate::target::LetterCase;

/// A parsed match.
pub(super) struct Requests {
    pub(super) hosts: Vec<HostPattern>,
    /// In the letter case in which they are compared.
    pub(super) templates: Vec<Template>,
    /// None takes all methods.
    pub(super) methods: Vec<Option<Method>>,
}

impl Requests {
    /// Parses the match at `path`. All mistakes are recorded, and what has one is left out.
    pub(super) fn parse(
        config: MatchConfig,
        path: &str,
        letter_case: LetterCase,
        errors: &mut ConfigErrors,
    ) -> Requests {
        let mut list = FieldParser { path, errors };
        Requests {
            hosts: list
                .parse("hosts", config.hosts)
                .unwrap_or_else(|| vec![HostPattern::ANY]),
            templates: list.parse("path", config.path).map_or_else(
                || vec![Template::everything()],
                |templates: Vec<Template>| {
                    let folded = templates.into_iter().map(|path| path.folded(letter_case));
                    folded.collect()
                },
            ),
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
pub(super) struct Claims(BTreeMap<Claim, (ApiId, Template)>);

/// Two claims are equal if they are for the same requests and none is more specific. They are
/// sorted by host.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    host: HostPattern,
    /// The template without names.
    shape: String,
    method: Option<Method>,
}

impl Claims {
    /// Adds the claims of an API. Calls `conflict` with the first one for each other API that has
    /// one for the same requests.
    pub(super) fn add(
        &mut self,
        api: ApiId,
        requests: &Requests,
        mut conflict: impl FnMut(&Claim, ApiId),
    ) {
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

    /// Lays out which host, path and method is for which API.
    pub(super) fn compile(&self) -> Result<HostTable<Routes<ApiId>>, InsertError> {
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
            hosts.insert(host.clone(), Routes::compile(&routes)?);
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
