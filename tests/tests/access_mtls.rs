//! Client certificates on the real Envoy: who may call by the names in them, alone and beside tokens.

mod idp;

use idp::{Bearer, apis, assert_refused, claims, document, gateway};
use serde_json::json;
use tollgate_tests::{
    Algorithm, Authority, ClientTls, EchoUpstream, Envoy, EnvoyBuilder, Identity, RequestBuilder,
    SigningKey,
};

/// A gateway that asks for client certificates.
struct Mtls {
    servers: Authority,
    clients: Authority,
    envoy: Envoy,
}

impl Mtls {
    async fn start(builder: EnvoyBuilder) -> Self {
        let (servers, clients) = (Authority::new("Servers"), Authority::new("Clients"));
        let envoy = builder
            .tls(&servers.server(&["localhost"]))
            .map_listener(|listener| listener.client_authority(clients.cert_pem(), false))
            .start()
            .await
            .unwrap();
        Self {
            servers,
            clients,
            envoy,
        }
    }

    /// Starts a request, over HTTP/1.1 and over HTTP/2, with this certificate or none.
    fn get(&self, path: &str, identity: Option<&Identity>) -> [RequestBuilder; 2] {
        let mut tls = ClientTls::trusting(&self.servers);
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        [self.envoy.http1(), self.envoy.http2()].map(|client| client.tls(tls.clone()).get(path))
    }
}

#[tokio::test]
async fn client_certificates_are_known_by_their_names() {
    let upstream = EchoUpstream::start().await;
    let document = json!({
        "apis": apis(),
        "access": [
            { "apis": ["accounts"], "require": { "mtls": {
                "uris": ["spiffe://bank.example/ns/batch/*", "spiffe://bank.example/ns/web/sa/api"],
            }}},
            { "apis": ["payments"], "require": { "mtls": {
                "uris": ["spiffe://bank.example/ns/pay/*"],
                "dns_names": ["Pay.bank.example", "*.teller.bank.example"],
            }}},
            { "require": "mtls" },
        ],
    });
    // No policy that checks other credentials is needed for that.
    let gateway = Mtls::start(gateway("jwt-authz", &upstream, document)).await;
    let client =
        |uris: &[&str], names: &[&str]| gateway.clients.client_with_names("somebody", uris, names);
    let batch = client(&["spiffe://bank.example/ns/batch/sa/nightly"], &[]);
    let web = client(
        &["spiffe://bank.example/ns/web/sa/api"],
        &["web.bank.example"],
    );
    let webs = client(&["spiffe://bank.example/ns/web/sa/api2"], &[]);
    let evil = client(&["spiffe://bank.example.evil/ns/batch/sa/nightly"], &[]);
    let pay = client(&[], &["PAY.bank.example"]);
    let teller = client(&[], &["a.teller.bank.example"]);
    let nested = client(&[], &["a.b.teller.bank.example"]);
    // The name is in the wrong place.
    let common = gateway.clients.client("pay.bank.example", &[]);
    let swapped = client(&["https://pay.bank.example/"], &[]);
    let (missing, other) = (
        "client-certificate-missing",
        "client-certificate-not-allowed",
    );
    for (what, path, identity, kind) in [
        ("a first part", "/accounts", Some(&batch), None),
        ("a whole URI", "/accounts", Some(&web), None),
        ("a longer URI", "/accounts", Some(&webs), Some(other)),
        (
            "another trust domain",
            "/accounts",
            Some(&evil),
            Some(other),
        ),
        ("no URI", "/accounts", Some(&pay), Some(other)),
        ("no certificate", "/accounts", None, Some(missing)),
        ("a DNS name", "/payments", Some(&pay), None),
        ("one label more", "/payments", Some(&teller), None),
        ("two labels more", "/payments", Some(&nested), Some(other)),
        ("a common name", "/payments", Some(&common), Some(other)),
        ("a name in a URI", "/payments", Some(&swapped), Some(other)),
        ("another URI", "/payments", Some(&batch), Some(other)),
        ("any certificate", "/elsewhere", Some(&common), None),
        ("not any", "/elsewhere", None, Some(missing)),
    ] {
        for request in gateway.get(path, identity) {
            // What the client says about itself is not believed.
            let request = request.header(
                "x-forwarded-client-cert",
                "URI=spiffe://bank.example/ns/batch/sa/x;DNS=pay.bank.example",
            );
            let reply = request.send().await;
            println!("{what}: {}", reply.status);
            match kind {
                None => assert_eq!(reply.status, 200, "{what}: {reply:?}"),
                Some(kind) => {
                    assert_refused(&reply, 403, kind);
                    assert_eq!(reply.header("www-authenticate"), None);
                }
            }
        }
    }
    // A certificate of nobody we know does not get as far as a request.
    let stranger =
        Authority::new("Strangers").client("a", &["spiffe://bank.example/ns/batch/sa/a"]);
    for request in gateway.get("/accounts", Some(&stranger)) {
        assert!(request.try_send().await.is_err());
    }
}

#[tokio::test]
async fn certificates_stand_beside_tokens() {
    let upstream = EchoUpstream::start().await;
    let key = SigningKey::new(Algorithm::ES256);
    let document = json!({
        "apis": apis(),
        "jwt_authz": document(json!("ES256"), &[key.jwk("first")])["jwt_authz"],
        "access": [
            { "apis": ["accounts"], "require": { "all_of": ["jwt", "mtls"] } },
            { "apis": ["payments"], "require": { "any_of": [
                { "mtls": { "uris": ["spiffe://bank.example/batch"] } },
                { "jwt": { "scopes": "payments" } },
            ]}},
        ],
    });
    let gateway = Mtls::start(gateway("jwt-authz", &upstream, document)).await;
    let batch = gateway
        .clients
        .client("batch", &["spiffe://bank.example/batch"]);
    let other = gateway
        .clients
        .client("other", &["spiffe://bank.example/other"]);
    let signed = |others| key.token("first", claims(others));
    let (token, scoped) = (signed(json!({})), signed(json!({ "scope": "payments" })));
    let expired = signed(json!({ "exp": 1 }));
    for (path, identity, token, status, kind) in [
        ("/accounts", Some(&other), Some(&token), 200, ""),
        ("/accounts", Some(&other), None, 401, "credentials-missing"),
        (
            "/accounts",
            Some(&other),
            Some(&expired),
            401,
            "token-expired",
        ),
        (
            "/accounts",
            None,
            Some(&token),
            403,
            "client-certificate-missing",
        ),
        ("/accounts", None, None, 401, "credentials-missing"),
        ("/payments", Some(&batch), None, 200, ""),
        ("/payments", Some(&batch), Some(&expired), 200, ""),
        ("/payments", None, Some(&scoped), 200, ""),
        ("/payments", Some(&other), Some(&scoped), 200, ""),
        ("/payments", Some(&other), Some(&token), 403, ""),
        ("/payments", None, Some(&token), 403, "scope-insufficient"),
        ("/payments", None, None, 401, "credentials-missing"),
        (
            "/payments",
            Some(&other),
            None,
            403,
            "client-certificate-not-allowed",
        ),
    ] {
        for mut request in gateway.get(path, identity) {
            if let Some(token) = token {
                request = request.bearer(token);
            }
            let reply = request.send().await;
            println!(
                "{path} {} {} {}",
                identity.is_some(),
                token.is_some(),
                reply.text()
            );
            match kind {
                "" => assert_eq!(reply.status, status, "{reply:?}"),
                _ => assert_refused(&reply, status, kind),
            }
        }
    }
}
