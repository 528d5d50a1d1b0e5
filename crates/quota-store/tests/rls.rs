//! Calls of the Rate Limit Service protocol, byte by byte where it matters, and their answers.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail by a panic"
)]

use std::time::Duration;

use proptest::prelude::*;
use prost::Message as _;
use tollgate_calendar::Period;
use tollgate_quota_store::rls::{
    Descriptor, MAX_BATCH, MAX_COUNT, PlanQuota, Profile, Purpose, RateLimitService, Report,
    Status, proto, ratelimit_config,
};
use tollgate_quota_store::{ConsumerTag, StoreError};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

const PURPOSES: [Purpose; 3] = [Purpose::Report, Purpose::Ask, Purpose::Peek];

fn service(profile: Profile) -> RateLimitService {
    RateLimitService::new(profile, "tollgate")
}

fn report(consumer: &str, hits: u32) -> Report {
    Report {
        descriptor: Descriptor {
            plan: "gold".into(),
            quota: "month".into(),
            consumer: ConsumerTag::new("test", consumer),
            period: "2026-11-01".into(),
        },
        hits,
    }
}

fn descriptor_status(code: proto::Code, remaining: u32) -> proto::DescriptorStatus {
    proto::DescriptorStatus {
        code: code.into(),
        current_limit: Some(proto::RateLimit {
            requests_per_unit: 1000,
            unit: 5,
        }),
        limit_remaining: remaining,
        duration_until_reset: Some(proto::Duration {
            seconds: 60,
            nanos: 500_000_000,
        }),
    }
}

fn answer(statuses: Vec<proto::DescriptorStatus>) -> Vec<u8> {
    let response = proto::RateLimitResponse {
        overall_code: proto::Code::Ok.into(),
        statuses,
        response_headers_to_add: Vec::new(),
    };
    response.encode_to_vec()
}

fn limitador_answer(code: proto::Code, headers: &[(&str, &str)]) -> Vec<u8> {
    let header = |(key, value): &(&str, &str)| proto::HeaderValue {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
        raw_value: Vec::new(),
    };
    let response = proto::RateLimitResponse {
        overall_code: code.into(),
        statuses: Vec::new(),
        response_headers_to_add: headers.iter().map(header).collect(),
    };
    response.encode_to_vec()
}

#[test]
fn a_request_has_the_bytes_that_the_protocol_wants() {
    let call = RateLimitService::new(Profile::EnvoyRatelimit, "d")
        .encode(Purpose::Ask, &[report("acme", 7)]);
    assert_eq!(call.service, "envoy.service.ratelimit.v3.RateLimitService");
    assert_eq!(call.method, "ShouldRateLimit");
    let tag = ConsumerTag::new("test", "acme").to_string();
    let entry = |key: &str, value: &str| {
        let length = |text: &str| u8::try_from(text.len()).unwrap();
        let mut entry = vec![0x0a, length(key)];
        entry.extend(key.bytes());
        entry.extend([0x12, length(value)]);
        entry.extend(value.bytes());
        [vec![0x0a, u8::try_from(entry.len()).unwrap()], entry].concat()
    };
    let descriptor = [
        entry("plan", "gold"),
        entry("quota", "month"),
        entry("consumer", &tag),
        entry("period", "2026-11-01"),
        // hits_addend is a UInt64Value with the field value, 7.
        vec![0x1a, 2, 0x08, 7],
    ]
    .concat();
    let request = [
        vec![0x0a, 1, b'd'],
        vec![0x12, u8::try_from(descriptor.len()).unwrap()],
        descriptor,
    ]
    .concat();
    assert_eq!(call.message, request);
}

#[test]
fn a_peek_says_none_and_not_nothing() {
    let call = service(Profile::EnvoyRatelimit).encode(Purpose::Peek, &[report("acme", 7)]);
    let request = proto::RateLimitRequest::decode(call.message.as_slice()).unwrap();
    // Absent, it would be taken for 1.
    assert_eq!(request.descriptors[0].hits_addend, Some(0));
}

#[test]
fn limitador_has_methods_of_its_own_and_hits_for_the_whole_call() {
    let calls = PURPOSES.map(|purpose| {
        let call = service(Profile::Limitador).encode(purpose, &[report("acme", 7)]);
        let request = proto::RateLimitRequest::decode(call.message.as_slice()).unwrap();
        assert_eq!(request.descriptors[0].hits_addend, None);
        let service = call.service.split('.').next().unwrap();
        (service, call.method, request.hits_addend)
    });
    assert_eq!(
        calls,
        [
            ("kuadrant", "Report", 7),
            ("envoy", "ShouldRateLimit", 7),
            ("kuadrant", "CheckRateLimit", 0),
        ]
    );
}

#[test]
fn each_descriptor_has_its_own_answer() {
    let batch = [report("acme", 1), report("bolt", 1), report("chip", 1)];
    let message = answer(vec![
        descriptor_status(proto::Code::Ok, 10),
        descriptor_status(proto::Code::OverLimit, 0),
        proto::DescriptorStatus {
            current_limit: None,
            ..descriptor_status(proto::Code::Ok, u32::MAX)
        },
    ]);
    let results = service(Profile::EnvoyRatelimit).decode(Purpose::Ask, &batch, &message);
    let status = |over, remaining| {
        Ok(Status {
            over,
            remaining: Some(remaining),
            limit: Some(1000),
            reset: Some(Duration::from_millis(60_500)),
        })
    };
    assert_eq!(
        results,
        [status(false, 10), status(true, 0), Err(StoreError::NoLimit)]
    );
}

#[test]
fn what_limitador_knows_is_in_headers() {
    let batch = [report("acme", 1)];
    let decode = |purpose, message: &[u8]| {
        service(Profile::Limitador)
            .decode(purpose, &batch, message)
            .remove(0)
            .unwrap()
    };
    let headers = [
        ("X-RateLimit-Limit", "10, 10;w=60"),
        ("X-RateLimit-Remaining", "4"),
        ("X-RateLimit-Reset", "59"),
    ];
    assert_eq!(
        decode(
            Purpose::Ask,
            &limitador_answer(proto::Code::OverLimit, &headers)
        ),
        Status {
            over: true,
            remaining: Some(4),
            limit: Some(10),
            reset: Some(Duration::from_secs(59)),
        }
    );
    let unknown = Status {
        over: false,
        remaining: None,
        limit: None,
        reset: None,
    };
    assert_eq!(
        decode(Purpose::Report, &limitador_answer(proto::Code::Ok, &[])),
        unknown
    );
    let odd = [
        ("x-ratelimit-remaining", "-1"),
        ("x-ratelimit-limit", "99999999999"),
    ];
    assert_eq!(
        decode(Purpose::Ask, &limitador_answer(proto::Code::Ok, &odd)),
        Status {
            limit: Some(u32::MAX),
            ..unknown
        }
    );
}

#[test]
fn a_verdict_that_is_none_is_an_error() {
    let garbled = |profile, message: &[u8]| {
        let result = service(profile).decode(Purpose::Ask, &[report("a", 1)], message);
        assert!(
            matches!(result[0], Err(StoreError::Garbled(_))),
            "{result:?}"
        );
        assert_eq!(result.len(), 1);
    };
    // Limitador answers so when there is no namespace.
    garbled(Profile::Limitador, &[]);
    garbled(Profile::EnvoyRatelimit, &[]);
    let status = descriptor_status(proto::Code::Ok, 1);
    garbled(Profile::EnvoyRatelimit, &answer(vec![status.clone(); 2]));
    garbled(
        Profile::EnvoyRatelimit,
        &answer(vec![proto::DescriptorStatus { code: 9, ..status }]),
    );
    garbled(Profile::EnvoyRatelimit, &vec![0; 1024 * 1024]);
}

#[test]
fn a_time_that_is_none_is_left_out() {
    for (seconds, nanos) in [(-1, 0), (0, -1), (i64::MIN, i32::MIN)] {
        let status = proto::DescriptorStatus {
            duration_until_reset: Some(proto::Duration { seconds, nanos }),
            ..descriptor_status(proto::Code::Ok, 1)
        };
        let results = service(Profile::EnvoyRatelimit).decode(
            Purpose::Ask,
            &[report("a", 1)],
            &answer(vec![status]),
        );
        assert_eq!(results[0].as_ref().unwrap().reset, None);
    }
}

#[test]
fn what_is_too_much_for_a_call_is_not_sent_and_said_so() {
    for (profile, most) in [
        (Profile::EnvoyRatelimit, MAX_BATCH),
        (Profile::Limitador, 1),
    ] {
        let batch = vec![report("acme", 1); most + 2];
        let call = service(profile).encode(Purpose::Report, &batch);
        let request = proto::RateLimitRequest::decode(call.message.as_slice()).unwrap();
        assert_eq!(request.descriptors.len(), most);
        let message = match profile {
            Profile::EnvoyRatelimit => answer(vec![descriptor_status(proto::Code::Ok, 1); most]),
            Profile::Limitador => limitador_answer(proto::Code::Ok, &[]),
        };
        let results = service(profile).decode(Purpose::Report, &batch, &message);
        assert_eq!(results.len(), batch.len());
        assert!(results[..most].iter().all(Result::is_ok));
        assert!(
            results[most..]
                .iter()
                .all(|result| *result == Err(StoreError::NotSent))
        );
    }
}

#[test]
fn statuses_of_grpc_are_told_apart() {
    for (status, transient) in [
        (2, true),
        (4, true),
        (8, true),
        (14, true),
        (7, false),
        (12, false),
        (16, false),
    ] {
        let error = StoreError::grpc(status, b"what it said");
        assert_eq!(error.is_transient(), transient, "{status}");
        assert!(error.to_string().ends_with(": \"what it said\""), "{error}");
    }
}

fn monthly<'a>(plan: &'a str, quota: &'a str, limit: u64) -> PlanQuota<'a> {
    let period = Period::Month;
    PlanQuota {
        plan,
        quota,
        limit,
        period,
    }
}

#[test]
fn the_servers_configuration_has_limits_by_plan_and_quota() {
    let quotas = [
        monthly("gold", "month", 1_000_000),
        PlanQuota {
            period: Period::Day,
            ..monthly("gold", "daily", 50_000)
        },
        monthly("free \"1\"", "month", 0),
    ];
    assert_eq!(
        ratelimit_config("tollgate", &quotas).unwrap(),
        r#"domain: "tollgate"
descriptors:
- key: plan
  value: "free \"1\""
  descriptors:
  - key: quota
    value: "month"
    descriptors:
    - key: consumer
      descriptors:
      - key: period
        rate_limit:
          unit: month
          requests_per_unit: 0
- key: plan
  value: "gold"
  descriptors:
  - key: quota
    value: "daily"
    descriptors:
    - key: consumer
      descriptors:
      - key: period
        rate_limit:
          unit: day
          requests_per_unit: 50000
  - key: quota
    value: "month"
    descriptors:
    - key: consumer
      descriptors:
      - key: period
        rate_limit:
          unit: month
          requests_per_unit: 1000000
"#
    );
}

#[test]
fn what_the_server_cannot_keep_is_refused_with_its_reason() {
    let refused = |quotas: &[PlanQuota<'_>]| {
        ratelimit_config("tollgate", quotas)
            .unwrap_err()
            .to_string()
    };
    let gold = monthly("gold", "month", 1);
    for (quotas, reason) in [
        (
            vec![PlanQuota {
                period: Period::Week,
                ..gold
            }],
            "begins on Thursdays",
        ),
        (
            vec![PlanQuota {
                period: Period::Year,
                ..gold
            }],
            "365 days",
        ),
        (
            vec![PlanQuota {
                limit: MAX_COUNT + 1,
                ..gold
            }],
            "expected at most 4294967295",
        ),
        (vec![PlanQuota { plan: "g*", ..gold }], "any text"),
        (vec![gold, gold], "found it twice"),
    ] {
        let sentence = refused(&quotas);
        assert!(sentence.contains(reason), "{sentence}");
    }
    let most = PlanQuota {
        limit: MAX_COUNT,
        ..gold
    };
    assert!(ratelimit_config("tollgate", &[most]).is_ok());
}

fn profile() -> impl Strategy<Value = Profile> {
    prop_oneof![Just(Profile::EnvoyRatelimit), Just(Profile::Limitador)]
}

fn purpose() -> impl Strategy<Value = Purpose> {
    proptest::sample::select(PURPOSES.to_vec())
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(
        profile in profile(),
        purpose in purpose(),
        size in 0..4_usize,
        message in any::<Vec<u8>>(),
    ) {
        let batch = vec![report("acme", 1); size];
        prop_assert_eq!(service(profile).decode(purpose, &batch, &message).len(), size);
    }

    #[test]
    fn a_damaged_answer_is_read_without_panic(
        profile in profile(),
        purpose in purpose(),
        seconds in any::<i64>(),
        nanos in any::<i32>(),
        code in any::<i32>(),
        remaining in any::<u32>(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let status = proto::DescriptorStatus {
            code,
            duration_until_reset: Some(proto::Duration { seconds, nanos }),
            ..descriptor_status(proto::Code::Ok, remaining)
        };
        let mut message = answer(vec![status]);
        let at = at.index(message.len());
        message[at] = byte;
        let results = service(profile).decode(purpose, &[report("acme", 1)], &message);
        prop_assert_eq!(results.len(), 1);
    }

    #[test]
    fn what_is_sent_is_what_was_meant(
        hits in proptest::collection::vec(any::<u32>(), 1..20),
        plan in ".*",
        period in ".*",
    ) {
        let batch: Vec<Report> = hits
            .iter()
            .map(|hits| {
                let mut report = report("acme", *hits);
                report.descriptor.plan = plan.as_str().into();
                report.descriptor.period = period.as_str().into();
                report
            })
            .collect();
        let call = service(Profile::EnvoyRatelimit).encode(Purpose::Report, &batch);
        let request = proto::RateLimitRequest::decode(call.message.as_slice()).unwrap();
        prop_assert_eq!(request.descriptors.len(), hits.len());
        for (descriptor, hits) in request.descriptors.iter().zip(hits) {
            prop_assert_eq!(descriptor.hits_addend, Some(hits.into()));
            prop_assert_eq!(&descriptor.entries[0].value, &plan);
            prop_assert_eq!(&descriptor.entries[3].value, &period);
        }
    }
}
