//! What happens between looking at a bucket and charging it.

use std::cell::Cell;
use std::fmt;

use tollgate_core::chain::{Chain, Outcome, Verdict};
use tollgate_core::headers::Headers;
use tollgate_core::host::{
    Callout, CalloutId, CalloutNotSent, CounterId, Expected, GaugeId, Hash, PeerCertificate,
    SharedSetError, SharedUnavailable, SharedValue,
};
use tollgate_testkit::{Fault, MemoryHost};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

/// A worker that is interrupted before each write of the shared state.
struct Interrupted<'a, F> {
    worker: &'a MemoryHost,
    before_write: F,
}

impl<F: Fn(&str) -> Result<(), SharedSetError>> Host for Interrupted<'_, F> {
    fn now(&self) -> Timestamp {
        self.worker.now()
    }

    fn fill_random(&self, buffer: &mut [u8]) {
        self.worker.fill_random(buffer);
    }

    fn client_address(&self) -> Option<IpAddr> {
        Host::client_address(self.worker)
    }

    fn route_name(&self) -> Option<String> {
        Host::route_name(self.worker)
    }

    fn shared_get(&self, key: &str) -> Result<Option<SharedValue>, SharedUnavailable> {
        self.worker.shared_get(key)
    }

    fn shared_set(
        &self,
        key: &str,
        value: &[u8],
        expected: Expected,
    ) -> Result<(), SharedSetError> {
        (self.before_write)(key)?;
        self.worker.shared_set(key, value, expected)
    }

    fn peer_certificate(&self) -> Option<PeerCertificate> {
        Host::peer_certificate(self.worker)
    }

    fn verify_signature(
        &self,
        hash: Hash,
        key: &[u8],
        signature: &[u8],
        message: &[u8],
    ) -> Option<bool> {
        self.worker.verify_signature(hash, key, signature, message)
    }

    fn call(&self, callout: &Callout<'_>) -> Result<CalloutId, CalloutNotSent> {
        self.worker.call(callout)
    }

    fn set_filter_state(&self, key: &str, value: &str) {
        self.worker.set_filter_state(key, value);
    }

    fn counter(&self, name: &str) -> Option<CounterId> {
        self.worker.counter(name)
    }

    fn increment(&self, counter: CounterId, by: u64) {
        self.worker.increment(counter, by);
    }

    fn gauge(&self, name: &str) -> Option<GaugeId> {
        self.worker.gauge(name)
    }

    fn set_gauge(&self, gauge: GaugeId, to: u64) {
        self.worker.set_gauge(gauge, to);
    }

    fn log(&self, level: log::Level, message: fmt::Arguments<'_>) {
        self.worker.log(level, message);
    }
}

/// Sends a request through another worker, which `before_write` interrupts, and returns the status,
/// the violated limits and what `RateLimit` says.
fn send_interrupted(
    gateway: &Gateway<Alone>,
    config: &Value,
    before_write: impl Fn(&str) -> Result<(), SharedSetError>,
) -> (u16, Value, String) {
    let worker = gateway.host.process.worker();
    let chain = Chain::<Alone>::configure("test.wasm", config.to_string().as_bytes(), &worker);
    let chain = chain.unwrap_or_else(|errors| panic!("{errors}"));
    let host = Interrupted {
        worker: &worker,
        before_write,
    };
    let request = Headers::from_pairs([(":method", "GET"), (":path", "/"), (":authority", "a")]);
    let Verdict::Judged(judged) = chain.on_request(&host, request) else {
        panic!("no policy waits");
    };
    let told = judged
        .kept
        .response
        .iter()
        .find(|header| header.name == "ratelimit");
    let told = told
        .map(|header| header.value.to_string())
        .unwrap_or_default();
    let (status, violated) = match judged.outcome {
        Outcome::Forward => (200, Value::Null),
        Outcome::Reply(reply) => {
            let mut problem: Value = serde_json::from_slice(&reply.body).unwrap();
            (reply.status, problem["violated-policies"].take())
        }
    };
    chain.on_end(&host, judged.kept);
    (status, violated, told)
}

/// Does something at the first write of an entry of this limit.
fn once<'a>(
    limit: &'a str,
    act: impl Fn() + 'a,
) -> impl Fn(&str) -> Result<(), SharedSetError> + 'a {
    let done = Cell::new(false);
    move |key| {
        if key.contains(limit) && !done.replace(true) {
            act();
        }
        Ok(())
    }
}

fn two_limits() -> Value {
    json!({ "rate_limit": [
        { "name": "first", "key": "client_address", "rate": "9/h" },
        { "name": "second", "key": "global", "rate": "2/h" },
    ] })
}

#[test]
fn a_lost_race_is_run_again_and_charged_once() {
    for races in [1, 2, 7, 64] {
        let gateway = gateway(json!([{ "name": "one", "key": "global", "rate": "9/h" }]));
        assert_eq!(left(&gateway.send(Request::get("/")), "one"), Some(8));
        gateway.host.inject(vec![Fault::LostRace; races]);
        assert_eq!(left(&gateway.send(Request::get("/")), "one"), Some(7));
        assert_eq!(left(&gateway.send(Request::get("/")), "one"), Some(6));
    }
}

#[test]
fn whoever_comes_second_is_charged_on_top() {
    let config = two_limits();
    let gateway: Gateway<Alone> = start(&config);
    let other = || assert_eq!(gateway.send(Request::get("/")).status, 200);
    let (status, _, told) = send_interrupted(&gateway, &config, once("first", other));
    assert_eq!(
        (status, told.as_str()),
        (200, r#""first";r=7;t=400, "second";r=0;t=1800"#)
    );
}

/// Both limits admitted the request when they were looked at; before the second was charged its
/// last token was taken. What the first has charged is given back, and the client is told so.
#[test]
fn what_was_charged_before_a_lost_race_is_given_back() {
    let config = two_limits();
    let gateway: Gateway<Alone> = start(&config);
    assert_eq!(gateway.send(Request::get("/")).status, 200);
    let other = || {
        set_address(&gateway, "192.0.2.99");
        assert_eq!(gateway.send(Request::get("/")).status, 200);
    };
    let (status, violated, told) = send_interrupted(&gateway, &config, once("second", other));
    assert_eq!((status, violated), (429, json!(["second"])));
    assert_eq!(told, r#""first";r=8;t=400, "second";r=0;t=1800"#);
    assert_eq!(left(&from(&gateway, "192.0.2.1"), "first"), Some(8));
}

#[test]
fn what_was_charged_before_a_limit_that_cannot_count_is_given_back() {
    for failure in [SharedSetError::Conflict, SharedSetError::Unavailable] {
        let config = two_limits();
        let gateway: Gateway<Alone> = start(&config);
        assert_eq!(gateway.send(Request::get("/")).status, 200);
        let fails = |key: &str| match key.contains("second") {
            true => Err(failure),
            false => Ok(()),
        };
        let (status, ..) = send_interrupted(&gateway, &config, fails);
        assert_eq!(status, 503);
        let reply = gateway.send(Request::get("/"));
        assert_eq!(
            (left(&reply, "first"), left(&reply, "second")),
            (Some(7), Some(0))
        );
    }
}

/// A denial is written too, if it counts towards a block. If the bucket has become full between
/// looking at it and writing, the request would be charged, although it is refused.
#[test]
fn a_refused_request_is_charged_nothing_however_races_end() {
    let config = json!({ "rate_limit": [
        { "name": "boxed", "key": "global", "rate": "2/h",
          "on_exceed": { "block_for": "1h", "after": 9 } },
    ] });
    let gateway: Gateway<Alone> = start(&config);
    assert_eq!(statuses(&gateway, &Request::get("/"), 2), [200, 200]);
    let emptied = || {
        gateway
            .host
            .process
            .put("tollgate/limit/default boxed ", b"")
    };
    let (status, violated, told) = send_interrupted(&gateway, &config, once("boxed", emptied));
    assert_eq!((status, violated), (429, json!(["boxed"])));
    assert_eq!(told.split(';').nth(1), Some("r=2"));
    assert_eq!(left(&gateway.send(Request::get("/")), "boxed"), Some(1));
}

#[test]
fn the_last_place_goes_to_one() {
    let config = json!({ "rate_limit": [{ "name": "places", "key": "global", "concurrent": 1 }] });
    let gateway: Gateway<Alone> = start(&config);
    let taken = std::cell::RefCell::new(None);
    let other = || {
        let (reply, open) = gateway.begin(Request::get("/"));
        assert_eq!(reply.status, 200);
        taken.replace(Some(open));
    };
    let (status, violated, _) = send_interrupted(&gateway, &config, once("places", other));
    assert_eq!((status, violated), (429, json!(["places"])));
    gateway.end(taken.take().unwrap());
    assert_eq!(gateway.send(Request::get("/")).status, 200);
}
