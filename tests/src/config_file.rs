//! Envoy configurations that ship with Tollgate, made to run on any machine.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::tls::{Authority, Identity};
use crate::{plugin_path, repository};

/// A whole Envoy configuration, read from YAML and changed where it depends on a machine. Each
/// change does nothing where there is nothing to change.
#[derive(Clone, Debug)]
pub struct ConfigFile(Value);

impl ConfigFile {
    /// Reads a file; its path is taken from the root of the repository.
    ///
    /// # Panics
    ///
    /// When there is no such file, or it is not YAML.
    pub fn load(path: impl AsRef<Path>) -> Self {
        let path = repository().join(path);
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        Self::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Reads YAML, or the reason why it is none.
    pub fn parse(yaml: &str) -> Result<Self, String> {
        serde_saphyr::from_str(yaml)
            .map(Self)
            .map_err(|error| error.to_string())
    }

    /// Takes all `.wasm` files from where [`plugin`](crate::plugin) finds them.
    pub fn built_plugins(mut self) -> Self {
        visit(&mut self.0, &mut |object| {
            let Some(Value::String(filename)) = object.get_mut("filename") else {
                return;
            };
            let path = Path::new(filename.as_str());
            if path.extension().is_some_and(|end| end == "wasm")
                && let Some(name) = path.file_stem()
            {
                let built = plugin_path(&name.to_string_lossy());
                *filename = built.to_string_lossy().into_owned();
            }
        });
        self
    }

    /// Makes all listeners listen on free loopback ports.
    pub fn free_ports(mut self) -> Self {
        let listeners = self.0["static_resources"]["listeners"].as_array_mut();
        for listener in listeners.into_iter().flatten() {
            listener["address"] = socket_address(SocketAddr::from(([127, 0, 0, 1], 0)));
        }
        self
    }

    /// Makes all clusters lead to one server, which speaks plain HTTP.
    pub fn clusters_at(mut self, server: SocketAddr) -> Self {
        for cluster in self.clusters() {
            lead_to(cluster, &[server]);
        }
        self
    }

    /// Makes the cluster of this name lead to these servers, which speak plain HTTP.
    pub fn cluster_at(mut self, name: &str, servers: &[SocketAddr]) -> Self {
        for cluster in self.clusters().filter(|cluster| cluster["name"] == name) {
            lead_to(cluster, servers);
        }
        self
    }

    fn clusters(&mut self) -> impl Iterator<Item = &mut Value> {
        let clusters = self.0["static_resources"]["clusters"].as_array_mut();
        clusters.into_iter().flatten()
    }

    /// Puts a test's certificates in the place of all certificate files.
    pub fn certificates(mut self, authority: &Authority, server: &Identity) -> Self {
        let by_field = [
            ("certificate_chain", server.cert_pem.as_str()),
            ("private_key", server.key_pem.as_str()),
            ("trusted_ca", authority.cert_pem()),
        ];
        visit(&mut self.0, &mut |object| {
            for (field, pem) in by_field {
                if let Some(source) = object.get_mut(field) {
                    *source = json!({ "inline_string": pem });
                }
            }
        });
        self
    }

    /// The configuration, for [`Envoy::validate`](crate::Envoy::validate) or
    /// [`EnvoyBuilder::bootstrap`](crate::EnvoyBuilder::bootstrap).
    pub fn into_value(self) -> Value {
        self.0
    }
}

fn lead_to(cluster: &mut Value, servers: &[SocketAddr]) {
    let endpoints: Vec<Value> = servers
        .iter()
        .map(|server| json!({ "endpoint": { "address": socket_address(*server) } }))
        .collect();
    cluster["type"] = "STATIC".into();
    cluster["load_assignment"]["endpoints"] = json!([{ "lb_endpoints": endpoints }]);
    if let Some(cluster) = cluster.as_object_mut() {
        cluster.remove("transport_socket");
    }
}

fn socket_address(address: SocketAddr) -> Value {
    let (ip, port) = (address.ip().to_string(), address.port());
    json!({ "socket_address": { "address": ip, "port_value": port } })
}

/// Calls `change` on every object, outer ones first.
fn visit(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            change(object);
            for value in object.values_mut() {
                visit(value, change);
            }
        }
        Value::Array(values) => {
            for value in values {
                visit(value, change);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = r#"
static_resources:
  listeners:
  - name: https
    address: { socket_address: { address: 0.0.0.0, port_value: 8443 } }
    filter_chains:
    - transport_socket:
        typed_config:
          common_tls_context:
            tls_certificates:
            - certificate_chain: { filename: /etc/envoy/tls/tls.crt }
              private_key: { filename: /etc/envoy/tls/tls.key }
      filters:
      - typed_config:
          http_filters:
          - typed_config:
              config:
                vm_config: { code: { local: { filename: /etc/envoy/plugins/sunset.wasm } } }
                configuration: { value: { limit: 10000 } }
  clusters:
  - name: api
    type: STRICT_DNS
    transport_socket: { name: tls }
    load_assignment:
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: api.example, port_value: 443 } } }
"#;

    #[test]
    fn what_depends_on_a_machine_is_replaced() {
        let authority = Authority::new("Test");
        let server = authority.server(&["localhost"]);
        let config = ConfigFile::parse(YAML)
            .unwrap()
            .built_plugins()
            .free_ports()
            .clusters_at(([127, 0, 0, 1], 99).into())
            .certificates(&authority, &server)
            .into_value();
        let listener = &config["static_resources"]["listeners"][0];
        assert_eq!(
            listener["address"],
            json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } }),
        );
        let text = config.to_string();
        assert!(!text.contains("/etc/envoy"), "{text}");
        assert!(text.contains("/sunset.wasm"), "{text}");
        assert!(text.contains("BEGIN PRIVATE KEY"), "{text}");
        let cluster = &config["static_resources"]["clusters"][0];
        assert_eq!(cluster["type"], "STATIC");
        assert_eq!(cluster.get("transport_socket"), None);
        assert!(cluster.to_string().contains("\"port_value\":99"), "{text}");
    }

    #[test]
    fn one_cluster_leads_to_several_servers() {
        let servers = [([127, 0, 0, 1], 98).into(), ([127, 0, 0, 1], 99).into()];
        let config = ConfigFile::parse(YAML).unwrap();
        let untouched = config.clone().cluster_at("other", &servers);
        assert_eq!(untouched.into_value(), config.clone().into_value());
        let config = config.cluster_at("api", &servers).into_value();
        let endpoints = &config["static_resources"]["clusters"][0]["load_assignment"]["endpoints"];
        assert_eq!(endpoints.as_array().unwrap().len(), 1);
        assert_eq!(endpoints[0]["lb_endpoints"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn scalars_keep_their_types() {
        let yaml = "a: 10000\nb: 'yes'\nc: 0.5s\nd: true\ne: 1.5\nf: 2026-09-15T00:00:00Z";
        let expected = json!({
            "a": 10000, "b": "yes", "c": "0.5s", "d": true, "e": 1.5, "f": "2026-09-15T00:00:00Z",
        });
        assert_eq!(ConfigFile::parse(yaml).unwrap().into_value(), expected);
    }
}
