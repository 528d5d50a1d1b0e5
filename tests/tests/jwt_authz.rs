//! Tokens on the real Envoy: which are accepted, how the others are refused, and what the upstream
//! learns from them.

mod idp;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use http::Method;
use idp::{AUDIENCE, Bearer, CHALLENGE, ISSUER, assert_refused, claims, document, gateway};
use serde_json::{Value, json};
use tollgate_tests::{
    Algorithm, EchoUpstream, Reply, SigningKey, base64url, hs256_token, merge, replace_segment,
    tamper_signature, unix_time,
};

/// Checks that a token is refused as such, with these words.
fn assert_invalid(what: &str, reply: &Reply, kind: &str, description: &str) {
    println!("{what}: {}", reply.text());
    assert_refused(reply, 401, kind);
    let challenge =
        format!("{CHALLENGE}, error=\"invalid_token\", error_description=\"{description}\"");
    assert_eq!(
        reply.header_values("www-authenticate"),
        [challenge.as_str()]
    );
    assert_eq!(reply.json()["detail"], description);
}

#[tokio::test]
async fn each_algorithm_is_accepted_where_it_is_listed() {
    let upstream = EchoUpstream::start().await;
    let keys = Algorithm::ALL.map(SigningKey::new);
    let jwks: Vec<Value> = keys
        .iter()
        .map(|key| key.jwk(key.algorithm().name()))
        .collect();
    let issuer = |algorithm: Algorithm| format!("https://{}.example", algorithm.name());
    let providers = Algorithm::ALL.map(|algorithm| {
        json!({
            "name": algorithm.name().to_lowercase(),
            "issuer": issuer(algorithm),
            "audiences": AUDIENCE,
            "algorithms": algorithm.name(),
            "jwks": { "inline": { "keys": jwks } },
        })
    });
    let document = json!({ "jwt_authz": { "providers": providers } });
    let envoy = gateway("jwt-authz", &upstream, document)
        .start()
        .await
        .unwrap();
    let client = envoy.http1();
    for listed in Algorithm::ALL {
        for key in &keys {
            let signed = key.algorithm().name();
            let what = format!("{signed} where {} is listed", listed.name());
            let token = key.token(signed, claims(json!({ "iss": issuer(listed) })));
            let reply = client.get("/").bearer(&token).send().await;
            if key.algorithm() != listed {
                let description = "The token's signature algorithm is not accepted here.";
                assert_invalid(&what, &reply, "algorithm-not-allowed", description);
                continue;
            }
            assert_eq!(reply.status, 200, "{what}: {reply:?}");
            let other = claims(json!({ "iss": issuer(listed), "sub": "mallory" }));
            let signature = token.rsplit('.').next().unwrap();
            let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
            let with_signature = |bytes: &[u8]| replace_segment(&token, 2, &base64url(bytes));
            for (how, forged) in [
                ("another signature", tamper_signature(&token)),
                (
                    "other claims",
                    replace_segment(&token, 1, &base64url(other.to_string())),
                ),
                ("another key", key.successor().token(signed, other.clone())),
                (
                    "a signature cut short",
                    with_signature(&bytes[..bytes.len() - 1]),
                ),
                (
                    "a longer signature",
                    with_signature(&[&bytes[..], &[0]].concat()),
                ),
                (
                    "a signature of zeros",
                    with_signature(&vec![0; bytes.len()]),
                ),
                ("a signature of one byte", with_signature(&[0])),
            ] {
                let reply = client.get("/").bearer(&forged).send().await;
                let what = format!("{signed} with {how}");
                assert_invalid(
                    &what,
                    &reply,
                    "signature-invalid",
                    "The token's signature is not valid.",
                );
            }
            let reply = client.get("/").bearer(&token).send().await;
            assert_eq!(reply.status, 200, "{what}: {reply:?}");
        }
    }
    assert_eq!(upstream.count(), 2 * Algorithm::ALL.len());
}

/// An ECDSA signature as X.509 has it, which JWS does not: a DER sequence of r and s.
fn der_signature(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = signature.split_at(signature.len() / 2);
    let integer = |number: &[u8]| {
        let number: Vec<u8> = number
            .iter()
            .copied()
            .skip_while(|byte| *byte == 0)
            .collect();
        let sign: &[u8] = if number[0] >= 0x80 { &[0] } else { &[] };
        [&[2, (sign.len() + number.len()) as u8], sign, &number].concat()
    };
    let both = [integer(r), integer(s)].concat();
    let der = [&[0x30, both.len() as u8], &both[..]].concat();
    format!("{message}.{}", base64url(der))
}

#[tokio::test]
async fn a_bad_token_is_refused_with_the_reason() {
    let upstream = EchoUpstream::start().await;
    let (es, rs) = (
        SigningKey::new(Algorithm::ES256),
        SigningKey::new(Algorithm::RS256),
    );
    let (ps, attacker) = (
        SigningKey::new(Algorithm::PS256),
        SigningKey::new(Algorithm::ES256),
    );
    let keys = [es.jwk("es"), rs.jwk("rs"), rs.successor().jwk("rs2")];
    let mut document = document(json!(["ES256", "RS256"]), &keys);
    document["jwt_authz"]["providers"][0]["max_lifetime"] = json!("2h");
    let envoy = gateway("tollgate", &upstream, document)
        .concurrency(3)
        .start()
        .await
        .unwrap();

    let now = unix_time();
    let good = es.token("es", claims(json!({})));
    let payload = base64url(claims(json!({})).to_string());
    let with_claims = |others: Value| es.token("es", claims(others));
    let without = |name: &str| {
        let mut claims = claims(json!({}));
        claims.as_object_mut().unwrap().remove(name);
        es.token("es", claims)
    };
    let with_header = |others: Value| {
        let mut header = json!({ "alg": "ES256", "kid": "es" });
        merge(&mut header, &others);
        es.token_with_header(header, claims(json!({})))
    };
    let signed =
        |header: &str, payload: &str| es.sign_segments(&base64url(header), &base64url(payload));
    let unsigned = |alg: &str| {
        format!(
            "{}.{payload}.",
            base64url(json!({ "alg": alg }).to_string())
        )
    };
    let segment = |index: usize| good.split('.').nth(index).unwrap();
    let padded = |index: usize| {
        let bytes = URL_SAFE_NO_PAD.decode(segment(index)).unwrap();
        let padded = URL_SAFE.encode([&bytes[..], b"      "].concat());
        let padded = if padded.ends_with('=') {
            padded
        } else {
            URL_SAFE.encode([&bytes[..], b"    "].concat())
        };
        replace_segment(&good, index, &padded)
    };
    // Other bits where base64 has none: the same bytes, another text.
    let uncanonical = {
        let mut text = segment(2).to_owned();
        let last = text.pop().unwrap();
        text.push(if last == 'A' {
            'B'
        } else {
            char::from(last as u8 + 1)
        });
        replace_segment(&good, 2, &text)
    };
    let algorithm = (
        "algorithm-not-allowed",
        "The token's signature algorithm is not accepted here.",
    );
    let signature = ("signature-invalid", "The token's signature is not valid.");
    let malformed = |detail: &'static str| ("token-malformed", detail);
    let empty = malformed("A segment of the token is empty.");
    let segments = malformed("The token does not have three segments separated by dots.");
    let audience = ("audience-mismatch", "The token is for another audience.");
    let issuer = ("issuer-unknown", "The token's issuer is not accepted here.");
    let expired = ("token-expired", "The token has expired.");
    let unknown = (
        "key-unknown",
        "The token is signed with a key that its issuer does not publish.",
    );
    let crit = |detail: &'static str| ("token-extension-unsupported", detail);

    let mut table = vec![
        ("none", unsigned("none"), empty),
        ("none with a signature", format!("{}AAAA", unsigned("none")), algorithm),
        ("None", format!("{}AAAA", unsigned("None")), algorithm),
        ("an unknown algorithm", format!("{}AAAA", unsigned("XX256")), algorithm),
        ("HS256 and the PEM", hs256_token(rs.public_pem().as_bytes(), "rs", claims(json!({}))), algorithm),
        ("HS256 and the modulus", hs256_token(keys[1]["n"].as_str().unwrap().as_bytes(), "rs", claims(json!({}))), algorithm),
        ("HS256 and nothing", hs256_token(b"", "rs", claims(json!({}))), algorithm),
        ("an RSA key with PS256", ps.token("rs", claims(json!({}))), algorithm),
        ("ES256 and an RSA key", with_header(json!({ "kid": "rs" })), ("key-unfit", "The issuer has no key for the token's signature algorithm.")),
        ("RS256 without kid", rs.token_with_header(json!({ "alg": "RS256" }), claims(json!({}))), ("key-ambiguous", "The token does not say which of several keys it is signed with.")),
        ("an unknown kid", with_header(json!({ "kid": "../../es" })), unknown),
        ("an empty kid", with_header(json!({ "kid": "" })), unknown),
        ("another key", attacker.token("es", claims(json!({}))), signature),
        ("its own key", attacker.token_with_header(json!({ "alg": "ES256", "kid": "es", "jwk": attacker.jwk("es") }), claims(json!({}))), signature),
        ("its own key's address", attacker.token_with_header(json!({ "alg": "ES256", "jku": "https://evil.example/", "x5u": "https://evil.example/" }), claims(json!({}))), signature),
        ("a DER signature", der_signature(&good), signature),
        ("expired", with_claims(json!({ "exp": now - 61 })), expired),
        ("expired in 1970", with_claims(json!({ "exp": 0 })), expired),
        ("not valid yet", with_claims(json!({ "nbf": now + 120 })), ("token-not-yet-valid", "The token is not valid yet.")),
        ("issued in the future", with_claims(json!({ "iat": now + 120 })), ("token-issued-in-future", "The token is issued in the future.")),
        ("valid for ever", with_claims(json!({ "exp": 1e300 })), ("token-lifetime-too-long", "The token is valid for longer than is accepted here.")),
        ("no exp", without("exp"), ("claim-missing", "The token's exp claim is missing.")),
        ("exp as text", with_claims(json!({ "exp": format!("{}", now + 3_600) })), ("claim-malformed", "The token's exp claim has the wrong type.")),
        ("sub as a number", with_claims(json!({ "sub": 7 })), ("claim-malformed", "The token's sub claim has the wrong type.")),
        ("another audience", with_claims(json!({ "aud": "other" })), audience),
        ("an audience in upper case", with_claims(json!({ "aud": AUDIENCE.to_uppercase() })), audience),
        ("no audience", without("aud"), audience),
        ("an audience that is no text", with_claims(json!({ "aud": [AUDIENCE, 1] })), ("claim-malformed", "The token's aud claim has the wrong type.")),
        ("another issuer", with_claims(json!({ "iss": "https://idp.bank.example" })), issuer),
        ("no issuer", without("iss"), issuer),
        ("an issuer that is a list", with_claims(json!({ "iss": [ISSUER] })), issuer),
        ("another type", with_header(json!({ "typ": "logout+jwt" })), ("token-type-mismatch", "The token's typ is not accepted here.")),
        ("crit", with_header(json!({ "crit": ["exp"], "exp": 1 })), crit("The token has a critical extension that is not understood.")),
        ("an empty crit", with_header(json!({ "crit": [] })), crit("The token's crit is empty.")),
        ("b64", with_header(json!({ "b64": false })), crit("Tokens with an unencoded payload are not accepted.")),
        ("zip", with_header(json!({ "zip": "DEF" })), ("token-encrypted", "Encrypted tokens are not accepted.")),
        ("five segments", "a.b.c.d.e".to_owned(), ("token-encrypted", "Encrypted tokens are not accepted.")),
        ("a header member twice", signed(r#"{"alg":"none","alg":"ES256","kid":"es"}"#, &claims(json!({})).to_string()), malformed("The token's header has a member twice.")),
        ("a claim twice", signed(r#"{"alg":"ES256","kid":"es"}"#, &claims(json!({})).to_string().replacen('{', r#"{"iss":"x","#, 1)), malformed("The token's payload has a member twice.")),
        ("a claim twice, escaped", signed(r#"{"alg":"ES256","kid":"es"}"#, &claims(json!({})).to_string().replacen('{', r#"{"\u0069ss":"x","#, 1)), malformed("The token's payload has a member twice.")),
        ("claims that are a list", signed(r#"{"alg":"ES256","kid":"es"}"#, "[]"), malformed("The token's payload is not a JSON object.")),
        ("claims that are no JSON", signed(r#"{"alg":"ES256","kid":"es"}"#, "{\"iss\":"), malformed("The token's payload is not JSON.")),
        ("deep claims", signed(r#"{"alg":"ES256","kid":"es"}"#, &format!("{{\"a\":{}1{}}}", "[".repeat(3_000), "]".repeat(3_000))), malformed("The token's payload is nested too deeply.")),
        ("a padded header", padded(0), malformed("The token's header is not base64url without padding.")),
        ("a padded payload", padded(1), malformed("The token's payload is not base64url without padding.")),
        ("a padded signature", padded(2), malformed("The token's signature is not base64url without padding.")),
        ("another text for the same signature", uncanonical, malformed("The token's signature is not base64url without padding.")),
        ("the other base64", replace_segment(&good, 2, &STANDARD.encode([0xff; 64])), malformed("The token's signature is not base64url without padding.")),
        ("white space", good.replacen('.', " .", 1), malformed("The token's header is not base64url without padding.")),
        ("two segments", good.rsplit_once('.').unwrap().0.to_owned(), segments),
        ("four segments", format!("{good}.AAAA"), segments),
        ("no dot", "0123456789abcdef".to_owned(), segments),
        ("dots", "..".to_owned(), empty),
        ("a long token", with_claims(json!({ "pad": "x".repeat(16 << 10) })), ("token-too-long", "The token is too long.")),
    ];
    for name in ["alg", "kid", "typ", "cty"] {
        let detail = match name {
            "alg" => "The token's header has no alg that is text.",
            "kid" => "The token's kid is not text of at most 256 bytes.",
            "typ" => "The token's typ is not text.",
            _ => "The token's cty is not text.",
        };
        table.push((
            "a header member that is no text",
            with_header(json!({ name: ["x"] })),
            malformed(detail),
        ));
    }

    for client in [envoy.http1(), envoy.http2()] {
        assert_eq!(client.get("/").bearer(&good).send().await.status, 200);
        for (what, token, (kind, description)) in &table {
            let reply = client.get("/").bearer(token).send().await;
            assert_invalid(what, &reply, kind, description);
        }
        assert_eq!(client.get("/").bearer(&good).send().await.status, 200);
    }
    assert_eq!(upstream.count(), 4);

    // Within the skew, as a list, without kid where one key fits, of any case.
    for token in [
        with_claims(json!({ "exp": now - 30 })),
        with_claims(json!({ "aud": ["other", AUDIENCE] })),
        with_header(json!({ "typ": "at+jwt" })),
        with_header(json!({ "typ": "jwt", "x": { "y": 1 } })),
        es.token_with_header(json!({ "alg": "ES256" }), claims(json!({}))),
    ] {
        let request = envoy
            .http1()
            .get("/")
            .header("authorization", format!("bEARER  {token}"));
        let reply = request.send().await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    // What no proper client sends.
    for (bytes, kind) in [
        (&b"a.\xff\xfe.c"[..], "token-malformed"),
        (b"\xe9", "token-malformed"),
        (b"a\tb.c.d", "token-malformed"),
    ] {
        let mut client = envoy.raw().await;
        let head = &b"GET / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer "[..];
        client.send([head, bytes, b"\r\n\r\n"].concat()).await;
        let reply = client.read_reply().await;
        assert_eq!(reply.status, 401, "{reply:?}");
        assert!(reply.text().contains(kind), "{}", reply.text());
    }
}

#[tokio::test]
async fn one_token_is_sent_in_one_place() {
    let upstream = EchoUpstream::start().await;
    let key = SigningKey::new(Algorithm::EdDSA);
    let mut document = document(json!("EdDSA"), &[key.jwk("ed")]);
    document["jwt_authz"]["token"] = json!({
        "headers": ["authorization", "x-token"],
        "query": "access_token",
        "cookies": "token",
        "realm": "the \"bank\"",
    });
    let envoy = gateway("jwt-authz", &upstream, document)
        .start()
        .await
        .unwrap();
    let token = key.token("ed", claims(json!({})));
    let challenge = r#"Bearer realm="the \"bank\"""#;
    let query = format!("/a?x=1&access_token={token}&y=2");
    for client in [envoy.http1(), envoy.http2()] {
        for (request, path, cookie) in [
            (client.get("/a?x=1&y=2").bearer(&token), "/a?x=1&y=2", None),
            (
                client.get("/a").header("x-token", token.as_str()),
                "/a",
                None,
            ),
            (client.get(&query), "/a?x=1&y=2", None),
            (
                client
                    .get("/a")
                    .header("cookie", format!("a=b; token={token}; c=d")),
                "/a",
                Some("a=b; c=d"),
            ),
            (
                client.get("/a").header("cookie", format!("token={token}")),
                "/a",
                None,
            ),
        ] {
            let reply = request.send().await;
            assert_eq!(reply.status, 200, "{reply:?}");
            let echo = reply.echo();
            assert_eq!(echo.path, path);
            assert_eq!(echo.header("cookie"), cookie);
            assert_eq!(
                (echo.header("authorization"), echo.header("x-token")),
                (None, None)
            );
        }
        let basic = client.get("/a").header("authorization", "Basic YTpi");
        let reply = basic.header("x-token", token.as_str()).send().await;
        assert_eq!(reply.echo().header("authorization"), Some("Basic YTpi"));

        for (request, kind) in [
            (
                client.get("/").bearer(&token).bearer(&token),
                "token-repeated",
            ),
            (
                client.get("/").bearer(&token).bearer("other"),
                "token-repeated",
            ),
            (
                client
                    .get("/")
                    .header("authorization", "Basic YTpi")
                    .bearer(&token),
                "token-repeated",
            ),
            (
                client
                    .get("/")
                    .bearer(&token)
                    .header("x-token", token.as_str()),
                "token-repeated",
            ),
            (client.get(&query).bearer(&token), "token-repeated"),
            (
                client
                    .get(&query)
                    .header("cookie", format!("token={token}")),
                "token-repeated",
            ),
            (
                client.get(&format!("{query}&access%5Ftoken=")),
                "token-repeated",
            ),
            (
                client.get("/").bearer(&format!("{token}, Bearer {token}")),
                "token-repeated",
            ),
            (
                client.get("/").bearer(&format!("{token},{token}")),
                "token-repeated",
            ),
            (
                client.get("/").header("authorization", "Bearer"),
                "token-empty",
            ),
            (client.get("/").header("x-token", ""), "token-empty"),
            (client.get("/?access_token"), "token-empty"),
        ] {
            let reply = request.send().await;
            assert_refused(&reply, 400, kind);
            let detail = reply.json()["detail"].as_str().unwrap().to_owned();
            assert_eq!(
                reply.header("www-authenticate").unwrap(),
                format!("{challenge}, error=\"invalid_request\", error_description=\"{detail}\"")
            );
        }
        let reply = client
            .get("/")
            .header("authorization", "Basic YTpi")
            .send()
            .await;
        assert_refused(&reply, 401, "credentials-missing");
        assert_eq!(reply.header_values("www-authenticate"), [challenge]);
    }
}

#[tokio::test]
async fn shadow_mode_denies_nothing_and_leaves_the_token() {
    let upstream = EchoUpstream::start().await;
    let key = SigningKey::new(Algorithm::EdDSA);
    let mut document = document(json!("EdDSA"), &[key.jwk("ed")]);
    document["jwt_authz"]["mode"] = json!("shadow");
    let envoy = gateway("tollgate", &upstream, document)
        .start()
        .await
        .unwrap();
    let expired = key.token("ed", claims(json!({ "exp": 1 })));
    let client = envoy.http1();
    for request in [client.get("/"), client.get("/").bearer(&expired)] {
        assert_eq!(request.send().await.status, 200);
    }
    let received = upstream.received();
    assert_eq!(received[0].header("authorization"), None);
    assert_eq!(
        received[1].header("authorization"),
        Some(format!("Bearer {expired}").as_str())
    );
    let log = envoy.wait_for_access_log(2).await;
    let seen: Vec<_> = log
        .iter()
        .map(|entry| {
            (
                entry.decision.as_deref().unwrap(),
                entry.reason.as_deref().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("would_deny", "credentials-missing"),
            ("would_deny", "token-expired")
        ]
    );
}

#[tokio::test]
async fn a_method_is_no_way_around_the_token() {
    let upstream = EchoUpstream::start().await;
    let key = SigningKey::new(Algorithm::EdDSA);
    let document = document(json!("EdDSA"), &[key.jwk("ed")]);
    let envoy = gateway("jwt-authz", &upstream, document)
        .start()
        .await
        .unwrap();
    for method in ["GET", "HEAD", "POST", "OPTIONS", "TRACE", "PROPFIND", "get"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = envoy.http2().request(method, "/");
        let preflight = request
            .header("origin", "https://a.example")
            .header("access-control-request-method", "GET");
        assert_eq!(preflight.send().await.status, 401);
    }
    assert_eq!(upstream.count(), 0);
}
