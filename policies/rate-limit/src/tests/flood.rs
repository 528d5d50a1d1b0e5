//! Many clients: memory does not grow, and those who behave do not notice.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use tollgate_testkit::{Clock, Process};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

const PER_ADDRESS: &str = "tollgate/limit/default per-address ";

fn per_address(max_clients: u32) -> Value {
    json!({
        "telemetry": { "filter_state": false },
        "rate_limit": [
            { "name": "per-address", "key": "client_address", "rate": "1000/h", "burst": 100,
              "max_clients": max_clients },
        ],
    })
}

fn send_from(gateway: &Gateway<Alone>, address: u32) -> Reply {
    let address = IpAddr::from(Ipv4Addr::from_bits(address));
    gateway.host.client_address.set(Some(address));
    gateway.send(Request::get("/"))
}

fn evicted(gateway: &Gateway<Alone>) -> u64 {
    counter(
        gateway,
        "limit=.=per-address;.;tollgate_limit_evicted_total",
    )
}

/// Two hundred thousand addresses, 3600 of them live at a time, in a table for 1000: crowded all
/// the time. One client has used half its bucket at once and keeps to its rate from then on; the
/// others miss less, so it is never the one that is forgotten.
#[test]
fn a_client_that_behaves_is_neither_refused_nor_refilled_inside_a_flood() {
    const FLOOD: u32 = 200_000;
    const EACH: u32 = 3600;
    let flooded: Gateway<Alone> = start(&per_address(1000));
    let alone: Gateway<Alone> = start(&per_address(1000));
    let good = u32::from_be_bytes([192, 0, 2, 1]);
    let send_good = || {
        let [there, here] = [&flooded, &alone].map(|gateway| send_from(gateway, good));
        assert_eq!((there.status, here.status), (200, 200));
        assert_eq!(there.header("ratelimit"), here.header("ratelimit"));
    };
    (0..50).for_each(|_| send_good());
    let mut keys_after_warm_up = None;
    for i in 0..FLOOD {
        pass(&flooded, 0.001);
        pass(&alone, 0.001);
        assert_eq!(send_from(&flooded, 0x0a00_0000 + i).status, 200);
        if i % EACH == 0 {
            send_good();
        }
        if i == 20_000 {
            keys_after_warm_up = Some(flooded.host.process.shared_keys().len());
        }
    }
    assert!(evicted(&flooded) > 50_000, "{}", evicted(&flooded));
    // 1000 clients have 32 pages; the seed is kept beside them.
    assert_eq!(keys_after_warm_up, Some(32 + 1));
    let keys = flooded.host.process.shared_keys();
    assert_eq!(keys.len(), 32 + 1);
    let pages = keys
        .iter()
        .filter(|key| key.starts_with(PER_ADDRESS))
        .count();
    assert_eq!(pages, 32);
    assert!(flooded.host.process.counters().len() < 10);
}

/// In a table that is large enough nobody is forgotten: each has its bucket, to the token.
#[test]
fn in_a_table_for_as_many_everybody_has_a_bucket() {
    const CLIENTS: u32 = 20_000;
    let gateway: Gateway<Alone> = start(&per_address(CLIENTS));
    for round in 1..=3 {
        for client in 0..CLIENTS {
            let reply = send_from(&gateway, client);
            assert_eq!(left(&reply, "per-address"), Some(100 - round));
        }
    }
    assert_eq!(evicted(&gateway), 0);
}

/// Requests that are refused take nobody's slot, so a flood of them forgets nobody.
#[test]
fn who_is_refused_displaces_nobody() {
    let gateway: Gateway<Alone> = start(&per_address(1));
    for client in 0..64 {
        let exhausted = (0..101).map(|_| send_from(&gateway, client).status).last();
        assert_eq!(exhausted, Some(429));
    }
    for _ in 0..100 {
        assert_eq!(send_from(&gateway, 7).status, 429);
    }
    assert_eq!(evicted(&gateway), 0);
}

fn process() -> Process {
    Process::new(Clock::at(Timestamp::from_seconds(1_795_176_000)))
}

#[test]
fn the_seed_is_made_once_and_workers_agree_on_it() {
    let process = process();
    let config = per_address(1000);
    let workers: Vec<Gateway<Alone>> = (0..4)
        .map(|_| Gateway::on(process.worker(), &config).unwrap_or_else(|errors| panic!("{errors}")))
        .collect();
    let seed = || workers[0].host.shared_get("tollgate/seed").unwrap();
    assert_eq!(seed(), None, "nothing is written before there is a request");
    send_from(&workers[0], 0);
    let agreed = seed();
    assert_eq!(agreed.as_ref().map(|seed| seed.bytes.len()), Some(16));
    for client in 1..500 {
        for (before, worker) in workers.iter().enumerate() {
            let reply = send_from(worker, client);
            assert_eq!(left(&reply, "per-address"), Some(99 - before as u64));
        }
    }
    assert_eq!(seed(), agreed, "nor is it ever written again");
}

#[test]
fn a_seed_that_cannot_be_read_is_made_anew() {
    let process = process();
    process.put("tollgate/seed", b"short");
    let gateway: Gateway<Alone> = Gateway::on(process.worker(), &per_address(9)).ok().unwrap();
    assert_eq!(send_from(&gateway, 1).status, 200);
    let seed = gateway.host.shared_get("tollgate/seed").unwrap().unwrap();
    assert_eq!(seed.bytes.len(), 16);
}

/// Clients that fill one page under one seed: whoever knows the code can find them, but not for a
/// seed that is not known.
#[test]
fn nobody_can_aim_at_a_page_without_the_seed() {
    const KNOWN: [u8; 16] = *b"a seed that leak";
    let table =
        tollgate_rate_table::TableSize::for_clients(std::num::NonZeroU32::new(1000).unwrap());
    let (table, seed) = (table.unwrap(), Seed::from_bytes(KNOWN));
    let page = |client: u32| {
        let parts: [&[u8]; 2] = [b"per-address", &client.to_be_bytes()];
        seed.client(parts).page(table)
    };
    let aimed: Vec<u32> = (0..)
        .filter(|client| page(*client) == 3)
        .take(300)
        .collect();
    let pages_used = |process: Process| {
        let gateway: Gateway<Alone> = Gateway::on(process.worker(), &per_address(1000))
            .ok()
            .unwrap();
        for client in &aimed {
            assert_eq!(send_from(&gateway, *client).status, 200);
        }
        let keys = gateway.host.process.shared_keys();
        let pages: HashSet<String> = keys
            .into_iter()
            .filter(|key| key.starts_with(PER_ADDRESS))
            .collect();
        (pages.len(), evicted(&gateway))
    };
    let leaked = process();
    leaked.put("tollgate/seed", &KNOWN);
    assert_eq!(pages_used(leaked), (1, 300 - 64));
    assert_eq!(pages_used(process()), (32, 0));
}
