use serde_json::{Value, json};
use tollgate_core::chain::{Policies, Responded};
use tollgate_core::problem::REQUEST_AMBIGUOUS;
use tollgate_testkit::{Gateway, Open, Reply, Request};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

type Chain = tollgate_core::chain!(Refuse, ProblemDetails);
type Plugin = Gateway<Chain>;

/// Refuses what asks to be refused.
struct Refuse;

#[derive(deserr::Deserr)]
#[deserr(error = tollgate_core::config::ConfigErrors)]
struct RefuseConfig {}

impl Policy for Refuse {
    const SECTION: &'static str = "refuse";
    const CALLBACKS: Callbacks = Callbacks::REQUEST_HEADERS;
    type Section = RefuseConfig;
    type Stream = ();

    fn compile(RefuseConfig {}: RefuseConfig, _: &mut Compile<'_>) -> Result<Self, Rejected> {
        Ok(Refuse)
    }

    fn step<H: Host>(&self, step: Step, (): &mut (), x: &mut Exchange<'_, H>) -> StepResult {
        x.facts.request_id = Some("01890a5d-ac96-774b-bcce-b302099a8057".into());
        x.response.set("x-request-id", "1");
        match step == Step::Authenticate && x.request.get("refuse").is_some() {
            true => Err(
                Problem::new(&REQUEST_AMBIGUOUS, "It <can> be read in two ways.")
                    .with("limit", json!(3))
                    .with_header("retry-after", "5")
                    .into(),
            ),
            false => Ok(()),
        }
    }
}

fn start(section: Value) -> Plugin {
    Plugin::start(&json!({ "refuse": {}, "problem_details": section }))
        .unwrap_or_else(|errors| panic!("{errors}"))
}

fn refused(plugin: &Plugin, accept: &str) -> Reply {
    let request = Request::get("/").header("refuse", "1");
    plugin.send(request.header("accept", accept))
}

/// What becomes of a response to a request that passed.
fn respond(
    plugin: &Plugin,
    request: Request,
    status: u16,
    headers: &[(&str, &str)],
    source: &ResponseSource,
) -> Responded {
    let (reply, mut open): (Reply, Open<Chain>) = plugin.begin(request);
    assert_eq!(reply.status, 200);
    let responded = plugin.respond(&mut open, status, headers, source);
    plugin.end(open);
    responded
}

fn gateway(details: &str) -> ResponseSource {
    ResponseSource::Gateway(details.to_owned())
}

fn replaced(responded: Responded) -> LocalReply {
    match responded {
        Responded::Replace(reply) => reply,
        Responded::Change(headers) => panic!("it stays, with {headers:?}"),
    }
}

fn stays(responded: &Responded) -> bool {
    matches!(responded, Responded::Change(_))
}

fn header<'a>(reply: &'a LocalReply, name: &str) -> Vec<&'a str> {
    let found = reply.headers.iter().filter(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str()).collect()
}

fn body(reply: &LocalReply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

#[test]
fn refusals_are_written_as_the_client_reads_them_best() {
    let plugin = start(json!({}));
    for (accept, content_type, start) in [
        ("*/*", "application/problem+json", "{\"type\":"),
        ("application/json", "application/json", "{\"type\":"),
        ("application/xml", "application/problem+xml", "<?xml"),
        ("text/plain", "text/plain; charset=utf-8", "400 "),
        ("text/html,*/*;q=0.1", "text/html; charset=utf-8", "<!"),
        ("image/png", "application/problem+json", "{\"type\":"),
    ] {
        let reply = refused(&plugin, accept);
        assert_eq!(reply.status, 400);
        assert_eq!(reply.header("content-type"), Some(content_type));
        let text = String::from_utf8(reply.body.clone()).unwrap();
        assert!(
            text.to_lowercase().starts_with(&start.to_lowercase()),
            "{accept}: {text}"
        );
        assert!(!text.contains("<can>") || content_type.contains("json") || accept == "text/plain");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(reply.header("vary"), Some("accept"));
        assert_eq!(reply.header("content-language"), Some("en"));
        assert_eq!(reply.header("retry-after"), Some("5"));
        assert_eq!(reply.header("x-request-id"), Some("1"));
    }
}

#[test]
fn a_problem_has_all_its_members() {
    let reply = refused(&start(json!({})), "*/*");
    assert_eq!(
        reply.problem(),
        json!({
            "type": "about:blank",
            "title": "Bad Request",
            "status": 400,
            "detail": "It <can> be read in two ways.",
            "instance": "urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057",
            "kind": "request-ambiguous",
            "limit": 3,
        })
    );
}

#[test]
fn the_operator_has_the_last_word() {
    let plugin = start(json!({
        "type_base": "https://errors.bank.example/",
        "overrides": {
            "request-ambiguous": {
                "status": 422,
                "title": "Unclear",
                "members": { "support": "https://help.bank.example" },
                "headers": { "retry-after": "60", "x-team": "edge" },
            },
            "default_5xx": { "detail": "Something went wrong." },
        },
    }));
    let reply = refused(&plugin, "*/*");
    assert_eq!(reply.status, 422);
    assert_eq!(reply.header("retry-after"), Some("60"));
    assert_eq!(reply.header("x-team"), Some("edge"));
    let problem = reply.problem();
    assert_eq!(
        problem["type"],
        "https://errors.bank.example/request-ambiguous"
    );
    assert_eq!(
        (&problem["status"], &problem["title"], &problem["support"]),
        (
            &json!(422),
            &json!("Unclear"),
            &json!("https://help.bank.example")
        )
    );
    let reply = respond(
        &plugin,
        Request::get("/"),
        503,
        &[],
        &gateway("no_healthy_upstream"),
    );
    assert_eq!(body(&replaced(reply))["detail"], "Something went wrong.");
}

#[test]
fn the_operators_headers_go_before_those_of_the_form() {
    let plugin = start(json!({
        "overrides": { "no-route": { "headers": {
            "cache-control": "max-age=60",
            "content-security-policy": "default-src 'self'",
        } } },
    }));
    let reply = |status, details, accept| {
        let request = Request::get("/").header("accept", accept);
        replaced(respond(&plugin, request, status, &[], &gateway(details)))
    };
    for accept in ["text/html", "*/*"] {
        let own = reply(404, "route_not_found", accept);
        assert_eq!(header(&own, "cache-control"), ["max-age=60"]);
        assert_eq!(
            header(&own, "content-security-policy"),
            ["default-src 'self'"]
        );
    }
    let other = reply(503, "no_healthy_upstream", "text/html");
    assert_eq!(header(&other, "cache-control"), ["no-store"]);
    assert_eq!(
        header(&other, "content-security-policy"),
        [CONTENT_SECURITY_POLICY]
    );
}

#[test]
fn who_is_to_send_credentials_is_told_how() {
    let plugin = start(json!({}));
    let challenges = |details, headers: &[(&str, &str)]| {
        let responded = respond(&plugin, Request::get("/"), 401, headers, &gateway(details));
        let reply = replaced(responded);
        let challenges = header(&reply, "www-authenticate");
        challenges
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for details in ["missing_api_key", "unknown_api_key"] {
        assert_eq!(challenges(details, &[]), ["ApiKey realm=\"api\""]);
        let own = [("www-authenticate", "Key")];
        assert_eq!(challenges(details, &own), ["Key"]);
    }
    let bearer = [("www-authenticate", "Bearer realm=\"a\"")];
    let details = "jwt_authn_access_denied{Jwt_is_expired}";
    assert_eq!(challenges(details, &bearer), ["Bearer realm=\"a\""]);
    // Of no other is it known what it asks for.
    assert!(challenges("direct_response", &[]).is_empty());
}

#[test]
fn errors_of_the_gateway_become_problems() {
    let plugin = start(json!({}));
    for (status, details, kind) in [
        (404, "route_not_found", "no-route"),
        (503, "no_healthy_upstream", "upstream-unavailable"),
        (504, "response_timeout", "upstream-timeout"),
        (429, "local_rate_limited", "too-many-requests"),
        (418, "something_new", "request-refused"),
    ] {
        let reply = replaced(respond(
            &plugin,
            Request::get("/"),
            status,
            &[("server", "envoy"), ("x-ratelimit-limit", "5")],
            &gateway(details),
        ));
        assert_eq!(reply.status, status);
        let problem = body(&reply);
        assert_eq!(
            (&problem["status"], &problem["kind"]),
            (&json!(status), &json!(kind))
        );
        assert_eq!(
            problem["instance"],
            "urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057"
        );
        // The operator still sees what Envoy said.
        assert_eq!(reply.details, format!("tollgate{{{kind}}}:{details}"));
        // What others have added stays; what the request has prepared is there too.
        assert_eq!(header(&reply, "x-ratelimit-limit"), ["5"]);
        assert_eq!(header(&reply, "x-request-id"), ["1"]);
        assert_eq!(header(&reply, "server"), [""; 0]);
    }
}

#[test]
fn a_registered_type_keeps_its_title_whatever_the_status() {
    let section = json!({ "overrides": { "upstream-timeout": { "title": "Too slow" } } });
    let plugin = start(section);
    let problem = |status, details| {
        let source = gateway(details);
        body(&replaced(respond(
            &plugin,
            Request::get("/"),
            status,
            &[],
            &source,
        )))
    };
    for status in [429, 503] {
        let problem = problem(status, "local_rate_limited");
        assert_eq!(problem["status"], status);
        assert_eq!(
            (problem["type"].as_str(), problem["title"].as_str()),
            (
                Some("https://iana.org/assignments/http-problem-types#quota-exceeded"),
                Some("Request cannot be satisfied as assigned quota has been exceeded")
            )
        );
    }
    // The blank one has none of its own.
    assert_eq!(problem(502, "no_healthy_upstream")["title"], "Bad Gateway");
    assert_eq!(problem(408, "response_timeout")["title"], "Too slow");
}

#[test]
fn a_range_that_is_refused_is_told_how_long_the_whole_is() {
    let plugin = start(json!({
        "wrap": ["upstream_bare_4xx"],
        "overrides": { "upstream-refused": { "members": { "support": "us" } } },
    }));
    let headers = [("content-range", "bytes */1234"), ("content-length", "9")];
    for (status, expected) in [(416, &["bytes */1234"][..]), (404, &[])] {
        let source = ResponseSource::Upstream;
        let reply = replaced(respond(
            &plugin,
            Request::get("/"),
            status,
            &headers,
            &source,
        ));
        assert_eq!(reply.status, status);
        assert_eq!(header(&reply, "content-range"), expected);
        assert_eq!(header(&reply, "content-length"), [""; 0]);
    }
}

#[test]
fn a_fault_of_the_gateway_is_a_problem_like_others() {
    for wrap in [json!([]), json!(["gateway"])] {
        let plugin = start(json!({
            "type_base": "https://errors.bank.example/",
            "wrap": wrap,
            "overrides": { "gateway-fault": { "members": { "support": "us" } } },
            "cors": { "allow_origins": ["https://app.bank.example"] },
        }));
        let unread = plugin.fail_to_read();
        assert_eq!(unread.status, 503);
        assert_eq!(header(&unread, "vary"), ["accept, origin"]);
        assert_eq!(header(&unread, "x-request-id"), [""; 0]);
        let request = Request::get("/").header("origin", "https://app.bank.example");
        let unchanged = plugin.fail_to_change(request.clone());
        let origin = header(&unchanged, "access-control-allow-origin");
        assert_eq!(origin, ["https://app.bank.example"]);
        assert_eq!(header(&unchanged, "x-request-id"), ["1"]);
        for reply in [&unread, &unchanged] {
            let problem = body(reply);
            assert_eq!(problem["type"], "https://errors.bank.example/gateway-fault");
            assert_eq!(problem["support"], "us");
        }
        let page = plugin.fail_to_change(request.header("accept", "text/html"));
        assert_eq!(header(&page, "content-type"), ["text/html; charset=utf-8"]);
        let call = Request::new("POST", "/a/b").header("content-type", "application/grpc");
        let call = plugin.fail_to_change(call);
        assert_eq!(call.grpc_status, Some(14));
        assert_eq!(call.body, b"The gateway could not read the request.");
    }
}

#[test]
fn what_somebody_has_written_is_left_alone() {
    let plugin = start(json!({ "wrap": ["gateway", "upstream_bare_4xx", "upstream_bare_5xx"] }));
    let text = [("content-type", "text/plain"), ("content-length", "5")];
    let direct = |headers: &[(&str, &str)]| {
        respond(
            &plugin,
            Request::get("/"),
            403,
            headers,
            &gateway("direct_response"),
        )
    };
    assert!(stays(&direct(&text)));
    assert!(!stays(&direct(&[])));
    for content_type in [
        "application/problem+json",
        "Application/Problem+XML; charset=utf-8",
    ] {
        let headers = [("content-type", content_type)];
        for source in [ResponseSource::Upstream, gateway("ext_authz_denied")] {
            let responded = respond(&plugin, Request::get("/"), 500, &headers, &source);
            assert!(stays(&responded), "{content_type}");
        }
    }
    for status in [200, 204, 301, 304, 101] {
        let responded = respond(
            &plugin,
            Request::get("/"),
            status,
            &text,
            &ResponseSource::Upstream,
        );
        assert!(stays(&responded), "{status}");
    }
}

#[test]
fn an_upstreams_errors_are_shown_unless_wanted_otherwise() {
    let trace = [
        ("content-type", "text/html"),
        ("content-length", "9000"),
        ("content-encoding", "gzip"),
        ("etag", "\"x\""),
        ("retry-after", "7"),
        ("vary", "origin"),
        ("www-authenticate", "Basic"),
        ("www-authenticate", "Bearer"),
    ];
    let send = |section: Value, status: u16| {
        respond(
            &start(section),
            Request::get("/"),
            status,
            &trace,
            &ResponseSource::Upstream,
        )
    };
    assert!(stays(&send(json!({}), 500)));
    assert!(stays(&send(json!({ "wrap": ["upstream_bare_5xx"] }), 404)));
    let reply = replaced(send(json!({ "wrap": ["upstream_bare_5xx"] }), 500));
    assert_eq!(
        (reply.status, body(&reply)["kind"].clone()),
        (500, json!("upstream-failed"))
    );
    assert_eq!(body(&reply)["title"], "Internal Server Error");
    assert_eq!(header(&reply, "retry-after"), ["7"]);
    assert_eq!(header(&reply, "www-authenticate"), ["Basic", "Bearer"]);
    assert_eq!(header(&reply, "vary"), ["accept", "origin"]);
    for gone in ["content-length", "content-encoding", "etag"] {
        assert_eq!(header(&reply, gone), [""; 0], "{gone}");
    }
    let reply = replaced(send(json!({ "wrap": ["upstream_bare_4xx"] }), 404));
    assert_eq!(
        (reply.status, body(&reply)["kind"].clone()),
        (404, json!("upstream-refused"))
    );
}

#[test]
fn grpc_is_answered_in_its_own_terms() {
    let plugin = start(json!({ "wrap": ["upstream_bare_5xx"] }));
    let call = |content_type: &str| {
        let request = Request::new("POST", "/s/M").header("content-type", content_type);
        replaced(respond(
            &plugin,
            request,
            503,
            &[("content-type", "text/html")],
            &ResponseSource::Upstream,
        ))
    };
    let reply = call("application/grpc");
    assert_eq!(reply.grpc_status, Some(14));
    assert_eq!(reply.body, b"The service could not answer the request.");
    assert_eq!(header(&reply, "content-type"), [""; 0]);
    let reply = call("application/grpc-web+proto");
    assert_eq!((reply.status, reply.grpc_status), (200, None));
    assert_eq!(
        header(&reply, "content-type"),
        ["application/grpc-web+proto"]
    );
    assert!(
        String::from_utf8_lossy(&reply.body).contains("grpc-status:14\r\n"),
        "{reply:?}"
    );
}

/// A call by gRPC whose error is in the headers.
fn failed(
    section: Value,
    content_type: &str,
    headers: &[(&str, &str)],
    source: &ResponseSource,
) -> Responded {
    let request = Request::new("POST", "/s/M").header("content-type", content_type);
    let plugin = start(section);
    respond(&plugin, request, 200, headers, source)
}

const UNAVAILABLE: [(&str, &str); 4] = [
    ("content-type", "application/grpc"),
    ("grpc-status", "14"),
    ("grpc-message", "no healthy upstream"),
    ("grpc-status-details-bin", "CAM="),
];

#[test]
fn envoys_own_errors_to_calls_are_put_in_our_words() {
    let limited = gateway("local_rate_limited");
    let reply = replaced(failed(
        json!({}),
        "application/grpc",
        &UNAVAILABLE,
        &limited,
    ));
    assert_eq!(reply.grpc_status, Some(8));
    assert_eq!(reply.body, b"Requests come faster than allowed.");
    assert_eq!(
        reply.details,
        "tollgate{too-many-requests}:local_rate_limited"
    );
    for gone in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
        assert_eq!(header(&reply, gone), [""; 0], "{gone}");
    }
    let overrides = json!({ "overrides": { "too-many-requests": { "status": 503 } } });
    let reply = replaced(failed(
        overrides,
        "application/grpc",
        &UNAVAILABLE,
        &limited,
    ));
    assert_eq!(reply.grpc_status, Some(14));
    // By gRPC-Web, where a filter behind has translated it.
    let web = "application/grpc-web-text";
    let reply = replaced(failed(json!({}), web, &UNAVAILABLE, &limited));
    assert_eq!((reply.status, reply.grpc_status), (200, None));
    assert_eq!(
        header(&reply, "content-type"),
        ["application/grpc-web-text+proto"]
    );
    // Not wanted, no error, written by somebody, no call at all.
    let stay = |section: Value, content_type: &str, headers: &[(&str, &str)], details: &str| {
        let responded = failed(section, content_type, headers, &gateway(details));
        assert!(stays(&responded), "{content_type} {headers:?} {details}");
    };
    let grpc = "application/grpc";
    stay(json!({ "wrap": [] }), grpc, &UNAVAILABLE, "overload");
    stay(json!({}), grpc, &[("grpc-status", "0")], "overload");
    stay(json!({}), grpc, &[], "direct_response");
    stay(json!({}), grpc, &UNAVAILABLE, "ext_authz_denied");
    stay(json!({}), "application/json", &UNAVAILABLE, "overload");
    let bare = failed(
        json!({}),
        grpc,
        &[("grpc-status", "7")],
        &gateway("ext_authz_denied"),
    );
    assert_eq!(replaced(bare).body, b"Access is denied.");
}

#[test]
fn an_upstreams_errors_to_calls_are_its_own_unless_wanted_otherwise() {
    let call = |wrap: Value, code: &str| {
        let headers = [("grpc-status", code), ("grpc-message", "at Main.java:7")];
        let section = json!({ "wrap": wrap });
        failed(
            section,
            "application/grpc+proto",
            &headers,
            &ResponseSource::Upstream,
        )
    };
    let others = json!(["gateway", "upstream_bare_4xx", "upstream_bare_5xx"]);
    assert!(stays(&call(others, "13")));
    let wrap = json!(["upstream_grpc"]);
    for code in ["2", "13", "14", "15"] {
        let reply = replaced(call(wrap.clone(), code));
        assert_eq!(reply.grpc_status, Some(code.parse().unwrap()));
        assert_eq!(reply.body, b"The service could not answer the request.");
        assert_eq!(reply.details, "tollgate{upstream-failed}");
    }
    // What is wrong with the call is for its client to know.
    for code in ["0", "3", "5", "9", "16"] {
        assert!(stays(&call(wrap.clone(), code)), "{code}");
    }
    // What is no code is an error of an unknown sort.
    assert_eq!(replaced(call(wrap, "oops")).grpc_status, Some(2));
}

const APP: &str = "https://app.bank.example";

#[test]
fn scripts_of_other_origins_may_read_problems() {
    let plugin = start(json!({
        "cors": { "allow_origins": ["https://*.bank.example"], "allow_credentials": true },
        "overrides": { "request-ambiguous": { "headers": { "x-team": "edge" } } },
    }));
    let from = |origin: &str| {
        let request = Request::get("/").header("origin", origin);
        let refused = plugin.send(request.clone().header("refuse", "1"));
        let replaced = replaced(respond(
            &plugin,
            request,
            503,
            &[],
            &gateway("no_healthy_upstream"),
        ));
        (refused, replaced)
    };
    let (refused, reply) = from(APP);
    assert_eq!(refused.header("access-control-allow-origin"), Some(APP));
    assert_eq!(
        refused.header("access-control-expose-headers"),
        Some("retry-after, x-team, x-request-id")
    );
    assert_eq!(header(&reply, "access-control-allow-origin"), [APP]);
    assert_eq!(header(&reply, "access-control-allow-credentials"), ["true"]);
    assert_eq!(
        header(&reply, "access-control-expose-headers"),
        ["x-request-id"]
    );
    assert_eq!(header(&reply, "vary"), ["accept, origin"]);
    let (refused, reply) = from("https://evil.example");
    assert_eq!(refused.header("access-control-allow-origin"), None);
    assert_eq!(refused.header("vary"), Some("accept, origin"));
    assert_eq!(header(&reply, "access-control-allow-origin"), [""; 0]);
    // Repeated, it is nobody's.
    let twice = Request::get("/")
        .header("origin", APP)
        .header("origin", APP);
    let refused = plugin.send(twice.header("refuse", "1"));
    assert_eq!(refused.header("access-control-allow-origin"), None);
}

#[test]
fn what_a_replaced_response_allows_scripts_stays() {
    let plugin = start(json!({
        "cors": { "allow_origins": [APP] },
        "wrap": ["upstream_bare_5xx"],
    }));
    let allowed = [
        ("access-control-allow-origin", "https://other.example"),
        ("access-control-expose-headers", "x-a"),
        ("vary", "origin"),
    ];
    let request = Request::get("/").header("origin", APP);
    let responded = respond(&plugin, request, 500, &allowed, &ResponseSource::Upstream);
    let reply = replaced(responded);
    assert_eq!(
        header(&reply, "access-control-allow-origin"),
        ["https://other.example"]
    );
    assert_eq!(header(&reply, "access-control-expose-headers"), ["x-a"]);
    assert_eq!(header(&reply, "vary"), ["accept, origin", "origin"]);
}

#[test]
fn kinds_of_all_policies_can_be_worded_and_no_others() {
    let plugin = Plugin::start(&json!({
        "refuse": {},
        "problem_details": { "overrides": { "no-rout": { "title": "x" } } },
    }));
    let errors = plugin.err().unwrap().to_string();
    assert!(errors.contains("did you mean \"no-route\""), "{errors}");
}

#[test]
fn a_plugin_sees_errors_only() {
    assert!(<Chain as Policies>::CALLBACKS.contains(Callbacks::RESPONSE_HEADERS));
    let plugin = start(json!({}));
    assert_eq!(plugin.send(Request::get("/")).status, 200);
}
