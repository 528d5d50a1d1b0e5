//! Who calls the gateway, wherever that runs.

use std::net::SocketAddr;

use serde_json::json;
use tollgate_tests::{ClientTls, HttpClient, SigningKey, unix_time};

/// The issuer of the configuration.
const ISSUER: &str = "https://idp.bank.example/";

/// The name in the issuer's certificate.
pub(crate) const ISSUER_HOST: &str = "idp.bank.example";

/// The name of the issuer's key.
pub(crate) const KEY: &str = "demo";

/// A client of the gateway, with the key that the issuer signs with.
pub(crate) struct Caller {
    pub(crate) client: HttpClient,
    key: SigningKey,
    port: u16,
}

impl Caller {
    pub(crate) fn new(gateway: SocketAddr, tls: ClientTls, key: SigningKey) -> Self {
        Self {
            client: HttpClient::http2(gateway).tls(tls),
            key,
            port: gateway.port(),
        }
    }

    /// A token of the issuer's for its subject `ann`, valid for an hour.
    pub(crate) fn token(&self, scope: &str) -> String {
        let now = unix_time();
        let claims = json!({
            "iss": ISSUER,
            "aud": "bank-api",
            "sub": "ann",
            "client_id": "demo",
            "scope": scope,
            "iat": now,
            "exp": now.saturating_add(3600),
        });
        self.key.token(KEY, claims)
    }

    /// Where the gateway is, as one writes it on its own machine.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }
}
