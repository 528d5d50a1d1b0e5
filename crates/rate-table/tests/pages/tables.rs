//! Whole tables: how evenly clients spread whatever they are called, and how rarely a table of the
//! right size forgets one. Seeds are fixed, so the figures are the same in each run; the bounds
//! around them would hold for nearly all seeds.

use tollgate_rate_table::{ClientHash, RatePage, SLOTS_PER_PAGE, Seed, TableSize};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use crate::{SECOND, START, bucket, count};

fn seed(number: u8) -> Seed {
    Seed::from_bytes([number; 16])
}

fn size(max_clients: u32) -> TableSize {
    TableSize::for_clients(count(max_clients)).unwrap()
}

/// How many of the clients hash to each page.
fn spread(size: TableSize, clients: impl IntoIterator<Item = ClientHash>) -> Vec<u32> {
    let mut pages = vec![0; size.pages().get() as usize];
    for client in clients {
        pages[client.page(size) as usize] += 1;
    }
    pages
}

/// Pearson's statistic of an even spread, in standard deviations from what chance makes of it.
fn chi_square_deviation(pages: &[u32]) -> f64 {
    let mean = f64::from(pages.iter().sum::<u32>()) / pages.len() as f64;
    let square = |n: &u32| (f64::from(*n) - mean).powi(2) / mean;
    let freedom = (pages.len() - 1) as f64;
    (pages.iter().map(square).sum::<f64>() - freedom) / (2.0 * freedom).sqrt()
}

/// The probability that a Poisson variable is above `bound`.
fn poisson_tail(mean: f64, bound: usize) -> f64 {
    let ln_factorial = |n: usize| (1..=n).map(|i| (i as f64).ln()).sum::<f64>();
    (bound + 1..bound + 300)
        .map(|n| (n as f64 * mean.ln() - mean - ln_factorial(n)).exp())
        .sum()
}

#[test]
fn clients_spread_evenly_however_alike_they_are() {
    type Name = fn(u32) -> Vec<u8>;
    let families: [(&str, Name); 6] = [
        ("consecutive addresses", |n| n.to_be_bytes().to_vec()),
        ("addresses of one host part", |n| {
            [n.to_be_bytes(), [0; 4]].concat()
        }),
        ("numbered users", |n| format!("user-{n:08}").into_bytes()),
        ("one letter, longer and longer", |n| {
            vec![b'a'; n as usize % 4096]
        }),
        ("a bit in zeros", |n| {
            let mut name = vec![0; 512];
            name[n as usize % 512] = 1 << (n / 512);
            name
        }),
        ("multiples of a power of two", |n| {
            (u64::from(n) << 32).to_le_bytes().to_vec()
        }),
    ];
    let size = size(128 * 32);
    for (family, name) in families {
        for number in 1..=3 {
            let seed = seed(number);
            // Each name once: 4096 is the least that any of the families has.
            let pages = spread(size, (0..4096).map(|n| seed.client([name(n)])));
            let deviation = chi_square_deviation(&pages);
            assert!(deviation.abs() < 5.0, "{family}: {deviation}");
        }
    }
}

#[test]
fn names_that_fill_a_page_under_one_seed_spread_under_another() {
    let size = size(16 * 32);
    let aimed: Vec<u32> = (0..)
        .filter(|n: &u32| seed(1).client([n.to_be_bytes()]).page(size) == 3)
        .take(1024)
        .collect();
    for number in 2..=6 {
        let seed = seed(number);
        let pages = spread(size, aimed.iter().map(|n| seed.client([n.to_be_bytes()])));
        let deviation = chi_square_deviation(&pages);
        assert!(deviation.abs() < 5.0, "seed {number}: {deviation}");
    }
}

#[test]
fn pages_overflow_as_rarely_as_computed() {
    assert!(poisson_tail(32.0, SLOTS_PER_PAGE) < 2.1e-7);

    // That is too rare to be seen, so pages are made for half as many again.
    let (mut overflowing, mut pages) = (0, 0);
    for number in 0..10 {
        let seed = seed(number);
        let clients = (0..48_000_u32).map(|n| seed.client([n.to_be_bytes()]));
        let spread = spread(size(32_000), clients);
        overflowing += spread
            .iter()
            .filter(|n| **n as usize > SLOTS_PER_PAGE)
            .count();
        pages += spread.len();
    }
    let expected = poisson_tail(48.0, SLOTS_PER_PAGE) * pages as f64;
    assert!((overflowing as f64 - expected).abs() < 4.0 * expected.sqrt());
}

struct Table {
    size: TableSize,
    seed: Seed,
    pages: Vec<RatePage>,
}

impl Table {
    fn new(max_clients: u32) -> Self {
        let size = size(max_clients);
        Table {
            size,
            seed: seed(7),
            pages: vec![RatePage::empty(); size.pages().get() as usize],
        }
    }

    fn client(&mut self, number: u32) -> (ClientHash, &mut RatePage) {
        let client = self.seed.client([number.to_be_bytes()]);
        (client, &mut self.pages[client.page(self.size) as usize])
    }
}

/// A million clients use up their buckets within a thousand seconds, which is how long those take to
/// fill again, so that all are live at the end. Another client keeps to its limit meanwhile.
#[test]
fn a_table_for_a_million_clients_forgets_none_of_a_million() {
    const CLIENTS: u32 = 1_000_000;
    const WELL_BEHAVED: u32 = u32::MAX;
    let bucket = bucket(10 * SECOND, 100);
    let mut table = Table::new(CLIENTS);
    let mut evicted = 0;
    for number in 0..CLIENTS {
        let now = START + u64::from(number) * 1_000_000;
        let (client, page) = table.client(number);
        let charged = page.charge(&bucket, client, now, 100);
        assert!(charged.decision.is_ok());
        evicted += u32::from(charged.evicted.is_some());
        if number % 10_000 == 0 {
            let (client, page) = table.client(WELL_BEHAVED);
            let charged = page.charge(&bucket, client, now, 1);
            assert_eq!(charged.decision.unwrap().remaining, 99);
        }
    }
    // Expected of a random seed: 0.012.
    assert_eq!(evicted, 0);

    let end = START + 1000 * SECOND;
    for number in (0..CLIENTS).step_by(100) {
        let (client, page) = table.client(number);
        let standing = page.peek(&bucket, client, end, 0).unwrap();
        assert_eq!(standing.remaining, (CLIENTS - number) / 10_000);
    }
    let bytes: usize = table.pages.iter().map(|page| page.as_bytes().len()).sum();
    assert_eq!(bytes as u64, table.size.bytes(RatePage::BYTES));
}

#[test]
fn a_table_with_twice_its_clients_forgets_one_in_twenty() {
    let bucket = bucket(3600 * SECOND, 10);
    let mut table = Table::new(100_000);
    let mut evicted = 0;
    for number in 0..200_000 {
        let (client, page) = table.client(number);
        let charged = page.charge(&bucket, client, START, 1);
        assert_eq!(charged.decision.unwrap().remaining, 9);
        evicted += u32::from(charged.evicted.is_some());
    }
    // Of a page with 64 clients on average 3.19 are above 64, so 9,960 of 3,125 pages, with a
    // standard deviation of 270.
    assert!((9_000..11_000).contains(&evicted), "{evicted}");
}
