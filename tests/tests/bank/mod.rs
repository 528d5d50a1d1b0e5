//! `envoy/gateway.yaml` in front of servers of this machine.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::net::SocketAddr;

use serde_json::Value;
use tollgate_tests::{
    Authority, ClientTls, ConfigFile, EchoUpstream, Envoy, HttpClient, Identity, wait_for,
};

/// The key of a consumer on the plan `gold`, which includes all APIs.
pub(crate) const ACME: &str = "acme-demo-key";

/// The key of a consumer on the plan `bronze`, which includes accounts and rates.
pub(crate) const BOLT: &str = "bolt-demo-key";

/// A gateway and what is behind it.
pub(crate) struct Bank {
    pub(crate) authority: Authority,
    /// Two hosts.
    pub(crate) accounts_v1: [EchoUpstream; 2],
    pub(crate) accounts_v2: EchoUpstream,
    pub(crate) payments: EchoUpstream,
    pub(crate) rates: EchoUpstream,
    pub(crate) envoy: Envoy,
}

impl Bank {
    pub(crate) async fn start() -> Self {
        let hosts = [EchoUpstream::start().await, EchoUpstream::start().await];
        Self::with_accounts(hosts, 2).await
    }

    /// Starts the gateway in front of these hosts of the first version of accounts, and waits until
    /// it has found so many of them well, and all others.
    pub(crate) async fn with_accounts(accounts_v1: [EchoUpstream; 2], well: usize) -> Self {
        let authority = Authority::new("Test");
        let server = authority.server(&["localhost"]);
        let accounts_v2 = EchoUpstream::start().await;
        let payments = EchoUpstream::start().await;
        let rates = EchoUpstream::start().await;
        let hosts = accounts_v1.each_ref().map(EchoUpstream::address);
        let config = ConfigFile::load("envoy/gateway.yaml")
            .built_plugins()
            .free_ports()
            .certificates(&authority, &server)
            .cluster_at("accounts-v1", &hosts)
            .cluster_at("accounts-v2", &[accounts_v2.address()])
            .cluster_at("payments", &[payments.address()])
            .cluster_at("rates", &[rates.address()]);
        let envoy = Envoy::builder()
            .bootstrap(config.into_value())
            .start()
            .await
            .unwrap();
        let bank = Self {
            authority,
            accounts_v1,
            accounts_v2,
            payments,
            rates,
            envoy,
        };
        for (cluster, well) in [
            ("accounts-v1", well),
            ("accounts-v2", 1),
            ("payments", 1),
            ("rates", 1),
        ] {
            bank.wait_for_cluster_stat(cluster, "membership_healthy", well as f64)
                .await;
        }
        bank
    }

    /// A client of the listener for everybody.
    pub(crate) fn client(&self) -> HttpClient {
        HttpClient::http2(self.listener("public")).tls(ClientTls::trusting(&self.authority))
    }

    /// A client of the listener for internal callers, with a certificate or none.
    pub(crate) fn internal(&self, identity: Option<&Identity>) -> HttpClient {
        let mut tls = ClientTls::trusting(&self.authority);
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        HttpClient::http2(self.listener("internal")).tls(tls)
    }

    fn listener(&self, name: &str) -> SocketAddr {
        let address = self.envoy.listener(name);
        address.unwrap_or_else(|| panic!("there is no listener {name}"))
    }

    /// The value of a counter or gauge of a cluster.
    pub(crate) async fn cluster_stat(&self, cluster: &str, name: &str) -> f64 {
        let stats = self.envoy.stats().await;
        let name = format!("envoy_cluster_{name}");
        stats.sum(&name, &[("envoy_cluster_name", cluster)])
    }

    /// Waits until a counter or gauge of a cluster has this value.
    pub(crate) async fn wait_for_cluster_stat(&self, cluster: &str, name: &str, value: f64) {
        let what = format!("{name} of {cluster} to be {value}");
        wait_for(&what, async || {
            (self.cluster_stat(cluster, name).await == value).then_some(())
        })
        .await;
    }

    /// Waits until the access log has a line for this path, and gives the first.
    pub(crate) async fn wait_for_log_line(&self, path: &str) -> Value {
        wait_for(&format!("{path} in the access log"), async || {
            let stdout = self.envoy.stdout();
            let whole = stdout.rfind('\n').map_or("", |end| &stdout[..end]);
            let lines = whole.lines().map(|line| {
                serde_json::from_str::<Value>(line)
                    .unwrap_or_else(|error| panic!("no line of the access log ({error}): {line}"))
            });
            lines.into_iter().find(|line| line["path"] == path)
        })
        .await
    }
}

/// How many requests a server has received for a path that begins like this.
pub(crate) fn received(server: &EchoUpstream, path: &str) -> usize {
    let received = server.received();
    received
        .iter()
        .filter(|it| it.path.starts_with(path))
        .count()
}
