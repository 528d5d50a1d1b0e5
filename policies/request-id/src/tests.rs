use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tollgate_core::time::Timestamp;
use tollgate_testkit::{Gateway, Reply, Request};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

type Plugin = Gateway<tollgate_core::chain!(RequestId)>;

fn gateway(section: Value) -> Plugin {
    Gateway::start(&json!({ "request_id": section })).unwrap()
}

fn upstream(reply: &Reply, header: &str) -> Option<String> {
    reply.upstream.as_ref().unwrap().header(header)
}

fn id_of(reply: &Reply) -> String {
    upstream(reply, "x-request-id")
        .or(reply.header("x-request-id").map(str::to_owned))
        .unwrap()
}

const INBOUND: &str = "client-made.id_1";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_request_without_an_id_gets_one_that_both_sides_see() {
    let reply = gateway(json!({})).send(Request::get("/"));
    let id = upstream(&reply, "x-request-id").unwrap();
    assert_eq!(reply.header("x-request-id"), Some(id.as_str()));
    let uuid: uuid::Uuid = id.parse().unwrap();
    assert_eq!(uuid.get_version_num(), 7);
    assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
    let (seconds, _) = uuid.get_timestamp().unwrap().to_unix();
    assert_eq!(seconds, 1_795_176_000);
}

#[test]
fn an_id_is_replaced_unless_its_peer_is_trusted() {
    let gateway = gateway(json!({ "accept": { "from": ["10.0.0.0/8", "2001:db8::/32"] } }));
    let request = || Request::get("/").header("x-request-id", INBOUND);
    for (peer, kept) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("2001:db8::1", true),
        ("11.0.0.1", false),
        ("2001:db9::1", false),
    ] {
        gateway
            .host
            .client_address
            .set(Some(peer.parse::<IpAddr>().unwrap()));
        assert_eq!(id_of(&gateway.send(request())) == INBOUND, kept, "{peer}");
    }
    gateway.host.client_address.set(None);
    assert_ne!(id_of(&gateway.send(request())), INBOUND);
}

#[test]
fn nobody_is_trusted_unless_named() {
    let reply = gateway(json!({})).send(Request::get("/").header("x-request-id", INBOUND));
    assert_ne!(id_of(&reply), INBOUND);
    assert_eq!(reply.upstream.unwrap().all("x-request-id").len(), 1);
}

#[test]
fn a_malformed_id_is_replaced_even_from_a_trusted_peer() {
    let gateway = gateway(json!({ "accept": { "from": ["192.0.2.1"], "max_length": 20 } }));
    let send = |id: &[u8]| id_of(&gateway.send(Request::get("/").header("x-request-id", id)));
    assert_eq!(send(b"aA0-._~:/+=@"), "aA0-._~:/+=@");
    assert_eq!(send(&[b'a'; 20]).as_bytes(), [b'a'; 20]);
    for bad in [
        &b""[..],
        b"a b",
        b"a,b",
        b"a\"",
        b"a\n",
        b"\xff\xfe",
        b"${jndi:x}",
        &[b'a'; 21],
    ] {
        assert_ne!(send(bad).as_bytes(), bad, "{bad:?}");
    }
    let twice = Request::get("/")
        .header("x-request-id", "a")
        .header("x-request-id", "b");
    let reply = gateway.send(twice);
    assert_eq!(
        reply.upstream.as_ref().unwrap().all("x-request-id").len(),
        1
    );
    assert!(!["a", "b"].contains(&id_of(&reply).as_str()));
}

#[test]
fn the_id_that_envoy_made_counts_if_configured_so() {
    let gateway = gateway(json!({ "authority": "envoy" }));
    gateway.host.client_address.set(None);
    assert_eq!(
        id_of(&gateway.send(Request::get("/").header("x-request-id", INBOUND))),
        INBOUND
    );
    assert_ne!(
        id_of(&gateway.send(Request::get("/").header("x-request-id", "a b"))),
        "a b"
    );
}

#[test]
fn header_format_and_echo_are_configurable() {
    let gateway =
        gateway(json!({ "header": "X-Correlation-ID", "format": "uuid4", "echo": false }));
    let reply = gateway.send(Request::get("/"));
    let id: uuid::Uuid = upstream(&reply, "x-correlation-id")
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(id.get_version_num(), 4);
    assert_eq!(reply.header("x-correlation-id"), None);
}

#[test]
fn ids_rise_on_a_worker_even_when_the_clock_steps_back() {
    let gateway = gateway(json!({}));
    let mut last = String::new();
    for round in 0..20_000_u64 {
        if round % 3000 == 2999 {
            gateway
                .clock()
                .set(Timestamp::from_seconds(1_795_176_000 - round));
        } else if round % 100 == 0 {
            gateway.clock().advance(Duration::from_micros(300));
        }
        let id = id_of(&gateway.send(Request::get("/")));
        assert!(id > last, "{id} does not rise above {last}");
        last = id;
    }
}

#[test]
fn ids_of_workers_differ() {
    let first = gateway(json!({}));
    let worker = first.host.process.worker();
    let second = Plugin::on(worker, &json!({ "request_id": {} })).unwrap();
    let ids: HashSet<String> = (0..1000)
        .flat_map(|_| [&first, &second].map(|gateway| id_of(&gateway.send(Request::get("/")))))
        .collect();
    assert_eq!(ids.len(), 2000);
}

#[test]
fn a_valid_trace_context_is_passed_on_untouched() {
    let request = Request::get("/")
        .header("traceparent", PARENT)
        .header("tracestate", "a=b");
    let reply = gateway(json!({})).send(request);
    assert_eq!(upstream(&reply, "traceparent").as_deref(), Some(PARENT));
    assert_eq!(upstream(&reply, "tracestate").as_deref(), Some("a=b"));
}

#[test]
fn a_trace_is_started_with_the_bits_of_the_request_id() {
    let reply = gateway(json!({})).send(Request::get("/"));
    let parent = upstream(&reply, "traceparent").unwrap();
    let trace = id_of(&reply).replace('-', "");
    assert!(
        parent.starts_with(&format!("00-{trace}-")),
        "{parent} {trace}"
    );
    assert!(parent.ends_with("-00"));
    assert_eq!(parent.len(), 55);
}

#[test]
fn an_invalid_trace_context_is_replaced_together_with_its_state() {
    for bad in [
        PARENT.to_uppercase(),
        PARENT.replace(TRACE, &"0".repeat(32)),
        "x".to_owned(),
    ] {
        let request = Request::get("/")
            .header("traceparent", &bad)
            .header("tracestate", "a=b");
        let reply = gateway(json!({})).send(request.clone());
        assert_ne!(upstream(&reply, "traceparent"), Some(bad));
        assert_eq!(upstream(&reply, "tracestate"), None);
        let reply = gateway(json!({ "trace_context": "join" })).send(request);
        assert_eq!(upstream(&reply, "traceparent"), None);
        assert_eq!(upstream(&reply, "tracestate"), None);
    }
    let twice = Request::get("/")
        .header("traceparent", PARENT)
        .header("traceparent", PARENT);
    assert_ne!(
        upstream(&gateway(json!({})).send(twice), "traceparent").as_deref(),
        Some(PARENT)
    );
}

#[test]
fn trace_context_can_be_left_alone() {
    let request = Request::get("/")
        .header("traceparent", "x")
        .header("tracestate", "a=b");
    let reply = gateway(json!({ "trace_context": "ignore" })).send(request);
    assert_eq!(upstream(&reply, "traceparent").as_deref(), Some("x"));
    assert_eq!(upstream(&reply, "tracestate").as_deref(), Some("a=b"));
}

#[test]
fn the_id_can_be_that_of_the_trace() {
    let gateway = gateway(json!({ "format": "trace_id" }));
    assert_eq!(
        id_of(&gateway.send(Request::get("/").header("traceparent", PARENT))),
        TRACE
    );
    let started = gateway.send(Request::get("/"));
    let parent = upstream(&started, "traceparent").unwrap();
    assert_eq!(parent.split('-').nth(1).unwrap(), id_of(&started));
}

#[test]
fn every_mistake_is_reported() {
    let config = json!({ "request_id": {
        "header": "x request id",
        "format": "uuid8",
        "accept": { "from": ["10.1.2.3/8"], "max_length": "long" },
        "trace": "off",
    }});
    let errors = Plugin::start(&config).err().unwrap().to_string();
    for expected in [
        "request_id.header: found \"x request id\", expected a header's name",
        "request_id.format: unknown value \"uuid8\", did you mean \"uuid7\"?",
        "request_id.accept.from[0]: found \"10.1.2.3/8\", expected a network",
        "request_id.accept.max_length: found text, expected a whole number",
        "request_id.trace: unknown field",
    ] {
        assert!(errors.contains(expected), "{expected}\nnot in\n{errors}");
    }
    let config = json!({ "request_id": {
        "authority": "envoy", "accept": { "from": ["10.0.0.0/8"], "max_length": 0 }
    }});
    let errors = Plugin::start(&config).err().unwrap();
    assert_eq!(errors.len(), 2, "{errors}");
}

proptest! {
    #[test]
    fn whatever_arrives_the_id_is_well_formed(
        values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..3),
        trusted: bool,
    ) {
        let from = if trusted { json!(["0.0.0.0/0"]) } else { json!([]) };
        let gateway = gateway(json!({ "accept": { "from": from } }));
        let request = values
            .iter()
            .fold(Request::get("/"), |request, value| request.header("x-request-id", value));
        let reply = gateway.send(request);
        let id = id_of(&reply);
        prop_assert!(id::is_well_formed(&id, 128), "{id:?}");
        prop_assert_eq!(reply.upstream.unwrap().all("x-request-id").len(), 1);
    }
}
