//! What a request goes through, piece by piece.

use std::hint::black_box;
use std::num::{NonZeroU32, NonZeroU64};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tollgate_core::apis::{ApiConfig, ApiTable, HostOptions};
use tollgate_core::config::{ConfigErrors, Document};
use tollgate_core::headers::{Headers, to_wire};
use tollgate_core::target::{PathOptions, RequestTarget};
use tollgate_gcra::Bucket;
use tollgate_instructions::document::{self, HOST, PATH};
use tollgate_instructions::scenario::Scenario;
use tollgate_jose::Jws;
use tollgate_rate_table::{RatePage, SLOTS_PER_PAGE, Seed};

/// 2026-11-20T12:00:00Z, in ns.
const NOW: u64 = 1_795_176_000_000_000_000;

fn bucket() -> Bucket {
    let second = NonZeroU64::new(1_000_000_000).expect("not zero");
    let thousand = NonZeroU32::new(1000).expect("not zero");
    Bucket::new(thousand, second, thousand).expect("a bucket")
}

fn gcra(c: &mut Criterion) {
    let bucket = bucket();
    let mut now = NOW;
    let mut tat = NOW;
    c.bench_function("gcra: charge", |b| {
        b.iter(|| {
            now += 2_000_000;
            let admitted = bucket.check(black_box(tat), now, 1).expect("half the rate");
            tat = admitted.tat;
        });
    });
}

/// A page as it comes from shared data, one client charged, and back to bytes.
fn rate_table(c: &mut Criterion) {
    let bucket = bucket();
    let seed = Seed::from_bytes([7; 16]);
    let mut group = c.benchmark_group("rate table: charge in a page");
    for clients in [1, SLOTS_PER_PAGE / 2, SLOTS_PER_PAGE] {
        let mut page = RatePage::empty();
        for number in 0..clients {
            let client = seed.client([number.to_le_bytes()]);
            assert!(page.charge(&bucket, client, NOW, 1).changed);
        }
        let bytes = page.into_bytes();
        group.bench_function(BenchmarkId::from_parameter(clients), |b| {
            b.iter(|| {
                let mut page = RatePage::from_bytes(black_box(&bytes).clone());
                let client = seed.client([black_box(0_usize).to_le_bytes()]);
                let charged = page.charge(&bucket, client, NOW, 1);
                (charged.changed, page.into_bytes())
            });
        });
    }
    group.finish();
}

fn apis(c: &mut Criterion) {
    let mut group = c.benchmark_group("target: read the path and find its API");
    let options = PathOptions::default();
    for count in [10, 1000] {
        let text = document::with_apis(count)["apis"].to_string();
        let mut errors = ConfigErrors::default();
        let document = format!(r#"{{"apis": {text}}}"#);
        let mut document = Document::parse(document.as_bytes()).expect("a document");
        let configs = document.take::<Vec<ApiConfig>>("apis", &mut errors);
        let configs = configs.ok().flatten().expect("APIs");
        let table = ApiTable::compile(configs, HostOptions::default(), options, &mut errors);
        assert!(errors.is_empty(), "{errors}");
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                let target = RequestTarget::parse(black_box(PATH).as_bytes(), &options);
                let target = target.expect("a path with one reading");
                let api = table.find(Some(HOST.as_bytes()), b"GET", &target);
                api.expect("one reading").expect("an API")
            });
        });
    }
    group.finish();
}

fn headers(c: &mut Criterion) {
    let token = document::unsigned_token(0, NOW / 1_000_000_000);
    let mut group = c.benchmark_group("headers: index a map, look one up");
    for count in [8, 40] {
        let headers = document::headers(&token, count);
        let pairs: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let wire = to_wire(&pairs);
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                let headers = Headers::from_wire(black_box(&wire).clone()).expect("a map");
                headers.get("x-api-key").map(<[u8]>::len)
            });
        });
    }
    group.finish();
}

fn token(c: &mut Criterion) {
    let token = document::unsigned_token(0, NOW / 1_000_000_000);
    c.bench_function("token: parse", |b| {
        b.iter(|| {
            let token = Jws::parse(black_box(&token).as_bytes(), 16 << 10).expect("a token");
            token.claims().len()
        });
    });
}

fn accept(c: &mut Criterion) {
    let value = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
    c.bench_function("accept: choose a form", |b| {
        b.iter(|| tollgate_problem_format::choose([black_box(value).as_bytes()].into_iter()));
    });
}

/// Whole requests through plugins, entered as Envoy enters them: an API key looked up among few and
/// among many, and the full chain.
fn plugins(c: &mut Criterion) {
    let mut group = c.benchmark_group("plugin: a request");
    for scenario in [
        Scenario::KeysOnly,
        Scenario::Full,
        Scenario::Keys(10_000),
        Scenario::FullMissing,
    ] {
        let mut session = scenario.start(1);
        group.bench_function(BenchmarkId::from_parameter(scenario.name()), |b| {
            b.iter(|| session.send(1));
        });
    }
    group.finish();
}

criterion_group!(
    hot_paths, gcra, rate_table, apis, headers, token, accept, plugins
);
criterion_main!(hot_paths);
