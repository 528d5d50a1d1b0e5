//! Envoy with `envoy/tollgate.yaml`, made to run on this machine.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;
use tollgate_tests::{Authority, ClientTls, ConfigFile, Envoy, HttpClient, cluster};

use crate::bank;

/// The configuration that the demo shows.
pub(crate) const CONFIGURATION: &str = "envoy/tollgate.yaml";

/// The port that the configuration listens on, used here too if it is free.
const PORT: u16 = 8443;

/// The running gateway. It stops when it is dropped.
pub(crate) struct Gateway {
    pub(crate) envoy: Envoy,
    client: HttpClient,
    /// Holds the certificate for curl.
    folder: TempDir,
}

impl Gateway {
    pub(crate) async fn start() -> Result<Self, String> {
        let authority = Authority::new("Tollgate demo");
        let server = authority.server(&["localhost", "127.0.0.1"]);
        let mut config = ConfigFile::load(CONFIGURATION)
            .built_plugins()
            .certificates(&authority, &server)
            .into_value();
        listen_on(&mut config, free_port());
        for service in ["accounts", "payments"] {
            lead_to(&mut config, service, bank::start(service).await?);
        }
        let envoy = Envoy::builder()
            .bootstrap(config)
            .concurrency(2)
            .start()
            .await
            .map_err(|error| format!("Envoy did not start\n{error}"))?;
        let folder =
            tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let gateway = Gateway {
            client: HttpClient::http2(envoy.address()).tls(ClientTls::trusting(&authority)),
            envoy,
            folder,
        };
        std::fs::write(gateway.certificate(), authority.cert_pem()).map_err(|error| {
            format!("cannot write {}: {error}", gateway.certificate().display())
        })?;
        Ok(gateway)
    }

    /// A client that trusts the gateway's certificate.
    pub(crate) fn client(&self) -> &HttpClient {
        &self.client
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.envoy.address().port())
    }

    /// The file with the certificate of the authority that signed the gateway's.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }
}

/// The port of the configuration, or any other if that is taken.
fn free_port() -> u16 {
    match TcpListener::bind(("127.0.0.1", PORT)) {
        Ok(_) => PORT,
        Err(_) => 0,
    }
}

fn listen_on(config: &mut Value, port: u16) {
    let address = &mut config["static_resources"]["listeners"][0]["address"]["socket_address"];
    address["address"] = "127.0.0.1".into();
    address["port_value"] = port.into();
}

fn lead_to(config: &mut Value, service: &str, address: SocketAddr) {
    let clusters = config["static_resources"]["clusters"].as_array_mut();
    for found in clusters
        .into_iter()
        .flatten()
        .filter(|cluster| cluster["name"] == service)
    {
        *found = cluster(service, address);
    }
}
