//! An HTTP listener for tests, as Envoy's JSON.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::access_log;
use crate::tls::Identity;

/// The name of [`Listener`]s in Envoy.
pub const LISTENER: &str = "http";

/// The cluster that stands for the echo upstream, where requests go by default.
pub const ECHO_CLUSTER: &str = "echo";

/// An HTTP listener on a free loopback port, for HTTP/1.1 and HTTP/2.
///
/// Request ids are left to the filters, and limits are wide enough that large requests get
/// through to them: 96 KiB of request headers, 500 of them.
#[derive(Clone, Debug, Default)]
pub struct Listener {
    filters: Vec<Value>,
    routes: Vec<Value>,
    use_remote_address: bool,
    trusted_hops: u32,
    tls: Option<Tls>,
    log_fields: BTreeMap<String, String>,
    manager_patch: Vec<Value>,
}

#[derive(Clone, Debug)]
struct Tls {
    server: Identity,
    client_authority: Option<String>,
    client_required: bool,
}

impl Listener {
    /// A listener without filters that routes everything to the echo upstream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a filter behind those added before; the router comes last by itself.
    pub fn filter(mut self, filter: impl Into<Value>) -> Self {
        self.filters.push(filter.into());
        self
    }

    /// Adds a route (`config.route.v3.Route`) behind those added before, all of them before the
    /// one that takes everything to the echo upstream.
    pub fn route(mut self, route: Value) -> Self {
        self.routes.push(route);
        self
    }

    /// Takes the peer's address for the client's, and appends it to `x-forwarded-for`.
    pub fn use_remote_address(mut self) -> Self {
        self.use_remote_address = true;
        self
    }

    /// How many proxies before Envoy are trusted in `x-forwarded-for`.
    pub fn trusted_hops(mut self, hops: u32) -> Self {
        self.trusted_hops = hops;
        self
    }

    /// Speaks TLS with this certificate.
    pub fn tls(mut self, server: &Identity) -> Self {
        self.tls = Some(Tls {
            server: server.clone(),
            client_authority: None,
            client_required: false,
        });
        self
    }

    /// Accepts client certificates of an authority, given as PEM; to be called after
    /// [`tls`](Self::tls).
    pub fn client_authority(mut self, authority_pem: &str, required: bool) -> Self {
        let tls = self.tls.as_mut().expect("tls() before client_authority()");
        tls.client_authority = Some(authority_pem.to_owned());
        tls.client_required = required;
        self
    }

    /// Adds a field to the access log, such as `("agent", "%REQ(USER-AGENT)%")`.
    pub fn log_field(mut self, name: &str, format: &str) -> Self {
        self.log_fields.insert(name.to_owned(), format.to_owned());
        self
    }

    /// Merges fields into the HTTP connection manager: objects by key, all else replaced.
    pub fn connection_manager(mut self, patch: Value) -> Self {
        self.manager_patch.push(patch);
        self
    }

    /// The listener as Envoy wants it (`config.listener.v3.Listener`).
    pub(crate) fn to_json(&self, access_log: &Path) -> Value {
        let mut chain = json!({
            "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": self.manager(access_log),
            }],
        });
        if let Some(tls) = &self.tls {
            chain["transport_socket"] = tls.to_json();
        }
        json!({
            "name": LISTENER,
            "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
            "filter_chains": [chain],
        })
    }

    fn manager(&self, access_log: &Path) -> Value {
        let mut filters = self.filters.clone();
        filters.push(json!({
            "name": "envoy.filters.http.router",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            },
        }));
        let mut routes = self.routes.clone();
        routes.push(json!({ "match": { "prefix": "/" }, "route": { "cluster": ECHO_CLUSTER } }));
        let mut manager = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network\
                      .http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": LISTENER,
            "codec_type": "AUTO",
            "generate_request_id": false,
            "preserve_external_request_id": true,
            "request_id_extension": {
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.request_id.uuid.v3\
                              .UuidRequestIdConfig",
                    "pack_trace_reason": false,
                },
            },
            "use_remote_address": self.use_remote_address,
            "xff_num_trusted_hops": self.trusted_hops,
            "max_request_headers_kb": 96,
            "common_http_protocol_options": { "max_headers_count": 500 },
            "access_log": [access_log::to_json(access_log, &self.log_fields)],
            "http_filters": filters,
            "route_config": {
                "name": "routes",
                "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }],
            },
        });
        for patch in &self.manager_patch {
            merge(&mut manager, patch);
        }
        manager
    }
}

impl Tls {
    fn to_json(&self) -> Value {
        let mut common = json!({
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificates": [{
                "certificate_chain": { "inline_string": self.server.cert_pem },
                "private_key": { "inline_string": self.server.key_pem },
            }],
        });
        if let Some(authority) = &self.client_authority {
            common["validation_context"] = json!({ "trusted_ca": { "inline_string": authority } });
        }
        json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3\
                          .DownstreamTlsContext",
                "require_client_certificate": self.client_required,
                "common_tls_context": common,
            },
        })
    }
}

/// A Wasm HTTP filter with this configuration document; [`WasmFilter`] can do more.
pub fn wasm_filter(name: &str, wasm: impl AsRef<Path>, configuration: Value) -> Value {
    WasmFilter::new(name, wasm)
        .configuration(configuration)
        .into()
}

/// A Wasm HTTP filter on V8. A panic in it reloads it (`FAIL_RELOAD`), and all of them share data
/// (`vm_id: tollgate`).
#[derive(Clone, Debug)]
pub struct WasmFilter {
    name: String,
    wasm: PathBuf,
    configuration: Option<Value>,
    environment: BTreeMap<String, String>,
    patch: Value,
}

impl WasmFilter {
    /// A filter without configuration.
    pub fn new(name: &str, wasm: impl AsRef<Path>) -> Self {
        Self {
            name: name.to_owned(),
            wasm: wasm.as_ref().to_owned(),
            configuration: None,
            environment: BTreeMap::new(),
            patch: json!({}),
        }
    }

    /// Hands this document over as a `Struct`, as people write it in envoy.yaml; its numbers
    /// become doubles on the way.
    pub fn configuration(mut self, document: Value) -> Self {
        self.configuration = Some(json!({
            "@type": "type.googleapis.com/google.protobuf.Struct",
            "value": document,
        }));
        self
    }

    /// Hands this text over as it is, JSON or not.
    pub fn configuration_text(mut self, text: &str) -> Self {
        self.configuration = Some(json!({
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": text,
        }));
        self
    }

    /// Sets an environment variable for the plugin.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Merges fields into the plugin's configuration (`extensions.wasm.v3.PluginConfig`), such as
    /// `{ "vm_config": { "vm_id": "other" } }`.
    pub fn patch(mut self, patch: Value) -> Self {
        merge(&mut self.patch, &patch);
        self
    }
}

impl From<WasmFilter> for Value {
    fn from(filter: WasmFilter) -> Value {
        let mut plugin = json!({
            "name": filter.name,
            "failure_policy": "FAIL_RELOAD",
            "vm_config": {
                "vm_id": "tollgate",
                "runtime": "envoy.wasm.runtime.v8",
                "code": { "local": { "filename": filter.wasm } },
                "environment_variables": { "key_values": filter.environment },
            },
        });
        if let Some(configuration) = filter.configuration {
            plugin["configuration"] = configuration;
        }
        merge(&mut plugin, &filter.patch);
        json!({
            "name": filter.name,
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "config": plugin,
            },
        })
    }
}

/// Merges objects key by key; anything else in `patch` replaces what is in `base`.
pub fn merge(base: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *base = patch.clone();
        return;
    };
    if !base.is_object() {
        *base = Value::Object(Map::new());
    }
    for (key, value) in patch {
        merge(&mut base[key.as_str()], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_replaces_all_but_objects() {
        let mut base = json!({ "a": { "b": 1, "c": [1, 2] }, "d": 1 });
        merge(
            &mut base,
            &json!({ "a": { "c": [3] }, "d": { "e": 2 }, "f": {} }),
        );
        let merged = json!({ "a": { "b": 1, "c": [3] }, "d": { "e": 2 }, "f": {} });
        assert_eq!(base, merged);
    }
}
