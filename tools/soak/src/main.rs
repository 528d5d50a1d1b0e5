//! `make soak MINUTES=30`: a real Envoy with the full plugin, traffic of every kind at once, an
//! issuer that dies and returns, upstreams that break off, clients that leave, configurations that
//! are replaced. At the end it checks that nothing was lost, counted twice or left behind, and that
//! memory did not grow.
//!
//! Everything is on loopback. It ends with status 1 if a check fails.

mod books;
mod gateway;
mod memory;
mod traffic;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use books::Books;
use gateway::{Gateway, PLACES};
use memory::Memory;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let minutes = match arguments.as_slice() {
        [minutes] => minutes.parse::<u64>().ok().filter(|minutes| *minutes > 0),
        _ => None,
    };
    let Some(minutes) = minutes else {
        eprintln!("usage: tollgate-soak <minutes>");
        return ExitCode::from(2);
    };
    let faults = run(Duration::from_secs(60 * minutes)).await;
    for fault in &faults {
        println!("FAILED: {fault}");
    }
    match faults.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// How often the listener is replaced, and the issuer dies. The issuer is gone for a third of it.
const UPDATE_EVERY: Duration = Duration::from_secs(20);
const OUTAGE_EVERY: Duration = Duration::from_secs(45);
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// What did not hold.
#[expect(
    clippy::disallowed_methods,
    reason = "a run takes as long as it is told to"
)]
async fn run(time: Duration) -> Vec<String> {
    let started = Instant::now();
    let mut gateway = Gateway::start().await;
    let books = Arc::new(Books::default());
    let stop = Arc::new(AtomicBool::new(false));
    let lanes = traffic::start(&gateway, &books, &stop);
    let mut memory = Memory::of(gateway.envoy.pid());
    let (mut updates, mut outages) = (0_u32, 0_u32);
    let mut alive = true;
    let mut sampled = Duration::ZERO;
    while started.elapsed() < time {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = started.elapsed();
        books.upstream(gateway.upstream.take_received());
        if now >= sampled {
            memory.sample(now);
            sampled = now + SAMPLE_EVERY;
        }
        if now >= OUTAGE_EVERY * (outages + 1) && alive {
            gateway.idp.kill().await;
            alive = false;
        } else if now >= OUTAGE_EVERY * (outages + 1) + OUTAGE_EVERY / 3 && !alive {
            gateway.idp.revive();
            alive = true;
            outages += 1;
        }
        if now >= UPDATE_EVERY * (updates + 1) {
            updates += 1;
            gateway.update(updates).await;
            books.updated();
        }
    }
    if !alive {
        gateway.idp.revive();
    }
    stop.store(true, Ordering::Relaxed);
    lanes.join_all().await;
    let mut faults = settle(&gateway, &books).await;
    let stats = gateway.envoy.stats().await;
    println!("time:                   {} min", time.as_secs() / 60);
    println!("configuration updates:  {updates}");
    println!("issuer outages:         {outages}");
    faults.extend(books.close(&stats));
    faults.extend(memory.close());
    for name in [
        "vm_reload_success",
        "vm_reload_failure",
        "vm_reload_backoff",
    ] {
        let count = stats.sum(&format!("envoy_wasm_tollgate_{name}"), &[]);
        if count > 0.0 {
            faults.push(format!("{count} of {name}"));
        }
    }
    if gateway.envoy.log().contains("panicked") {
        faults.push("a plugin panicked, see Envoy's log".to_owned());
    }
    faults
}

/// Waits until nothing is under way, and checks that all places are free: so many requests may be
/// held, and not one more.
async fn settle(gateway: &Gateway, books: &Books) -> Vec<String> {
    let active = [("envoy_http_conn_manager_prefix", "http")];
    let what = "all requests to end";
    let idle = |stats: &tollgate_tests::Stats| {
        stats.get("envoy_http_downstream_rq_active", &active) == Some(0.0)
    };
    gateway.envoy.wait_for_stats(what, idle).await;
    books.upstream(gateway.upstream.take_received());
    let mut held = tokio::task::JoinSet::new();
    let client = gateway.envoy.http2();
    for _ in 0..PLACES {
        held.spawn(
            client
                .get("/held/a")
                .header("x-echo-hold", "end")
                .try_send(),
        );
    }
    let ours = |stats: &tollgate_tests::Stats| {
        stats.get("envoy_http_downstream_rq_active", &active) == Some(PLACES as f64)
    };
    gateway
        .envoy
        .wait_for_stats("the places to be taken", ours)
        .await;
    gateway.upstream.wait_for_count(PLACES).await;
    let mut faults = Vec::new();
    let further = client.get("/held/a").send().await;
    if further.status != 429 {
        faults.push(format!(
            "a request beyond all places got {}",
            further.status
        ));
    }
    gateway.upstream.release("end", PLACES);
    let replies = held.join_all().await;
    let good = replies
        .iter()
        .filter(|reply| reply.as_ref().is_ok_and(|it| it.status == 200));
    let good = good.count();
    println!("places free at the end: {good} of {PLACES}");
    if good < PLACES {
        faults.push(format!("{} places were never given back", PLACES - good));
    }
    faults
}
