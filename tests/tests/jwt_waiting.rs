//! Requests that wait for an issuer's keys on the real Envoy: many of them, with bodies, whose clients
//! leave, while the configuration is replaced; and that no token gets into a log.

mod idp;

use std::time::Duration;

use http::Method;
use idp::{Bearer, Idp, assert_all, assert_refused, send_all, wait_for_active};
use serde_json::json;
use tokio::task::JoinSet;
use tollgate_tests::{
    Algorithm, EchoUpstream, Fault, HttpClient, JWKS_PATH, Listener, RawClient, SigningKey, plugin,
    wait_for, wasm_filter,
};

#[tokio::test]
async fn requests_wait_for_the_first_keys() {
    const REQUESTS: usize = 700;
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    idp.issuer.fail(Fault::Hold);
    let document = idp.document(json!({ "timeout": "1m", "max_wait": "1m" }));
    let envoy = idp
        .gateway(&upstream, document)
        .concurrency(4)
        .start()
        .await
        .unwrap();
    let token = idp.token();
    let mut replies = send_all(&envoy.http1(), &token, REQUESTS / 2);
    // Many on one connection.
    let client = envoy.http2();
    for _ in 0..REQUESTS / 2 {
        replies.spawn(client.get("/").bearer(&token).send());
    }
    let expired = idp.token_with(json!({ "exp": 1 }));
    let refused = tokio::spawn(envoy.http1().get("/").bearer(&expired).send());
    assert_refused(&refused.await.unwrap(), 401, "token-expired");
    let other = SigningKey::new(Algorithm::ES256).token("first", idp.claims());
    let forged = tokio::spawn(envoy.http1().get("/").bearer(&other).send());

    wait_for_active(&envoy, REQUESTS + 1).await;
    idp.issuer.wait_for_count(JWKS_PATH, 1).await;
    assert_eq!(upstream.count(), 0);
    idp.issuer.recover();
    assert_all(replies, 200).await;
    assert_refused(&forged.await.unwrap(), 401, "signature-invalid");
    assert_eq!(upstream.count(), REQUESTS);
    assert_eq!(idp.issuer.count(JWKS_PATH), 1);
    for request in upstream.received() {
        assert_eq!(request.header("authorization"), None);
    }
}

#[tokio::test]
async fn nobody_waits_for_a_token_that_is_not_needed() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    idp.issuer.fail(Fault::Hold);
    let mut document = idp.document(json!({ "timeout": "1m", "max_wait": "1m" }));
    document["apis"] = json!([
        { "name": "both", "match": { "path": "/both" } },
        { "name": "tried-out", "match": { "path": "/tried-out" } },
    ]);
    document["usage_plan"] = json!({
        "plans": { "gold": {} },
        "consumers": [{
            "id": "acme",
            "plan": "gold",
            "keys": [
                // acme-key
                { "sha256": "afacab3575137afa4e00d9cbcafcb14c9ae25f779d964eb0ea5b2c4eb5dfd163" },
            ],
        }],
    });
    document["access"] = json!([
        { "apis": ["both"], "require": { "all_of": ["jwt", "api_key"] } },
        { "apis": ["tried-out"], "require": "jwt", "mode": "shadow" },
        { "require": { "any_of": ["jwt", "api_key"] } },
    ]);
    let envoy = idp.gateway(&upstream, document).start().await.unwrap();
    let client = envoy.http1();
    let token = idp.token_with(json!({ "client_id": "acme" }));
    let with = |path: &str, key: &str| {
        let request = client.fresh().get(path).bearer(&token);
        request.header("x-api-key", key).send()
    };
    let waits = [
        tokio::spawn(with("/", "guess")),
        tokio::spawn(with("/both", "acme-key")),
    ];
    wait_for_active(&envoy, waits.len()).await;
    idp.issuer.wait_for_count(JWKS_PATH, 1).await;
    assert_eq!(with("/", "acme-key").await.status, 200);
    assert_eq!(with("/tried-out", "guess").await.status, 200);
    assert_refused(&with("/both", "guess").await, 401, "api-key-unknown");
    idp.issuer.recover();
    for reply in waits {
        assert_eq!(reply.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_body_that_waits_gets_through_whole() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    idp.issuer.fail(Fault::Hold);
    let document = idp.document(json!({ "timeout": "1m", "max_wait": "1m" }));
    let envoy = idp.gateway(&upstream, document).start().await.unwrap();
    // The larger ones are more than Envoy is willing to hold.
    let bodies = [1, 100_000, 3 << 20].map(|size| {
        let body: Vec<u8> = (0..size).map(|index: u32| (index % 251) as u8).collect();
        body
    });
    let mut replies = JoinSet::new();
    for client in [envoy.http1(), envoy.http2()] {
        for body in &bodies {
            let request = client.fresh().post("/").bearer(&idp.token());
            replies.spawn(request.body(body.clone()).send());
        }
    }
    let mut chunked = envoy.raw().await;
    let head = format!(
        "POST / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\
         transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        idp.token()
    );
    chunked.send(head).await;
    wait_for_active(&envoy, 7).await;
    assert_eq!(upstream.count(), 0);
    idp.issuer.recover();
    assert_all(replies, 200).await;
    chunked.send("5\r\n-full\r\n0\r\n\r\n").await;
    assert_eq!(chunked.read_reply().await.status, 200);
    let received = upstream.received();
    for body in &bodies {
        assert_eq!(
            received
                .iter()
                .filter(|request| request.body == *body)
                .count(),
            2
        );
    }
    assert_eq!(
        received
            .iter()
            .filter(|request| request.body == "half-full")
            .count(),
        1
    );
}

#[tokio::test]
async fn a_request_that_waited_is_charged_once() {
    const LIMIT: usize = 20;
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    idp.issuer.fail(Fault::Hold);
    let mut document = idp.document(json!({ "timeout": "1m", "max_wait": "1m" }));
    document["request_id"] = json!({});
    document["rate_limit"] = json!([
        { "name": "all", "key": "global", "rate": format!("{}/h", LIMIT + 1) },
    ]);
    document["usage_plan"] = json!({
        "plans": { "gold": { "quota": { "limit": LIMIT, "period": "year" } } },
        "token": { "plan": "gold" },
    });
    document["access"] = json!([{ "require": "jwt" }]);
    let envoy = idp
        .gateway(&upstream, document)
        .concurrency(4)
        .start()
        .await
        .unwrap();
    let replies = send_all(&envoy.http1(), &idp.token(), LIMIT);
    wait_for_active(&envoy, LIMIT).await;
    idp.issuer.recover();
    assert_all(replies, 200).await;
    let client = envoy.http1();
    let reply = client.get("/").bearer(&idp.token()).send().await;
    assert_refused(&reply, 429, "quota-exceeded");
    let mut ids: Vec<_> = upstream
        .received()
        .iter()
        .map(|request| request.header("x-request-id").unwrap().to_owned())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), LIMIT);
}

/// A request without a body.
fn get(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n")
}

#[tokio::test]
async fn clients_that_leave_while_they_wait_do_no_harm() {
    const CLIENTS: usize = 40;
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    idp.issuer.fail(Fault::Hold);
    let document = idp.document(json!({ "timeout": "1m", "max_wait": "1m" }));
    let envoy = idp
        .gateway(&upstream, document)
        .concurrency(4)
        .start()
        .await
        .unwrap();
    let mut clients = Vec::new();
    for index in 0..CLIENTS {
        let mut client = envoy.raw().await;
        let request = match index % 4 {
            // Half of a body.
            0 => get("/", &idp.token())
                .replace("GET", "POST")
                .replace("\r\n\r\n", "\r\ncontent-length: 10\r\n\r\nhello"),
            _ => get("/", &idp.token()),
        };
        client.send(request).await;
        clients.push(client);
    }
    wait_for_active(&envoy, CLIENTS).await;
    // On each worker, whoever has connections there.
    let stays = |index: usize| index % 8 == 1 || index % 8 == 6;
    let staying: Vec<RawClient> = clients
        .into_iter()
        .enumerate()
        .filter_map(|(index, client)| stays(index).then_some(client))
        .collect();
    wait_for_active(&envoy, staying.len()).await;
    // Streams of one connection that are reset, and one that is not.
    let client = envoy.http2();
    let kept = tokio::spawn(client.get("/").bearer(&idp.token()).send());
    for _ in 0..10 {
        let request = client.get("/").bearer(&idp.token());
        let left = request.timeout(Duration::from_millis(1)).try_send().await;
        assert!(left.is_err());
    }
    wait_for_active(&envoy, staying.len() + 1).await;

    idp.issuer.recover();
    let expected = staying.len() + 1;
    for mut client in staying {
        assert_eq!(client.read_reply().await.status, 200);
        // The connection is as good as before.
        client.send(get("/", &idp.token())).await;
        assert_eq!(client.read_reply().await.status, 200);
    }
    assert_eq!(kept.await.unwrap().status, 200);
    assert_all(send_all(&envoy.http1(), &idp.token(), 20), 200).await;
    wait_for_active(&envoy, 0).await;
    assert_eq!(upstream.count(), 2 * expected - 1 + 20);
}

#[tokio::test]
async fn clients_may_all_leave_while_they_wait() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    idp.issuer.fail(Fault::Hold);
    let document = idp.document(json!({ "timeout": "1m", "max_wait": "1m" }));
    let envoy = idp
        .gateway(&upstream, document)
        .concurrency(1)
        .start()
        .await
        .unwrap();
    for _ in 0..3 {
        let mut clients = Vec::new();
        for _ in 0..10 {
            let mut client = envoy.raw().await;
            client.send(get("/", &idp.token())).await;
            clients.push(client);
        }
        wait_for_active(&envoy, 10).await;
        drop(clients);
        wait_for_active(&envoy, 0).await;
    }
    idp.issuer.recover();
    assert_all(send_all(&envoy.http1(), &idp.token(), 10), 200).await;
    assert_eq!(upstream.count(), 10);
}

#[tokio::test]
async fn a_request_that_waits_is_answered_in_grpc_too() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    idp.issuer.fail(Fault::Hang);
    let document = idp.document(json!({ "timeout": "1m", "max_wait": "100ms" }));
    let envoy = idp.gateway(&upstream, document).start().await.unwrap();
    let reply = envoy
        .http2()
        .grpc("/bank.Accounts/List", b"x")
        .bearer(&idp.token())
        .send()
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.grpc_status(), Some(14), "{reply:?}");
    assert_eq!(
        reply.grpc_message().as_deref(),
        Some("The token can't be checked at the moment.")
    );
}

#[tokio::test]
async fn requests_that_wait_survive_a_configuration_update() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    idp.issuer.fail(Fault::Hold);
    let document = |realm: &str| {
        let mut document = idp.document(json!({ "timeout": "1m", "max_wait": "1m" }));
        document["jwt_authz"]["token"] = json!({ "realm": realm });
        document
    };
    let mut envoy = idp
        .gateway(&upstream, document("before"))
        .dynamic_listener()
        .drain_time(Duration::from_secs(2))
        .start()
        .await
        .unwrap();
    let replies = send_all(&envoy.http1(), &idp.token(), 20);
    wait_for_active(&envoy, 20).await;
    let filter = wasm_filter("tollgate", plugin("tollgate"), document("after"));
    let listener = Listener::new().filter(filter);
    let admin = envoy.admin_url();
    let admin = HttpClient::http1(admin.strip_prefix("http://").unwrap().parse().unwrap());
    let update = async {
        envoy.update_listener(&listener).await.unwrap();
        envoy
    };
    let release = async {
        wait_for("the old listener to go, with its requests", async || {
            let stats = admin.get("/stats?filter=_draining$").send().await;
            stats.text().contains(": 1").then_some(())
        })
        .await;
        idp.issuer.recover();
    };
    let (envoy, ()) = tokio::join!(update, release);
    assert_all(replies, 200).await;
    assert_all(send_all(&envoy.http1(), &idp.token(), 20), 200).await;
    assert_eq!(idp.issuer.count(JWKS_PATH), 1);
}

#[tokio::test]
async fn no_token_is_logged() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    idp.issuer.fail(Fault::Hold);
    let mut document = idp.document(json!({ "timeout": "1m", "max_wait": "1m" }));
    document["jwt_authz"]["token"] = json!({
        "headers": ["authorization", "x-token"],
        "query": "access_token",
        "cookies": "token",
    });
    document["jwt_authz"]["payload_header"] = json!("x-payload");
    // A claim that no header can have is mentioned in the log.
    document["jwt_authz"]["providers"][0]["claims_to_headers"] =
        json!([{ "claim": "sub", "header": "x-sub" }]);
    let envoy = idp
        .gateway(&upstream, document)
        // Envoy itself logs all headers at this level, so it is that of the plugins alone.
        .arg("--component-log-level")
        .arg("wasm:debug")
        .map_listener(|listener| {
            let listener = listener.log_field("cookie", "%REQ(COOKIE)%");
            let listener = listener.log_field("token", "%REQ(X-TOKEN)%");
            listener.log_field("authorization", "%REQ(AUTHORIZATION)%")
        })
        .start()
        .await
        .unwrap();
    let good = idp.token_with(json!({ "sub": "line\nbreak" }));
    let forged = SigningKey::new(Algorithm::ES256).token("first", idp.claims());
    let tokens = [good, forged, idp.token_with(json!({ "exp": 1 }))];
    let requests = |client: &HttpClient, token: &str| {
        [
            client.get("/a").bearer(token),
            client.get("/a").header("x-token", token),
            client
                .get("/a")
                .header("cookie", format!("a=b; token={token}")),
            client.get(&format!("/a?access_token={token}&b=c")),
            client.get(&format!("/a?access_token={token}&access_token={token}")),
            client.request(Method::OPTIONS, &format!("/a?access_token={token}")),
        ]
    };
    // Some leave while they wait for keys, which is all but the one with two tokens.
    let mut leaving = JoinSet::new();
    for request in requests(&envoy.http1(), &tokens[0]) {
        leaving.spawn(request.try_send());
    }
    wait_for_active(&envoy, 5).await;
    leaving.shutdown().await;
    wait_for_active(&envoy, 0).await;
    let mut entries = 6;
    idp.issuer.recover();
    for token in &tokens {
        for request in requests(&envoy.http1(), token) {
            request.send().await;
            entries += 1;
        }
    }
    let log = envoy.wait_for_access_log(entries).await;
    assert!(envoy.log().contains("no header x-sub"), "{}", envoy.log());
    for token in &tokens {
        for part in token.split('.').skip(1) {
            let entry = log.iter().find(|entry| format!("{entry:?}").contains(part));
            assert!(entry.is_none(), "{entry:?}");
            assert!(!envoy.log().contains(part), "a token is in Envoy's log");
            assert!(!envoy.stdout().contains(part));
        }
    }
}

#[tokio::test]
async fn refusing_all_that_wait_at_once_does_the_worker_no_harm() {
    const REQUESTS: usize = 900;
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    idp.issuer.fail(Fault::Hold);
    let document = idp.document(json!({ "timeout": "1m", "max_wait": "1m" }));
    let envoy = idp
        .gateway(&upstream, document)
        .concurrency(1)
        .start()
        .await
        .unwrap();
    let forged = SigningKey::new(Algorithm::ES256).token("nobody", idp.claims());
    let client = envoy.http2();
    let mut replies = JoinSet::new();
    for _ in 0..REQUESTS {
        replies.spawn(client.get("/").bearer(&forged).send());
    }
    wait_for_active(&envoy, REQUESTS).await;
    idp.issuer.recover();
    assert_all(replies, 401).await;
    // The same VM goes on.
    assert_eq!(
        envoy
            .http1()
            .get("/")
            .bearer(&idp.token())
            .send()
            .await
            .status,
        200
    );
    assert!(!envoy.log().contains("RangeError"));
}

#[tokio::test]
async fn so_many_may_wait_and_no_more() {
    const MOST: usize = 1000;
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    idp.issuer.fail(Fault::Hold);
    let document = idp.document(json!({ "timeout": "1m", "max_wait": "1m" }));
    let envoy = idp
        .gateway(&upstream, document)
        .concurrency(1)
        .start()
        .await
        .unwrap();
    let token = idp.token();
    let client = envoy.http2();
    let mut replies = JoinSet::new();
    for _ in 0..MOST {
        replies.spawn(client.get("/").bearer(&token).send());
    }
    wait_for_active(&envoy, MOST).await;
    let reply = client.get("/").bearer(&token).send().await;
    assert_refused(&reply, 503, "gateway-crowded");
    assert_eq!(reply.header("retry-after"), Some("1"));
    idp.issuer.recover();
    assert_all(replies, 200).await;
}
