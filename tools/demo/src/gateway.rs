//! Envoy with `envoy/tollgate.yaml`, made to run on this machine.

use std::net::TcpListener;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;
use tollgate_tests::{
    Algorithm, Authority, ClientTls, ConfigFile, Envoy, Issuer, SigningKey, cluster,
};

use crate::bank;
use crate::caller::{Caller, ISSUER_HOST, KEY};

/// The configuration that the demo shows.
pub(crate) const CONFIGURATION: &str = "envoy/tollgate.yaml";

/// The port that the configuration listens on, used here too if it is free.
const PORT: u16 = 8443;

/// The running gateway. It stops when it is dropped.
pub(crate) struct Gateway {
    pub(crate) envoy: Envoy,
    pub(crate) caller: Caller,
    /// Holds the certificate for curl.
    folder: TempDir,
    /// Publishes its keys as long as it is here.
    _issuer: Issuer,
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
            let address = bank::start(service, ([127, 0, 0, 1], 0).into()).await?;
            replace(&mut config, service, cluster(service, address));
        }
        let key = SigningKey::new(Algorithm::ES256);
        let issuer = Issuer::start(&authority, ISSUER_HOST).await;
        issuer.add_key(key.jwk(KEY));
        replace(&mut config, "idp", issuer.cluster("idp"));
        let envoy = Envoy::builder()
            .bootstrap(config)
            .concurrency(2)
            .start()
            .await
            .map_err(|error| format!("Envoy did not start\n{error}"))?;
        let folder =
            tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let tls = ClientTls::trusting(&authority);
        let gateway = Gateway {
            caller: Caller::new(envoy.address(), tls, key),
            envoy,
            folder,
            _issuer: issuer,
        };
        std::fs::write(gateway.certificate(), authority.cert_pem()).map_err(|error| {
            format!("cannot write {}: {error}", gateway.certificate().display())
        })?;
        Ok(gateway)
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

fn replace(config: &mut Value, name: &str, cluster: Value) {
    let clusters = config["static_resources"]["clusters"].as_array_mut();
    for found in clusters
        .into_iter()
        .flatten()
        .filter(|cluster| cluster["name"] == name)
    {
        *found = cluster.clone();
    }
}
