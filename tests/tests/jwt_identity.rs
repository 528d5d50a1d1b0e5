//! What the upstream learns from a token on the real Envoy, and that it learns it from nobody else.

mod idp;

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use idp::{Bearer, claims, document, gateway};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tollgate_tests::{Algorithm, EchoUpstream, SigningKey, http2_cluster};

#[tokio::test]
async fn the_upstream_learns_what_the_token_says() {
    let upstream = EchoUpstream::start().await;
    let key = SigningKey::new(Algorithm::ES384);
    let mut document = document(json!("ES384"), &[key.jwk("es")]);
    document["jwt_authz"]["payload_header"] = json!("X-Payload");
    document["jwt_authz"]["providers"][0]["claims_to_headers"] = json!([
        { "claim": "sub", "header": "X-Sub" },
        { "claim": ["realm_access", "roles"], "header": "x-roles" },
        { "claim": "/realm_access", "header": "x-realm", "format": "json" },
        { "claim": "level", "header": "x-level" },
        { "claim": "name", "header": "x-name" },
    ]);
    let envoy = gateway("jwt-authz", &upstream, document)
        .start()
        .await
        .unwrap();
    let said = claims(json!({
        "realm_access": { "roles": ["teller", "auditor"] },
        "level": 7,
        "name": "eve\r\nx-sub: admin",
    }));
    let token = key.token("es", said);
    // Not seen before, and remembered.
    for _ in 0..6 {
        let echo = envoy.http1().get("/").bearer(&token).send().await.echo();
        assert_eq!(echo.header_values("x-sub"), ["alice"]);
        assert_eq!(echo.header_values("x-roles"), ["teller,auditor"]);
        assert_eq!(
            echo.header_values("x-realm"),
            [r#"{"roles":["teller","auditor"]}"#]
        );
        assert_eq!(echo.header_values("x-level"), ["7"]);
        assert_eq!(echo.header_values("x-name"), [""; 0]);
        assert_eq!(
            echo.header_values("x-payload"),
            [token.split('.').nth(1).unwrap()]
        );
    }
    let other = key.token("es", claims(json!({ "sub": "bob" })));
    let echo = envoy.http1().get("/").bearer(&other).send().await.echo();
    assert_eq!(echo.header("x-sub"), Some("bob"));
    assert_eq!(echo.header("x-roles"), None);
}

/// A document in which some requests need a token and others do not.
fn open_and_closed(key: &SigningKey) -> Value {
    let mut document = document(json!("EdDSA"), &[key.jwk("ed")]);
    document["apis"] = json!([
        { "name": "open", "match": [{ "path": "/open/**" }] },
        { "name": "closed", "match": [{ "path": "/closed/**" }] },
    ]);
    document["access"] = json!([
        { "apis": ["open"], "require": "anonymous" },
        { "apis": ["closed"], "require": "jwt", "allow_preflight": true },
        { "methods": ["OPTIONS"], "require": "anonymous" },
        { "require": { "any_of": ["jwt", "anonymous"] } },
    ]);
    document["jwt_authz"]["payload_header"] = json!("x-payload");
    document["jwt_authz"]["providers"][0]["claims_to_headers"] = json!([
        { "claim": "sub", "header": "x-claim-sub" },
        { "claim": "groups", "header": "x-groups" },
    ]);
    document
}

/// Names that servers may take for a header that the token becomes.
const FORGED: [&str; 12] = [
    "x-claim-sub",
    "X-Claim-Sub",
    "X_CLAIM_SUB",
    "x.claim.sub",
    "x-claim_sub",
    "x~claim!sub",
    "x-groups",
    "X_Groups",
    "x^groups",
    "x-payload",
    "X_PAYLOAD",
    "x|payload",
];

#[tokio::test]
async fn forged_identity_reaches_no_upstream() {
    let upstream = EchoUpstream::start().await;
    let key = SigningKey::new(Algorithm::EdDSA);
    for plugin in ["jwt-authz", "tollgate"] {
        let envoy = gateway(plugin, &upstream, open_and_closed(&key))
            .map_listener(|listener| {
                let listener = listener.log_field("sub", "%REQ(X-CLAIM-SUB)%");
                listener.log_field("other_sub", "%REQ(X_CLAIM_SUB)%")
            })
            .start()
            .await
            .unwrap();
        let token = key.token("ed", claims(json!({})));
        let expired = key.token("ed", claims(json!({ "exp": 1 })));
        let forged: String = FORGED
            .map(|name| format!("{name}: forged\r\n{name}: again\r\n"))
            .concat();
        let preflight = "origin: https://a.example\r\naccess-control-request-method: GET\r\n";
        let mut client = envoy.raw().await;
        for (what, method, path, headers, status, subject) in [
            ("an anonymous API", "GET", "/open", "", 200, None),
            (
                "an anonymous API, bad token",
                "POST",
                "/open",
                "authorization: Bearer x\r\n",
                200,
                None,
            ),
            (
                "a method that needs no token",
                "OPTIONS",
                "/",
                "",
                200,
                None,
            ),
            ("a preflight", "OPTIONS", "/closed", preflight, 200, None),
            ("no API and no token", "GET", "/", "", 200, None),
            ("no API", "GET", "/", "good", 200, Some("alice")),
            (
                "a token that is needed",
                "GET",
                "/closed",
                "good",
                200,
                Some("alice"),
            ),
            (
                "the same, remembered",
                "POST",
                "/closed",
                "good",
                200,
                Some("alice"),
            ),
            ("no token", "GET", "/closed", "", 401, None),
            ("a bad token", "GET", "/", "bad", 401, None),
            (
                "an ambiguous path",
                "GET",
                "/closed/..%2fopen",
                "good",
                400,
                None,
            ),
        ] {
            let headers = match headers {
                "good" => format!("authorization: Bearer {token}\r\n"),
                "bad" => format!("authorization: Bearer {expired}\r\n"),
                other => other.to_owned(),
            };
            upstream.clear();
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n{forged}{headers}\r\n"
            );
            client.send(request).await;
            let reply = client.read_reply().await;
            assert_eq!(reply.status, status, "{what}: {reply:?}");
            let received = upstream.received();
            assert_eq!(received.len(), usize::from(status == 200), "{what}");
            for request in received {
                for (name, value) in &request.headers {
                    assert!(value != "forged" && value != "again", "{what}: {name}");
                }
                assert_eq!(request.header("x-claim-sub"), subject, "{what}");
                assert_eq!(
                    request.header("x-payload").is_some(),
                    subject.is_some(),
                    "{what}"
                );
                assert_eq!(request.header("x-groups"), None, "{what}");
            }
        }
        for entry in envoy.wait_for_access_log(11).await {
            for name in ["sub", "other_sub"] {
                let logged = &entry.extra[name];
                assert!(logged.is_null() || logged == "alice", "{entry:?}");
            }
        }
    }
}

/// A server that speaks HTTP/2 and tells which trailers it received.
async fn trailers_upstream() -> (SocketAddr, mpsc::UnboundedReceiver<HeaderMap>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, received) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = seen.clone();
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let seen = seen.clone();
                async move {
                    let body = request.into_body().collect().await?;
                    let _ = seen.send(body.trailers().cloned().unwrap_or_default());
                    Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
                }
            });
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, received)
}

#[tokio::test]
async fn forged_identity_in_trailers_reaches_no_upstream() {
    let upstream = EchoUpstream::start().await;
    let (address, mut received) = trailers_upstream().await;
    let key = SigningKey::new(Algorithm::EdDSA);
    let envoy = gateway("jwt-authz", &upstream, open_and_closed(&key))
        .cluster(http2_cluster("trailers", address))
        .route(json!({ "match": { "prefix": "/" }, "route": { "cluster": "trailers" } }))
        .start()
        .await
        .unwrap();
    let stream = TcpStream::connect(envoy.address()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let token = key.token("ed", claims(json!({})));
    for (path, authorization) in [("/open", None), ("/closed", Some(&token)), ("/", None)] {
        let mut trailers = HeaderMap::new();
        for name in FORGED {
            let name = name.to_lowercase().parse::<http::HeaderName>().unwrap();
            trailers.append(name, "forged".parse().unwrap());
        }
        trailers.insert("x-checksum", "123".parse().unwrap());
        let body = Full::new(Bytes::from_static(b"body"))
            .with_trailers(std::future::ready(Some(Ok(trailers))));
        let mut request = Request::post(format!("http://a{path}"));
        if let Some(token) = authorization {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let reply = sender
            .send_request(request.body(body).unwrap())
            .await
            .unwrap();
        assert_eq!(reply.status(), 200);
        let trailers = received.recv().await.unwrap();
        let names: Vec<&str> = trailers.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["x-checksum"], "{path}");
    }
}
