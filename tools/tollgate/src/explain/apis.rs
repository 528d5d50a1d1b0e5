//! Which API a request is for, and why not for another.

use deserr::Deserr;
use serde::Serialize;
use serde_json::Value as Json;
use tollgate_core::apis::{ApiConfig, ApiTable, HostOptions, MatchConfig};
use tollgate_core::config::{ConfigErrors, Document, OneOrMany};
use tollgate_core::target::{PathOptions, RequestTarget};

use super::Asked;

/// An API, and whether the request is for it.
#[derive(Debug, Serialize)]
pub(crate) struct ApiVerdict {
    pub(crate) name: String,
    pub(crate) matches: bool,
    pub(crate) why: String,
}

/// Judges every API of a document that was checked.
pub(crate) fn judge(document: &Json, asked: &Asked) -> Vec<ApiVerdict> {
    let text = document.to_string();
    let Ok(mut document) = Document::parse(text.as_bytes()) else {
        return Vec::new();
    };
    let apis: Vec<ApiConfig> = take(&mut document, "apis").unwrap_or_default();
    let asked = Question {
        hosts: take(&mut document, "hosts").unwrap_or_default(),
        paths: take(&mut document, "paths").unwrap_or_default(),
        asked,
    };
    let chosen = asked.find(apis.clone());
    apis.iter()
        .map(|api| {
            let why = match &chosen {
                Err(ambiguous) => ambiguous.clone(),
                Ok(Some(name)) if *name == api.name => "its match is the most specific".to_owned(),
                Ok(chosen) => asked.why_not(api, chosen.as_deref()),
            };
            ApiVerdict {
                name: api.name.clone(),
                matches: chosen
                    .as_ref()
                    .is_ok_and(|chosen| chosen.as_ref() == Some(&api.name)),
                why,
            }
        })
        .collect()
}

fn take<T: Deserr<ConfigErrors>>(document: &mut Document, name: &str) -> Option<T> {
    let section = document.take(name, &mut ConfigErrors::default());
    section.ok().flatten()
}

struct Question<'a> {
    hosts: HostOptions,
    paths: PathOptions,
    asked: &'a Asked,
}

impl Question<'_> {
    /// The API of the request among these, or why it can't be told.
    fn find(&self, apis: Vec<ApiConfig>) -> Result<Option<String>, String> {
        let mut errors = ConfigErrors::default();
        let table = ApiTable::compile(apis, self.hosts, self.paths, &mut errors);
        let path = self.asked.path.as_bytes();
        let target = RequestTarget::parse(path, &self.paths);
        let found = target.and_then(|target| {
            let authority = Some(self.asked.authority.as_bytes());
            table.find(authority, self.asked.method.as_bytes(), &target)
        });
        let found = found.map_err(|ambiguous| ambiguous.explanation().to_owned())?;
        Ok(found.map(|api| table.name(api).to_owned()))
    }

    fn takes(&self, requests: MatchConfig) -> bool {
        let api = ApiConfig {
            name: "api".to_owned(),
            matches: OneOrMany(vec![requests]),
        };
        self.find(vec![api]).is_ok_and(|found| found.is_some())
    }

    /// Why the request is not for an API: for each of its matches, what of it does not fit.
    fn why_not(&self, api: &ApiConfig, chosen: Option<&str>) -> String {
        let reasons: Vec<String> = api
            .matches
            .0
            .iter()
            .map(|requests| self.misfit(requests, chosen))
            .collect();
        let several = reasons.len() > 1;
        let reasons = reasons
            .iter()
            .enumerate()
            .map(|(index, reason)| match several {
                true => format!("match[{index}]: {reason}"),
                false => reason.clone(),
            });
        reasons.collect::<Vec<_>>().join("; ")
    }

    fn misfit(&self, requests: &MatchConfig, chosen: Option<&str>) -> String {
        if self.takes(requests.clone()) {
            let chosen = chosen.unwrap_or_default();
            return format!("it fits too, but {chosen} fits more specifically");
        }
        let MatchConfig {
            hosts,
            path,
            methods,
        } = requests.clone();
        let mut misfits = Vec::new();
        let mut check =
            |requests: MatchConfig, what: &str, expected: &Option<OneOrMany<String>>| {
                if let Some(OneOrMany(expected)) = expected
                    && !self.takes(requests)
                {
                    misfits.push(format!("its {what} is not {}", expected.join(" or ")));
                }
            };
        let any = MatchConfig::default();
        check(
            MatchConfig {
                hosts: hosts.clone(),
                ..any.clone()
            },
            "host",
            &hosts,
        );
        check(
            MatchConfig {
                path: path.clone(),
                ..any.clone()
            },
            "path",
            &path,
        );
        check(
            MatchConfig {
                methods: methods.clone(),
                ..any
            },
            "method",
            &methods,
        );
        misfits.join(", ")
    }
}
