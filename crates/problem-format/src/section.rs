//! The section `problem_details` of the configuration, as it is written.

use deserr::Deserr;
use serde_json::Value;
use tollgate_core::config::{ConfigErrors, Table};

use crate::cors::CorsConfig;
use crate::values::{
    ErrorStatus, HeaderText, Language, Line, MemberName, OverrideHeader, TypeBase, TypeUri,
};

/// The section `problem_details`.
#[derive(Clone, Debug, Default, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Section {
    /// What every type begins with; the kind's name follows. Without it, the types are those that
    /// are registered, and `about:blank`.
    #[deserr(default)]
    pub type_base: Option<TypeBase>,
    /// The language of titles and details; English if absent.
    #[deserr(default)]
    pub language: Language,
    /// How problems differ from what they are by themselves: by kind, and under `default_4xx` and
    /// `default_5xx` for all kinds of such a status.
    #[deserr(default)]
    pub overrides: Table<Override>,
    /// Which answers that are no refusals of Tollgate's become problems; Envoy's own if absent.
    #[deserr(default)]
    pub wrap: Option<Vec<Wrap>>,
    /// Whose scripts may read problems from another origin; nobody's if absent.
    #[deserr(default)]
    pub cors: Option<CorsConfig>,
}

/// How problems of a kind differ from what they are by themselves. What is absent stays.
#[derive(Clone, Debug, Default, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Override {
    /// The HTTP status.
    #[deserr(default)]
    pub status: Option<ErrorStatus>,
    /// The problem type.
    #[deserr(default, rename = "type")]
    pub type_uri: Option<TypeUri>,
    /// What the type is about.
    #[deserr(default)]
    pub title: Option<Line>,
    /// What is said of every occurrence, in place of what is particular to it.
    #[deserr(default)]
    pub detail: Option<Line>,
    /// Further members of the body.
    #[deserr(default)]
    pub members: Table<Value, MemberName>,
    /// Further headers, each in place of all of that name.
    #[deserr(default)]
    pub headers: Table<HeaderText, OverrideHeader>,
}

/// Answers that are no refusals of Tollgate's, and can become problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors)]
pub enum Wrap {
    /// The errors that Envoy answers with itself.
    #[deserr(rename = "gateway")]
    Gateway,
    /// The upstream's errors from 400 to 499 that are no problems yet.
    #[deserr(rename = "upstream_bare_4xx")]
    UpstreamBare4xx,
    /// The upstream's errors from 500 to 599 that are no problems yet.
    #[deserr(rename = "upstream_bare_5xx")]
    UpstreamBare5xx,
    /// The upstream's errors to gRPC calls that say that it has failed.
    #[deserr(rename = "upstream_grpc")]
    UpstreamGrpc,
}
