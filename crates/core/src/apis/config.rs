//! The `apis` section as it is written.

use deserr::Deserr;

use crate::config::{ConfigErrors, OneOrMany};

/// An API: a name, and the requests that belong to it.
///
/// The texts are parsed when the table is [compiled](super::ApiTable::compile), so that a mistake
/// in one of them does not hide the others.
#[derive(Clone, Debug, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct ApiConfig {
    /// The name by which other sections refer to the API.
    pub name: String,
    /// The requests that belong to it: those that fit one of these.
    #[deserr(rename = "match")]
    pub matches: OneOrMany<MatchConfig>,
}

/// Requests, by host, path and method. What is left out does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct MatchConfig {
    /// [Hosts](super::HostPattern); any if absent.
    #[deserr(default)]
    pub hosts: Option<OneOrMany<String>>,
    /// [Templates](super::Template) of paths; `/**` if absent.
    #[deserr(default)]
    pub path: Option<OneOrMany<String>>,
    /// [Methods](super::Method); all if absent.
    #[deserr(default)]
    pub methods: Option<OneOrMany<String>>,
}
