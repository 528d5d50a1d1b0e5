//! The probe against servers of every habit.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail by a panic"
)]

use prost::Message as _;
use tollgate_calendar::{Calendar, Period, Settings, Window};
use tollgate_quota_store::rls::{
    Call, Descriptor, Finding, Probe, ProbeStep, Profile, RateLimitService, Verdict, proto,
};
use tollgate_quota_store::{ConsumerTag, StoreError};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// 2026-11-21T06:00:00Z
const NOW: i64 = 1_795_240_800;
const MONTH_30_DAYS: i64 = 30 * 86_400;

/// How a server behaves.
#[derive(Clone, Copy)]
struct Server {
    limit: Option<u32>,
    honours_hits: bool,
    window_end: i64,
    count: u64,
}

fn month() -> Window {
    Calendar::new(Settings::every(Period::Month))
        .unwrap()
        .window(NOW)
}

fn good() -> Server {
    Server {
        limit: Some(1000),
        honours_hits: true,
        window_end: month().end,
        count: 0,
    }
}

impl Server {
    fn answer(&mut self, call: &Call) -> Vec<u8> {
        let request = proto::RateLimitRequest::decode(call.message.as_slice()).unwrap();
        let statuses = request.descriptors.iter().map(|descriptor| {
            self.count += match self.honours_hits {
                true => descriptor.hits_addend.unwrap(),
                false => 1,
            };
            let limit = u64::from(self.limit.unwrap_or(0));
            let over = self.limit.is_some() && self.count > limit;
            let code = if over {
                proto::Code::OverLimit
            } else {
                proto::Code::Ok
            };
            proto::DescriptorStatus {
                code: code.into(),
                current_limit: self.limit.map(|requests_per_unit| proto::RateLimit {
                    requests_per_unit,
                    unit: 5,
                }),
                limit_remaining: u32::try_from(limit.saturating_sub(self.count)).unwrap(),
                duration_until_reset: self.limit.map(|_| proto::Duration {
                    seconds: self.window_end - NOW,
                    nanos: 0,
                }),
            }
        });
        proto::RateLimitResponse {
            overall_code: proto::Code::Ok.into(),
            statuses: statuses.collect(),
            response_headers_to_add: Vec::new(),
        }
        .encode_to_vec()
    }
}

fn probe(profile: Profile, limit: u32) -> Probe {
    let descriptor = Descriptor {
        plan: "gold".into(),
        quota: "month".into(),
        consumer: ConsumerTag::new("probe", "1"),
        period: "2026-11-01".into(),
    };
    let service = RateLimitService::new(profile, "tollgate");
    Probe::new(service, descriptor, limit, month())
}

fn verdict(limit: u32, mut server: Server) -> Verdict {
    run(probe(Profile::EnvoyRatelimit, limit), |call| {
        server.answer(call)
    })
}

fn run(mut probe: Probe, mut answer: impl FnMut(&Call) -> Vec<u8>) -> Verdict {
    let mut call = probe.start();
    for _ in 0..2 {
        match probe.answered(NOW, Ok(&answer(&call))) {
            ProbeStep::Call(next) => call = next,
            ProbeStep::Done(verdict) => return verdict,
        }
    }
    panic!("a probe has two calls");
}

#[test]
fn a_server_as_it_should_be_is_good() {
    for limit in [0, 1, 6, 7, 8, 1000, u32::MAX] {
        let server = Server {
            limit: Some(limit),
            ..good()
        };
        assert_eq!(verdict(limit, server), Verdict::Good, "{limit}");
    }
}

#[test]
fn an_old_server_is_found_by_what_it_counts() {
    for limit in [1, 6, 7, 8, 1000] {
        let server = Server {
            limit: Some(limit),
            honours_hits: false,
            ..good()
        };
        assert_eq!(
            verdict(limit, server),
            Verdict::Bad(vec![Finding::HitsIgnored]),
            "{limit}"
        );
    }
}

#[test]
fn a_server_without_the_limit_is_found() {
    let server = Server {
        limit: None,
        ..good()
    };
    assert_eq!(verdict(1000, server), Verdict::Bad(vec![Finding::NoLimit]));
    let server = Server {
        limit: Some(10),
        ..good()
    };
    let (ours, theirs) = (1000, 10);
    assert_eq!(
        verdict(1000, server),
        Verdict::Bad(vec![Finding::LimitDiffers { ours, theirs }])
    );
}

#[test]
fn months_of_thirty_days_are_found() {
    let window_end = NOW - NOW % MONTH_30_DAYS + MONTH_30_DAYS;
    let found = verdict(
        1000,
        Server {
            window_end,
            ..good()
        },
    );
    let (ours, theirs) = (month().end, window_end);
    assert_eq!(
        found,
        Verdict::Bad(vec![Finding::WindowDiffers { ours, theirs }])
    );
    let sentence = found.to_string();
    for part in ["2026-12-03", "2026-12-01", "USE_CALENDAR_MONTH_RATE_LIMIT"] {
        assert!(sentence.contains(part), "{sentence}");
    }
}

#[test]
fn all_findings_are_told_at_once() {
    let server = Server {
        limit: Some(500),
        honours_hits: false,
        window_end: NOW + 5000,
        ..good()
    };
    match verdict(1000, server) {
        Verdict::Bad(findings) => assert_eq!(findings.len(), 3, "{findings:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn clocks_may_differ_by_a_minute() {
    for (seconds, good_enough) in [(-60, true), (60, true), (61, false), (-61, false)] {
        let window_end = month().end + seconds;
        let found = verdict(
            1000,
            Server {
                window_end,
                ..good()
            },
        );
        assert_eq!(found == Verdict::Good, good_enough, "{seconds}");
    }
}

#[test]
fn at_the_end_of_a_window_nothing_is_told() {
    let mut probe = probe(Profile::EnvoyRatelimit, 1000);
    let answer = good().answer(&probe.start());
    for now in [month().end - 60, month().end, month().end + 1] {
        let step = probe.answered(now, Ok(&answer));
        assert!(
            matches!(step, ProbeStep::Done(Verdict::TryLater)),
            "{step:?}"
        );
    }
}

#[test]
fn an_error_is_handed_on() {
    let mut probe = probe(Profile::EnvoyRatelimit, 1000);
    let error = StoreError::grpc(12, b"");
    match probe.answered(NOW, Err(error.clone())) {
        ProbeStep::Done(Verdict::Failed(found)) => assert_eq!(found, error),
        other => panic!("{other:?}"),
    }
}

fn limitador(code: proto::Code, remaining: Option<&str>) -> Vec<u8> {
    let header = |value: &str| proto::HeaderValue {
        key: "X-RateLimit-Remaining".to_owned(),
        value: value.to_owned(),
        raw_value: Vec::new(),
    };
    proto::RateLimitResponse {
        overall_code: code.into(),
        statuses: Vec::new(),
        response_headers_to_add: remaining.map(header).into_iter().collect(),
    }
    .encode_to_vec()
}

#[test]
fn limitador_is_to_say_what_remains() {
    let found = |limit, code, remaining: Option<&str>| {
        let remaining = remaining.map(str::to_owned);
        run(probe(Profile::Limitador, limit), |call| match call.method {
            "ShouldRateLimit" => limitador(code, remaining.as_deref()),
            _ => limitador(proto::Code::Ok, None),
        })
    };
    let ok = proto::Code::Ok;
    assert_eq!(found(1000, ok, Some("993")), Verdict::Good);
    assert_eq!(found(5, proto::Code::OverLimit, Some("5")), Verdict::Good);
    assert_eq!(
        found(1000, ok, None),
        Verdict::Bad(vec![Finding::RemainingMissing])
    );
    assert_eq!(
        found(1000, ok, Some("999")),
        Verdict::Bad(vec![Finding::HitsIgnored])
    );
}
