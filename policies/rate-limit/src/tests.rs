use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_testkit::{Gateway, Reply, Request};

use super::*;

type Plugin = Gateway<tollgate_core::chain!(RateLimit)>;

fn gateway(limits: Value) -> Plugin {
    let config = json!({ "rate_limit": limits });
    Plugin::start(&config).unwrap_or_else(|errors| panic!("{errors}"))
}

fn from(gateway: &Plugin, address: &str) -> Reply {
    gateway
        .host
        .client_address
        .set(Some(address.parse::<IpAddr>().unwrap()));
    gateway.send(Request::get("/"))
}

#[test]
fn each_address_has_its_own_bucket() {
    let gateway =
        gateway(json!([{ "name": "per-address", "key": "client_address", "rate": "2/s" }]));
    let statuses = |address: &str| [(); 3].map(|()| from(&gateway, address).status);
    assert_eq!(statuses("192.0.2.1"), [200, 200, 429]);
    assert_eq!(statuses("192.0.2.2"), [200, 200, 429]);
    // Of IPv6, a client has a whole network.
    assert_eq!(statuses("2001:db8::1"), [200, 200, 429]);
    assert_eq!(from(&gateway, "2001:db8::2").status, 429);
    assert_eq!(from(&gateway, "2001:db8:0:1::2").status, 200);
    gateway.clock().advance(Duration::from_millis(500));
    assert_eq!(statuses("192.0.2.1"), [200, 429, 429]);
}

#[test]
fn concurrency_is_given_back_when_the_stream_ends() {
    let gateway =
        gateway(json!([{ "name": "under-way", "key": "client_address", "concurrent": 2 }]));
    let (first, open_first) = gateway.begin(Request::get("/"));
    let (second, open_second) = gateway.begin(Request::get("/"));
    assert_eq!((first.status, second.status), (200, 200));
    let refused = gateway.send(Request::get("/"));
    assert_eq!(
        (refused.status, refused.kind().as_str()),
        (429, "concurrency-limited")
    );
    gateway.end(open_first);
    assert_eq!(gateway.send(Request::get("/")).status, 200);
    gateway.end(open_second);
    assert_eq!(gateway.send(Request::get("/")).status, 200);
}
