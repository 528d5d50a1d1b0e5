//! Batches as messages, and messages as results.

use std::time::Duration;

use prost::Message as _;

use super::proto::{
    Code, DescriptorStatus, Entry, HeaderValue, RateLimitDescriptor, RateLimitRequest,
    RateLimitResponse,
};
use super::{Call, Descriptor, Profile, Purpose, Report, Status};
use crate::StoreError;

const ENVOY_SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
const KUADRANT_SERVICE: &str = "kuadrant.service.ratelimit.v1.RateLimitService";

/// Longer answers are not read: those to a full batch have some 3 kB, more if there are headers.
const LONGEST_ANSWER: usize = 256 * 1024;

pub(super) fn encode(profile: Profile, domain: &str, purpose: Purpose, batch: &[Report]) -> Call {
    let (service, method) = match (profile, purpose) {
        (Profile::EnvoyRatelimit, _) | (_, Purpose::Ask) => (ENVOY_SERVICE, "ShouldRateLimit"),
        (Profile::Limitador, Purpose::Report) => (KUADRANT_SERVICE, "Report"),
        (Profile::Limitador, Purpose::Peek) => (KUADRANT_SERVICE, "CheckRateLimit"),
    };
    let hits = |report: &Report| match purpose {
        Purpose::Report | Purpose::Ask => report.hits,
        Purpose::Peek => 0,
    };
    let descriptor = |report: &Report| RateLimitDescriptor {
        entries: entries(&report.descriptor),
        hits_addend: (profile == Profile::EnvoyRatelimit).then(|| u64::from(hits(report))),
    };
    let request = RateLimitRequest {
        domain: domain.to_owned(),
        descriptors: batch.iter().map(descriptor).collect(),
        hits_addend: match profile {
            Profile::EnvoyRatelimit => 0,
            Profile::Limitador => batch.first().map_or(0, hits),
        },
    };
    Call {
        service,
        method,
        message: request.encode_to_vec(),
    }
}

fn entries(descriptor: &Descriptor) -> Vec<Entry> {
    let entry = |key: &str, value: String| Entry {
        key: key.to_owned(),
        value,
    };
    vec![
        entry("plan", descriptor.plan.to_string()),
        entry("quota", descriptor.quota.to_string()),
        entry("consumer", descriptor.consumer.to_string()),
        entry("period", descriptor.period.to_string()),
    ]
}

pub(super) fn decode(
    profile: Profile,
    purpose: Purpose,
    sent: usize,
    message: &[u8],
) -> Result<Vec<Result<Status, StoreError>>, StoreError> {
    let garbled = || StoreError::garbled("a RateLimitResponse for the descriptors sent", message);
    if message.len() > LONGEST_ANSWER {
        return Err(garbled());
    }
    let response = RateLimitResponse::decode(message).map_err(|_| garbled())?;
    match profile {
        Profile::EnvoyRatelimit if response.statuses.len() == sent => {
            Ok(response.statuses.iter().map(status).collect())
        }
        Profile::EnvoyRatelimit => Err(garbled()),
        Profile::Limitador if sent == 0 => Ok(Vec::new()),
        Profile::Limitador => Ok(vec![overall_status(purpose, &response)]),
    }
}

/// What `envoyproxy/ratelimit` says of one descriptor.
fn status(status: &DescriptorStatus) -> Result<Status, StoreError> {
    let limit = status.current_limit.as_ref().ok_or(StoreError::NoLimit)?;
    Ok(Status {
        over: is_over(status.code)?,
        remaining: Some(status.limit_remaining),
        limit: Some(limit.requests_per_unit),
        reset: status.duration_until_reset.and_then(|reset| {
            let whole = Duration::from_secs(u64::try_from(reset.seconds).ok()?);
            let nanos = u32::try_from(reset.nanos).ok()?.min(999_999_999);
            whole.checked_add(Duration::from_nanos(nanos.into()))
        }),
    })
}

/// What Limitador says of a whole call.
fn overall_status(purpose: Purpose, response: &RateLimitResponse) -> Result<Status, StoreError> {
    let number = |name| header(&response.response_headers_to_add, name).and_then(first_number);
    let over = is_over(response.overall_code)?;
    Ok(Status {
        // It answers a report with a verdict that it has not formed.
        over: over && purpose != Purpose::Report,
        remaining: number("x-ratelimit-remaining"),
        limit: number("x-ratelimit-limit"),
        reset: number("x-ratelimit-reset").map(|seconds| Duration::from_secs(seconds.into())),
    })
}

fn is_over(code: i32) -> Result<bool, StoreError> {
    match Code::try_from(code) {
        Ok(Code::Ok) => Ok(false),
        Ok(Code::OverLimit) => Ok(true),
        Ok(Code::Unknown) | Err(_) => Err(StoreError::garbled(
            "the code OK or OVER_LIMIT",
            code.to_string().as_bytes(),
        )),
    }
}

fn header<'a>(headers: &'a [HeaderValue], name: &str) -> Option<&'a [u8]> {
    let header = headers
        .iter()
        .find(|header| header.key.eq_ignore_ascii_case(name))?;
    match header.value.as_bytes() {
        b"" => Some(&header.raw_value),
        value => Some(value),
    }
}

/// The number that a value such as `10, 10;w=60` begins with. A larger one than there can be is
/// the largest.
fn first_number(value: &[u8]) -> Option<u32> {
    let digits: Vec<u8> = value
        .iter()
        .copied()
        .take_while(u8::is_ascii_digit)
        .collect();
    let number = str::from_utf8(&digits).ok()?.parse::<u64>().ok()?;
    Some(u32::try_from(number).unwrap_or(u32::MAX))
}
