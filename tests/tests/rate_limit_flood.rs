//! A flood of more clients than there is memory for.

use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;
use tollgate_tests::{EchoUpstream, Envoy, HttpClient, RawClient, Reply, plugin, wasm_filter};

/// The clients that the table is made for.
const MAX_CLIENTS: usize = 20_000;
/// The addresses of the flood, each seen once.
const FLOOD: usize = 1_000_000;
const ROUNDS: usize = 40;
/// The requests that a connection of the flood carries, one behind the other.
const BATCH: usize = 500;
const BURST: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_flat_and_nobody_else_notices() {
    let upstream = EchoUpstream::start().await;
    // A token comes back in more time than the flood takes, so that all of it is live.
    let limits = json!([{
        "name": "per-address", "key": "client_address", "rate": format!("{BURST}/day"),
        "max_clients": MAX_CLIENTS,
    }]);
    let document = json!({ "rate_limit": limits });
    // The flood is answered by Envoy itself, and not logged: what is watched is its memory.
    let answer = json!({ "match": { "prefix": "/flood" }, "direct_response": { "status": 200 } });
    let envoy = Envoy::builder()
        .upstream(&upstream)
        .filter(wasm_filter("rate-limit", plugin("rate-limit"), document))
        .route(answer)
        .map_listener(|listener| {
            let listener = listener.use_remote_address().trusted_hops(1);
            listener.connection_manager(json!({ "access_log": [] }))
        })
        // Else Envoy reads the requests of a connection at once, and closes it because of so many
        // replies that are not sent yet.
        .patch(json!({ "layered_runtime": { "layers": [
            { "name": "flood", "static_layer": { "http.max_requests_per_io_cycle": 1 } },
        ] } }))
        .concurrency(4)
        .start()
        .await
        .unwrap();
    let envoy = Arc::new(envoy);
    let client = envoy.http1();

    // Both come again and again in the midst of the flood. The one stays within its burst; the other
    // has spent it before the flood begins, and hopes to be forgotten. A full page forgets who owes
    // least, so neither can be: a client of the flood owes one request, and these two more.
    let (careful, spent) = ("198.51.100.1", "198.51.100.2");
    for _ in 0..BURST {
        assert_eq!(from(&client, spent).await.status, 200);
    }
    assert_eq!(from(&client, spent).await.status, 429);
    for _ in 0..2 {
        assert_eq!(from(&client, careful).await.status, 200);
    }

    let mut warm = 0;
    for round in 0..ROUNDS {
        let flood = flood(&envoy, round);
        let (refused, (kept, turned_away)) = tokio::join!(flood, async {
            (from(&client, careful).await, from(&client, spent).await)
        });
        assert_eq!(
            refused, 0,
            "round {round}: an address that came once was refused"
        );
        assert_eq!(kept.status, 200, "round {round}");
        // Nothing was forgotten: of its burst is left what it has not used.
        assert_eq!(remaining(&kept), BURST - 3 - round, "round {round}");
        assert_eq!(turned_away.status, 429, "round {round}");
        if round == ROUNDS / 4 {
            warm = resident_kib(&envoy);
        }
    }
    let grown = resident_kib(&envoy).saturating_sub(warm);
    assert!(
        grown < 4 * 1024,
        "{grown} KiB more than the {warm} KiB when warm"
    );

    let stats = envoy.stats().await;
    let allowed = [("limit", "per-address"), ("decision", "allow")];
    let served = stats
        .get("tollgate_limit_requests_total", &allowed)
        .unwrap();
    assert_eq!(served, (FLOOD + BURST + 2 + ROUNDS) as f64);
    assert_eq!(stats.sum("tollgate_uncounted_total", &[]), 0.0);
    // A table has two slots for each client it is made for; all are taken, and each client that
    // found its page full was counted with the one that made room.
    let evicted = stats.get("tollgate_limit_evicted_total", &[("limit", "per-address")]);
    let slots = 2 * MAX_CLIENTS;
    assert_eq!(evicted, Some((FLOOD + 2 - slots) as f64));
}

async fn from(client: &HttpClient, address: &str) -> Reply {
    let request = client.get("/").header("x-forwarded-for", address);
    request.send().await
}

fn remaining(reply: &Reply) -> usize {
    let told = reply.header("ratelimit").unwrap_or_default();
    let number = told
        .split(";r=")
        .nth(1)
        .and_then(|rest| rest.split(';').next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("\"{told}\" tells no remaining"))
}

/// One request from each of the addresses of a round, and how many were refused.
async fn flood(envoy: &Arc<Envoy>, round: usize) -> usize {
    const CONNECTIONS: usize = 8;
    const ADDRESSES: usize = FLOOD / ROUNDS;
    let first = round * ADDRESSES;
    let mut connections = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let envoy = envoy.clone();
        connections.spawn(async move {
            let batches = (first..first + ADDRESSES).step_by(BATCH);
            let mut refused = 0;
            for batch in batches.skip(connection).step_by(CONNECTIONS) {
                refused += send_batch(envoy.raw().await, batch).await;
            }
            refused
        });
    }
    connections.join_all().await.into_iter().sum()
}

/// Sends the requests of a batch one behind the other, and says how many were refused.
async fn send_batch(mut connection: RawClient, first: usize) -> usize {
    let mut requests = String::with_capacity(BATCH * 96);
    for number in first..first + BATCH {
        let [_, a, b, c] = u32::try_from(number).unwrap().to_be_bytes();
        let end = match number + 1 == first + BATCH {
            true => "connection: close\r\n",
            false => "",
        };
        requests.push_str(&format!(
            "GET /flood HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 10.{a}.{b}.{c}\r\n{end}\r\n"
        ));
    }
    connection.send(requests).await;
    let replies = connection.read_to_end().await;
    let replies = String::from_utf8(replies).expect("replies without bodies");
    let count = |status: &str| replies.matches(&format!("HTTP/1.1 {status}")).count();
    let (admitted, refused) = (count("200"), count("429"));
    assert_eq!(admitted + refused, BATCH, "a reply to each request");
    refused
}

/// The memory that Envoy holds, as the kernel sees it.
fn resident_kib(envoy: &Envoy) -> u64 {
    let path = format!("/proc/{}/status", envoy.pid());
    let status = std::fs::read_to_string(path).expect("a running Envoy");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.expect("VmRSS in KiB")
}
