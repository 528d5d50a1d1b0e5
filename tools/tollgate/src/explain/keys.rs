//! The keys of issuers that the gateway would fetch.

use std::cell::RefCell;
use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use serde_json::{Value as Json, json};

use crate::input;

/// Issuers whose keys are fetched.
pub(crate) struct Keys {
    issuers: Vec<Issuer>,
    /// The issuers that were asked and whose keys were not given.
    missing: RefCell<BTreeSet<String>>,
}

struct Issuer {
    name: String,
    issuer: String,
    cluster: String,
    url: Option<String>,
    discovery: Option<String>,
    set: Option<Vec<u8>>,
}

impl Keys {
    /// The issuers of a document, with the keys that were given as `PROVIDER=FILE`.
    pub(crate) fn of(document: &Json, given: &[String]) -> anyhow::Result<Self> {
        let providers = document
            .pointer("/jwt_authz/providers")
            .and_then(Json::as_array);
        let mut issuers: Vec<Issuer> = providers.into_iter().flatten().filter_map(issuer).collect();
        for pair in given {
            let (name, file) = pair
                .split_once('=')
                .context("--jwks: expected PROVIDER=FILE")?;
            let Some(issuer) = issuers.iter_mut().find(|issuer| issuer.name == name) else {
                bail!("--jwks: the document has no provider {name:?} whose keys are fetched");
            };
            issuer.set = Some(input::read(file.as_ref())?.text.into_bytes());
        }
        Ok(Keys {
            issuers,
            missing: RefCell::default(),
        })
    }

    /// The clusters of all issuers.
    pub(crate) fn clusters(&self) -> Vec<String> {
        self.issuers
            .iter()
            .map(|issuer| issuer.cluster.clone())
            .collect()
    }

    /// What the server says at a URL; nothing if its keys were not given.
    pub(crate) fn answer(&self, url: &str) -> Option<Vec<u8>> {
        let issuer = self.issuers.iter().find(|issuer| issuer.serves(url))?;
        let Some(set) = &issuer.set else {
            self.missing.borrow_mut().insert(issuer.name.clone());
            return None;
        };
        match &issuer.discovery {
            Some(discovery) if discovery == url => {
                let metadata = json!({
                    "issuer": issuer.issuer,
                    "jwks_uri": format!("{discovery}{SET}"),
                });
                Some(metadata.to_string().into_bytes())
            }
            _ => Some(set.clone()),
        }
    }

    /// The issuers whose keys were asked for and not given.
    pub(crate) fn missing(&self) -> Vec<String> {
        self.missing.borrow().iter().cloned().collect()
    }
}

/// What the metadata that are made up here append to their own URL, for that of the keys.
const SET: &str = "/jwks";

impl Issuer {
    fn serves(&self, url: &str) -> bool {
        let own = self.url.iter().chain(&self.discovery);
        own.into_iter().any(|own| own == url)
            || self
                .discovery
                .as_ref()
                .is_some_and(|own| url.strip_prefix(own) == Some(SET))
    }
}

fn issuer(provider: &Json) -> Option<Issuer> {
    let text = |value: &Json, field: &str| value[field].as_str().map(str::to_owned);
    let jwks = &provider["jwks"];
    Some(Issuer {
        name: text(provider, "name")?,
        issuer: text(provider, "issuer")?,
        cluster: text(jwks, "cluster")?,
        url: text(jwks, "url"),
        discovery: text(jwks, "discovery"),
        set: None,
    })
}
