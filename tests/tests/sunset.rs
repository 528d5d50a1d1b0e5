//! The life of API versions on the real Envoy, by its clock.

mod common;

use common::sha256;
use serde_json::{Value, json};
use tollgate_tests::{
    EchoUpstream, Envoy, EnvoyBuilder, HttpClient, Reply, cluster, plugin, unix_time, wasm_filter,
};

const DOCS: &str = "https://dev.bank.example/v2";

/// An instant so many seconds from now, as configurations have it (RFC 3339).
fn instant(from_now: i64) -> String {
    rfc3339(unix_time() + from_now)
}

fn rfc3339(seconds: i64) -> String {
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let rest = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The date of a day, counted from 1970-01-01, by the days of each year and month.
fn civil(mut days: i64) -> (i64, usize, i64) {
    let is_leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let mut year = 1970;
    while days >= 365 + i64::from(is_leap(year)) {
        days -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + i64::from(is_leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month + 1, days + 1)
}

#[test]
fn instants_are_written_as_configurations_have_them() {
    assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
    assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
    assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
    assert_eq!(rfc3339(1_789_430_400), "2026-09-15T00:00:00Z");
}

const DAY: i64 = 86_400;

/// A document for the full plugin: the API `accounts` at `/v1/accounts`, the consumers `acme` and
/// `beta`, whose keys are `acme-key` and `beta-key`, others without a key, and this life.
fn document(life: Value) -> Value {
    let mut version = json!({
        "api": "accounts",
        "deprecated": "2020-09-15T00:00:00Z",
        "sunset": "2100-03-15T00:00:00Z",
        "successor": "/v2/accounts/{**}",
        "docs": DOCS,
    });
    tollgate_tests::merge(&mut version, &life);
    let consumer = |id: &str| {
        let key = sha256(&format!("{id}-key"));
        json!({ "id": id, "plan": "gold", "keys": [{ "sha256": key }] })
    };
    json!({
        "apis": [{ "name": "accounts", "match": [{ "path": "/v1/accounts/{**}" }] }],
        "request_id": {},
        "problem_details": { "wrap": ["gateway", "upstream_bare_5xx"] },
        "usage_plan": {
            "key": { "header": "x-api-key", "query": "key" },
            "plans": { "gold": {} },
            "anonymous": { "plan": "gold" },
            "consumers": [consumer("acme"), consumer("beta")],
        },
        "sunset": [version],
    })
}

fn gateway(upstream: &EchoUpstream, life: Value) -> EnvoyBuilder {
    let closed = "127.0.0.1:1".parse().unwrap();
    Envoy::builder()
        .upstream(upstream)
        .cluster(cluster("refused", closed))
        .route(json!({
            "match": { "path": "/v1/accounts/refused" },
            "route": { "cluster": "refused" },
        }))
        .filter(wasm_filter("tollgate", plugin("tollgate"), document(life)))
        .map_listener(|listener| {
            listener.log_field("stage", "%FILTER_STATE(wasm.tollgate_lifecycle:PLAIN)%")
        })
}

fn links(path: &str) -> String {
    format!(
        "<{DOCS}>; rel=\"deprecation\", <{DOCS}>; rel=\"sunset\", \
         <{path}>; rel=\"successor-version\""
    )
}

/// What is announced, each once and in our words.
fn assert_announced(reply: &Reply, successor: &str) {
    assert_eq!(
        reply.header_values("deprecation"),
        ["@1600128000"],
        "{reply:?}"
    );
    assert_eq!(
        reply.header_values("sunset"),
        ["Mon, 15 Mar 2100 00:00:00 GMT"]
    );
    assert_eq!(reply.header_values("link"), [links(successor)]);
    assert_eq!(reply.header_values("x-request-id").len(), 1);
}

async fn get(client: &HttpClient, path: &str, key: &str) -> Reply {
    client.get(path).header("x-api-key", key).send().await
}

#[tokio::test]
async fn every_answer_announces_what_is_to_come() {
    let upstream = EchoUpstream::start().await;
    let envoy = gateway(&upstream, json!({})).start().await.unwrap();
    for client in [envoy.http1(), envoy.http2()] {
        let fine = client.get("/v1/accounts/42?a=b").send().await;
        assert_eq!(fine.status, 200);
        assert_announced(&fine, "/v2/accounts/42?a=b");
        // No credential is repeated.
        let keyed = client.get("/v1/accounts/42?key=acme-key&a=b").send().await;
        assert_announced(&keyed, "/v2/accounts/42?a=b");
        // The upstream's errors, as they are and replaced; our own refusal; and Envoy's failure.
        for (path, status, key, echo) in [
            ("/v1/accounts/42", 404, None, "404"),
            ("/v1/accounts/42", 500, None, "500"),
            ("/v1/accounts/42", 401, Some("a-guess"), "200"),
            ("/v1/accounts/refused", 503, None, "200"),
        ] {
            for method in [http::Method::GET, http::Method::HEAD] {
                let mut request = client
                    .request(method.clone(), path)
                    .header("x-echo-status", echo);
                if let Some(key) = key {
                    request = request.header("x-api-key", key);
                }
                let reply = request.send().await;
                assert_eq!(reply.status, status, "{reply:?}");
                assert_announced(&reply, &path.replace("v1", "v2"));
                if status != 404 && method == http::Method::GET {
                    assert_eq!(reply.json()["status"], status);
                }
            }
        }
        let streamed = client
            .get("/v1/accounts/42")
            .header("x-echo-body-size", "3000000");
        let streamed = streamed.send().await;
        assert_eq!(streamed.body.len(), 3_000_000);
        assert_announced(&streamed, "/v2/accounts/42");
        // Nothing else has an end.
        let other = client.get("/v2/accounts/42").send().await;
        for name in ["deprecation", "sunset", "link"] {
            assert_eq!(other.header(name), None);
        }
    }
}

#[tokio::test]
async fn the_upstreams_own_words_go_together_with_ours() {
    let upstream = EchoUpstream::start().await;
    let envoy = gateway(&upstream, json!({})).start().await.unwrap();
    for client in [envoy.http1(), envoy.http2()] {
        for status in ["200", "404"] {
            let ask = |headers: &[&str]| {
                let request = client
                    .get("/v1/accounts/42")
                    .header("x-echo-status", status);
                headers
                    .iter()
                    .fold(request, |request, header| {
                        request.header("x-echo-header", *header)
                    })
                    .send()
            };
            let earlier = ask(&[
                "deprecation: @1500000000",
                "sunset: Sun, 31 Jan 2027 00:00:00 GMT",
                "link: </v2/accounts/42>; rel=\"successor-version\"",
                "link: </help>; rel=\"help\"",
            ])
            .await;
            assert_eq!(earlier.header_values("deprecation"), ["@1500000000"]);
            assert_eq!(
                earlier.header_values("sunset"),
                ["Sun, 31 Jan 2027 00:00:00 GMT"]
            );
            let links = earlier.header_values("link").join(", ");
            assert_eq!(links.matches("successor-version").count(), 1, "{links}");
            for rel in ["help", "deprecation", "sunset"] {
                assert!(links.contains(&format!("rel=\"{rel}\"")), "{links}");
            }
            let later = ask(&[
                "deprecation: @4000000000",
                "sunset: Sat, 31 Jan 2150 00:00:00 GMT",
            ])
            .await;
            assert_announced(&later, "/v2/accounts/42");
            let broken = ask(&["deprecation: soon", "sunset: tomorrow"]).await;
            assert_announced(&broken, "/v2/accounts/42");
        }
    }
}

#[tokio::test]
async fn after_the_end_callers_are_told_where_to_go() {
    let upstream = EchoUpstream::start().await;
    let gone = json!({ "sunset": instant(-DAY) });
    let envoy = gateway(&upstream, gone).start().await.unwrap();
    for client in [envoy.http1(), envoy.http2()] {
        let reply = client
            .get("/v1/accounts/42/cards?page=2&key=acme-key")
            .send()
            .await;
        assert_eq!(reply.status, 410);
        assert_eq!(
            reply.header("content-type"),
            Some("application/problem+json")
        );
        let problem = reply.json();
        assert_eq!(problem["kind"], "api-retired");
        let successor = "/v2/accounts/42/cards?page=2";
        assert_eq!(problem["successor"], successor);
        assert_eq!(reply.header_values("link"), [links(successor)]);
        assert_eq!(reply.header_values("deprecation"), ["@1600128000"]);
        assert_eq!(reply.header_values("sunset").len(), 1);
        let head = client
            .request(http::Method::HEAD, "/v1/accounts/42")
            .send()
            .await;
        assert_eq!((head.status.as_u16(), head.body.len()), (410, 0));
        assert_eq!(client.get("/v2/accounts/42").send().await.status, 200);
    }
    assert_eq!(upstream.count(), 2);
    let log = envoy.wait_for_access_log(6).await;
    let ended = log.iter().find(|entry| entry.status == 410).unwrap();
    assert_eq!(ended.details.as_deref(), Some("tollgate{api-retired}"));
    assert_eq!(ended.reason.as_deref(), Some("api-retired"));
    assert_eq!(ended.extra["stage"], "retired");
    assert!(!format!("{log:?}{}", envoy.log()).contains("acme-key"));
}

#[tokio::test]
async fn the_end_may_lead_on_or_be_a_hint() {
    let upstream = EchoUpstream::start().await;
    let moved = json!({ "sunset": instant(-DAY), "after_sunset": "redirect" });
    let envoy = gateway(&upstream, moved).start().await.unwrap();
    for client in [envoy.http1(), envoy.http2()] {
        let reply = client
            .post("/v1/accounts/42?a=b&key=acme-key")
            .body("{}")
            .send()
            .await;
        assert_eq!(reply.status, 308);
        assert_eq!(reply.header_values("location"), ["/v2/accounts/42?a=b"]);
        // Where it leads to is served.
        let there = client
            .post(reply.header("location").unwrap())
            .body("{}")
            .send()
            .await;
        assert_eq!(there.echo().path, "/v2/accounts/42?a=b");
        assert_eq!(there.echo().body_length, 2);
    }
    let passes = json!({ "sunset": instant(-DAY), "after_sunset": "pass" });
    let envoy = gateway(&upstream, passes).start().await.unwrap();
    let reply = envoy.http1().get("/v1/accounts/42").send().await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header_values("sunset").len(), 1);
}

#[tokio::test]
async fn brownouts_last_as_long_as_they_say() {
    let upstream = EchoUpstream::start().await;
    // It began ten minutes ago, and the tests end before it does.
    let began = instant(-600);
    for (brownout, status, kind) in [
        (json!({ "from": began, "for": "12h" }), 410, "api-brownout"),
        (
            json!({ "from": began, "until": instant(DAY / 2), "answer": "unavailable" }),
            503,
            "api-unavailable",
        ),
    ] {
        // Another one is yet to come.
        let later = json!({ "from": instant(DAY), "for": "1h" });
        let life =
            json!({ "brownouts": [later, brownout], "grace": { "acme": "2110-01-01T00:00:00Z" } });
        let envoy = gateway(&upstream, life).start().await.unwrap();
        for client in [envoy.http1(), envoy.http2()] {
            let reply = get(&client, "/v1/accounts/42", "beta-key").await;
            assert_eq!(reply.status, status, "{reply:?}");
            assert_eq!(reply.json()["kind"], kind);
            assert_eq!(reply.json()["successor"], "/v2/accounts/42");
            let left: i64 = reply.header("retry-after").unwrap().parse().unwrap();
            assert!((DAY / 2 - 1200..=DAY / 2).contains(&left), "{left}");
            assert_announced(&reply, "/v2/accounts/42");
            // Whoever has been given more time sees none of it.
            assert_eq!(
                get(&client, "/v1/accounts/42", "acme-key").await.status,
                200
            );
        }
    }
    // One that is over, and one that is yet to come.
    let over = json!({ "from": instant(-DAY), "for": "1h" });
    let later = json!({ "from": instant(DAY), "for": "1h" });
    let life = json!({ "brownouts": [over, later] });
    let envoy = gateway(&upstream, life).start().await.unwrap();
    let reply = envoy.http1().get("/v1/accounts/42").send().await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn brownouts_come_by_their_schedule() {
    let upstream = EchoUpstream::start().await;
    // By the clock of every day: in one window are the two hours before and the two after this
    // moment, and the other is hours away.
    let daily = |from_now: i64, length: &str| {
        let begin = rfc3339(unix_time() + from_now);
        json!({
            "at": format!("{} {} * * *", &begin[14..16], &begin[11..13]),
            "for": length,
            "from": instant(-2 * DAY),
            "until": instant(2 * DAY),
        })
    };
    for (brownout, status) in [(daily(-7200, "4h"), 410), (daily(6 * 3600, "1h"), 200)] {
        let life = json!({ "brownouts": [brownout] });
        let envoy = gateway(&upstream, life).start().await.unwrap();
        for client in [envoy.http1(), envoy.http2()] {
            let reply = client.get("/v1/accounts/42").send().await;
            assert_eq!(reply.status, status, "{reply:?}");
            assert_announced(&reply, "/v2/accounts/42");
            if status == 410 {
                assert_eq!(reply.json()["kind"], "api-brownout");
                let left: i64 = reply.header("retry-after").unwrap().parse().unwrap();
                assert!((3600..=7200).contains(&left), "{left}");
            }
        }
    }
}

#[tokio::test]
async fn some_consumers_are_given_more_time() {
    let upstream = EchoUpstream::start().await;
    let life = json!({
        "sunset": instant(-DAY),
        "grace": { "acme": "2100-03-15T00:00:00Z" },
    });
    let envoy = gateway(&upstream, life).start().await.unwrap();
    for client in [envoy.http1(), envoy.http2()] {
        let graced = get(&client, "/v1/accounts/42", "acme-key").await;
        assert_eq!(graced.status, 200);
        assert_announced(&graced, "/v2/accounts/42");
        let ended = get(&client, "/v1/accounts/42", "beta-key").await;
        assert_eq!(
            (ended.status.as_u16(), &ended.json()["kind"]),
            (410, &json!("api-retired"))
        );
        assert_eq!(client.get("/v1/accounts/42").send().await.status, 410);
        // Whose key is unknown learns that first.
        assert_eq!(get(&client, "/v1/accounts/42", "a-guess").await.status, 401);
        client.get("/v2/accounts/42").send().await;
    }
    let stats = envoy
        .wait_for_stats("six calls of the version", |stats| {
            stats.sum("tollgate_lifecycle_requests_total", &[]) >= 6.0
        })
        .await;
    for (stage, consumer) in [
        ("deprecated", "acme"),
        ("retired", "beta"),
        ("retired", "_none"),
    ] {
        let labels = [
            ("api", "accounts"),
            ("stage", stage),
            ("consumer", consumer),
        ];
        let count = stats.get("tollgate_lifecycle_requests_total", &labels);
        assert_eq!(count, Some(2.0), "{labels:?}");
    }
    assert_eq!(stats.sum("tollgate_lifecycle_requests_total", &[]), 6.0);
}

#[tokio::test]
async fn the_plugin_of_this_policy_alone_does_the_same() {
    let upstream = EchoUpstream::start().await;
    let document = json!({
        "apis": [{ "name": "accounts", "match": [{ "path": "/v1/accounts/{**}" }] }],
        "sunset": [{ "api": "accounts", "deprecated": "2020-09-15T00:00:00Z" }],
    });
    let envoy = Envoy::builder()
        .upstream(&upstream)
        .filter(wasm_filter("sunset", plugin("sunset"), document))
        .start()
        .await
        .unwrap();
    for client in [envoy.http1(), envoy.http2()] {
        let reply = client.get("/v1/accounts/42").send().await;
        assert_eq!(reply.header_values("deprecation"), ["@1600128000"]);
        assert_eq!(reply.header("sunset"), None);
        assert_eq!(reply.echo().path, "/v1/accounts/42");
    }
}
