//! Envoy's whole configuration, and how it is started.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::envoy::{Envoy, StartError};
use crate::listener::{ECHO_CLUSTER, Listener, merge};
use crate::tls::Identity;
use crate::upstream::EchoUpstream;

/// An Envoy to be started. See [`Envoy::builder`].
#[derive(Clone, Debug)]
pub struct EnvoyBuilder {
    pub(crate) listener: Listener,
    pub(crate) dynamic_listener: bool,
    pub(crate) concurrency: u32,
    pub(crate) log_level: String,
    pub(crate) drain_time: Duration,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) arguments: Vec<String>,
    clusters: Vec<Value>,
    upstream: Option<SocketAddr>,
    labels: Vec<String>,
    bootstrap: Option<Value>,
    patches: Vec<Value>,
}

/// Where Envoy finds and leaves files.
pub(crate) struct Files<'a> {
    pub(crate) access_log: &'a Path,
    pub(crate) dynamic_listener: &'a Path,
}

impl EnvoyBuilder {
    pub(crate) fn new() -> Self {
        Self {
            listener: Listener::new(),
            dynamic_listener: false,
            concurrency: 2,
            log_level: "info".to_owned(),
            drain_time: Duration::ZERO,
            environment: Vec::new(),
            arguments: Vec::new(),
            clusters: Vec::new(),
            upstream: None,
            labels: tollgate_core::telemetry::LABELS.map(str::to_owned).to_vec(),
            bootstrap: None,
            patches: Vec::new(),
        }
    }

    /// Sends requests that no other route takes to this upstream. Without one they end in 503.
    pub fn upstream(mut self, upstream: &EchoUpstream) -> Self {
        self.upstream = Some(upstream.address());
        self
    }

    /// Adds a filter to the listener: [`Listener::filter`].
    pub fn filter(self, filter: impl Into<Value>) -> Self {
        self.map_listener(|listener| listener.filter(filter))
    }

    /// Adds a route to the listener: [`Listener::route`].
    pub fn route(self, route: Value) -> Self {
        self.map_listener(|listener| listener.route(route))
    }

    /// Speaks TLS: [`Listener::tls`].
    pub fn tls(self, server: &Identity) -> Self {
        self.map_listener(|listener| listener.tls(server))
    }

    /// Changes the listener in any other way.
    pub fn map_listener(mut self, change: impl FnOnce(Listener) -> Listener) -> Self {
        self.listener = change(self.listener);
        self
    }

    /// Uses this listener.
    pub fn listener(mut self, listener: Listener) -> Self {
        self.listener = listener;
        self
    }

    /// Reads the listener from a file that [`Envoy::update_listener`] can replace.
    pub fn dynamic_listener(mut self) -> Self {
        self.dynamic_listener = true;
        self
    }

    /// Adds a cluster (`config.cluster.v3.Cluster`); see [`cluster()`].
    pub fn cluster(mut self, cluster: Value) -> Self {
        self.clusters.push(cluster);
        self
    }

    /// Reads one more label from the names of metrics, of the form `name=.=value;.;`.
    pub fn label(mut self, name: &str) -> Self {
        self.labels.push(name.to_owned());
        self
    }

    /// How many workers; 2 if not set.
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// The level of Envoy's log, which is that of the plugins too; "info" if not set.
    pub fn log_level(mut self, level: &str) -> Self {
        self.log_level = level.to_owned();
        self
    }

    /// How long connections live on when their listener is replaced, in whole seconds. If not set
    /// they are closed at once, requests under way or not. [`Envoy::update_listener`] takes that long.
    pub fn drain_time(mut self, time: Duration) -> Self {
        self.drain_time = time;
        self
    }

    /// Sets an environment variable of the Envoy process.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds an argument to Envoy's command line.
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Uses this whole configuration (`config.bootstrap.v3.Bootstrap`) instead of a generated
    /// one. Only its admin port is replaced, so that Envoy can be watched; the listener and the
    /// clusters of this builder have no effect.
    pub fn bootstrap(mut self, bootstrap: Value) -> Self {
        self.bootstrap = Some(bootstrap);
        self
    }

    /// Merges fields into the whole configuration: objects by key, all else replaced.
    pub fn patch(mut self, patch: Value) -> Self {
        self.patches.push(patch);
        self
    }

    /// Starts Envoy and waits until it serves.
    pub async fn start(self) -> Result<Envoy, StartError> {
        Envoy::start(self).await
    }

    pub(crate) fn to_json(&self, files: &Files<'_>) -> Value {
        let mut bootstrap = match &self.bootstrap {
            Some(bootstrap) => bootstrap.clone(),
            None => self.generate(files),
        };
        let admin = json!({
            "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        });
        merge(&mut bootstrap, &json!({ "admin": admin }));
        for patch in &self.patches {
            merge(&mut bootstrap, patch);
        }
        bootstrap
    }

    fn generate(&self, files: &Files<'_>) -> Value {
        let mut clusters = self.clusters.clone();
        clusters.push(match self.upstream {
            Some(address) => cluster(ECHO_CLUSTER, address),
            None => json!({ "name": ECHO_CLUSTER, "type": "STATIC" }),
        });
        let tags = self
            .labels
            .iter()
            .map(|label| json!({ "tag_name": label, "regex": format!(r"({label}=\.=(.*?);\.;)") }));
        let mut bootstrap = json!({
            "node": { "id": "test", "cluster": "tests" },
            "static_resources": { "clusters": clusters },
            "stats_config": { "stats_tags": tags.collect::<Vec<_>>() },
            // Histograms are merged when they are asked for.
            "stats_flush_on_admin": true,
        });
        if self.dynamic_listener {
            bootstrap["dynamic_resources"]["lds_config"] = json!({
                "resource_api_version": "V3",
                "path_config_source": { "path": files.dynamic_listener },
            });
        } else {
            let listener = self.listener.to_json(files.access_log);
            bootstrap["static_resources"]["listeners"] = json!([listener]);
        }
        bootstrap
    }
}

/// A cluster of one server that speaks HTTP/1.1, to be changed with [`merge`] where that is not
/// enough.
pub fn cluster(name: &str, address: SocketAddr) -> Value {
    let endpoint = json!({
        "address": {
            "socket_address": {
                "address": address.ip().to_string(),
                "port_value": address.port(),
            },
        },
    });
    json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": endpoint }] }],
        },
    })
}

/// A cluster of one server that speaks HTTP/2, as gRPC needs.
pub fn http2_cluster(name: &str, address: SocketAddr) -> Value {
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let mut cluster = cluster(name, address);
    cluster["typed_extension_protocol_options"] = json!({
        OPTIONS: {
            "@type": format!("type.googleapis.com/{OPTIONS}"),
            "explicit_http_config": { "http2_protocol_options": {} },
        },
    });
    cluster
}

/// A cluster of one server that speaks HTTP/1.1 over TLS. Envoy asks for it by this name (SNI), and
/// checks that its certificate has the name and is of the authority, given as PEM.
pub fn tls_cluster(name: &str, address: SocketAddr, host: &str, authority_pem: &str) -> Value {
    let mut cluster = cluster(name, address);
    cluster["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3\
                      .UpstreamTlsContext",
            "sni": host,
            "common_tls_context": {
                "validation_context": {
                    "trusted_ca": { "inline_string": authority_pem },
                    "match_typed_subject_alt_names": [
                        { "san_type": "DNS", "matcher": { "exact": host } },
                    ],
                },
            },
        },
    });
    cluster
}
