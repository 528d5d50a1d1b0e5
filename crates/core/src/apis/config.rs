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

/// The `hosts` section: how the host of a request is read, where an API names hosts.
///
/// Envoy picks a virtual host by the whole authority, compared without regard to letter case. So
/// `api.example.com.`, with a dot, and `api.example.com:8443` may be routed to another virtual host
/// than `api.example.com`, and a rule about that host must not be applied to them, nor be walked
/// around by them. Such a request is refused if it matters: if it would be for another API without
/// the dot or the port. What is not a host with an optional port is refused in any case.
///
/// Nothing of this applies to ports and dots that Envoy takes off before its filters see a request:
/// see `strip_any_host_port`, `strip_matching_host_port` and `strip_trailing_host_dot` of its
/// connection manager.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct HostOptions {
    /// What becomes of a request whose authority has a port.
    #[deserr(default)]
    pub ports: Ports,
}

/// What becomes of a request whose authority has a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum Ports {
    /// It is refused where it would be for another API without the port.
    #[default]
    Reject,
    /// It is for the same API as without the port. Safe only if Envoy ignores ports as well, by
    /// `ignore_port_in_host_matching: true` of its route configuration.
    Ignore,
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
    /// [Methods](super::Method); all if absent. `GET` takes `HEAD` too, unless another match of the
    /// same host and path names `HEAD`.
    #[deserr(default)]
    pub methods: Option<OneOrMany<String>>,
}
