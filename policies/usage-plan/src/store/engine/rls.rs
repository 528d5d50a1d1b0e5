//! A server of Envoy's Rate Limit Service protocol.
//!
//! Its counters only ever grow, by hits, so what a ledger tells as a sum is told here as what has
//! come on top of what is booked; and units that were granted are never given back. gRPC is spoken
//! over Envoy's HTTP client: a message of five bytes and its length in front, the status in trailers.

use std::time::Duration;

use tollgate_core::host::{Callout, CalloutId, CalloutNotSent, CalloutResponse, Host};
use tollgate_core::time::Timestamp;
use tollgate_quota_ledger::Reply;
use tollgate_quota_store::rls::{
    self, Call, Descriptor, ProbeStep, Profile, Purpose, RateLimitService, Report, Status, Verdict,
};
use tollgate_quota_store::{ConsumerTag, StoreError, window_label};

use super::{Counter, Exchange};
use crate::plan::Quota;
use crate::store::random;

/// A server of the protocol, as a configuration has it.
pub(in crate::store) struct Rls {
    /// Envoy's cluster for the server.
    pub(in crate::store) cluster: Box<str>,
    pub(in crate::store) authority: Box<str>,
    pub(in crate::store) profile: Profile,
    pub(in crate::store) service: RateLimitService,
    /// The quota by which the server is probed, and its plan's name; none if no plan has a quota.
    pub(in crate::store) probed: Option<(std::sync::Arc<str>, Quota)>,
}

/// How many units are asked for at once at most: each is a descriptor of its own, so that those that
/// fit are granted.
const MOST_UNITS: u64 = 50;

/// How long to wait until a server that would count wrongly is probed again: its configuration may
/// have been mended.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// How long to wait until a probe that failed is made again.
const PROBE_AGAIN: Duration = Duration::from_secs(5);

impl Rls {
    pub(super) fn weight(&self, exchange: &Exchange) -> usize {
        self.reports(exchange).len()
    }

    pub(super) fn room(&self) -> usize {
        self.service.max_batch()
    }

    pub(super) fn call<'a, H: Host>(
        &self,
        exchanges: impl Iterator<Item = &'a Exchange>,
        timeout: Duration,
        host: &H,
    ) -> Result<CalloutId, CalloutNotSent> {
        let mut purpose = Purpose::Report;
        let mut batch = Vec::new();
        for exchange in exchanges {
            purpose = self.purpose(exchange);
            batch.extend(self.reports(exchange));
        }
        self.send(&self.service.encode(purpose, &batch), timeout, host)
    }

    fn send<H: Host>(
        &self,
        call: &Call,
        timeout: Duration,
        host: &H,
    ) -> Result<CalloutId, CalloutNotSent> {
        let mut body = Vec::with_capacity(call.message.len().saturating_add(5));
        body.push(0);
        let length = u32::try_from(call.message.len()).unwrap_or(u32::MAX);
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(&call.message);
        host.call(&Callout {
            cluster: &self.cluster,
            method: "POST",
            scheme: "http",
            authority: &self.authority,
            path: &format!("/{}/{}", call.service, call.method),
            headers: &[("content-type", "application/grpc"), ("te", "trailers")],
            body: &body,
            timeout,
        })
    }

    pub(super) fn decode<'a>(
        &self,
        exchanges: impl Iterator<Item = &'a Exchange>,
        response: &CalloutResponse<'_>,
    ) -> Vec<Result<Reply, StoreError>> {
        let exchanges: Vec<&Exchange> = exchanges.collect();
        let message = match message(response) {
            Ok(message) => message,
            Err(error) => return vec![Err(error); exchanges.len()],
        };
        let purpose = exchanges
            .last()
            .map_or(Purpose::Report, |exchange| self.purpose(exchange));
        let batch: Vec<Report> = exchanges
            .iter()
            .flat_map(|exchange| self.reports(exchange))
            .collect();
        let mut statuses = self.service.decode(purpose, &batch, message).into_iter();
        let result = |exchange: &&Exchange| {
            // All of its own are taken, also behind an error: the next ones are another's.
            let own: Vec<_> = statuses.by_ref().take(self.weight(exchange)).collect();
            let own = own
                .into_iter()
                .collect::<Result<Vec<Status>, StoreError>>()?;
            Ok(self.reply(exchange, &own))
        };
        exchanges.iter().map(result).collect()
    }

    /// What has been used and is not booked, and how many units are wanted beyond.
    fn hits(&self, exchange: &Exchange) -> (u64, u64) {
        let (request, booked) = (&exchange.request, exchange.booked);
        let used = request.consumed.saturating_sub(booked);
        let wanted = request.consumed.saturating_add(request.want);
        let wanted = wanted.saturating_sub(booked.max(request.consumed));
        match self.profile {
            Profile::EnvoyRatelimit => (used, wanted.min(MOST_UNITS)),
            // It has one descriptor in a call, and grants all of its hits or none.
            Profile::Limitador if used > 0 => (used, 0),
            Profile::Limitador => {
                let left = request.limit.saturating_sub(exchange.used);
                // What it has granted it does not take back, so not much is asked for ahead.
                match wanted <= left {
                    true => (0, wanted.min(MOST_UNITS)),
                    false => (0, wanted.min(1)),
                }
            }
        }
    }

    fn purpose(&self, exchange: &Exchange) -> Purpose {
        match (self.profile, self.hits(exchange)) {
            (Profile::EnvoyRatelimit, _) => Purpose::Report,
            (Profile::Limitador, (0, 0)) => Purpose::Peek,
            (Profile::Limitador, (0, _)) => Purpose::Ask,
            (Profile::Limitador, _) => Purpose::Report,
        }
    }

    /// What has been used as one report; then each unit that is wanted by itself, where the server
    /// can say of each whether it fits. A report of nothing is a peek.
    fn reports(&self, exchange: &Exchange) -> Vec<Report> {
        let report = |hits: u64| Report {
            descriptor: descriptor(&exchange.counter),
            hits: u32::try_from(hits).unwrap_or(u32::MAX),
        };
        let (used, wanted) = self.hits(exchange);
        match self.profile {
            Profile::Limitador => vec![report(used.max(wanted))],
            Profile::EnvoyRatelimit if wanted == 0 => vec![report(used)],
            Profile::EnvoyRatelimit => {
                let booked = (used > 0).then(|| report(used));
                let wanted = std::iter::repeat_n(report(1), usize::try_from(wanted).unwrap_or(0));
                booked.into_iter().chain(wanted).collect()
            }
        }
    }

    fn reply(&self, exchange: &Exchange, statuses: &[Status]) -> Reply {
        let request = &exchange.request;
        let (used, wanted) = self.hits(exchange);
        let fit = |statuses: &[Status]| {
            let fit = statuses.iter().filter(|status| !status.over).count();
            u64::try_from(fit).unwrap_or_default()
        };
        let granted = match (self.profile, wanted) {
            (_, 0) => 0,
            (Profile::Limitador, wanted) => wanted.saturating_mul(fit(statuses)),
            (Profile::EnvoyRatelimit, _) if used > 0 => fit(statuses.get(1..).unwrap_or_default()),
            (Profile::EnvoyRatelimit, _) => fit(statuses),
        };
        // Its counters never shrink while a window runs.
        let total = statuses
            .iter()
            .map(|status| total(request.limit, *status))
            .fold(exchange.used, u64::max);
        // A server whose configuration is another one may grant what is beyond our limit.
        let granted = granted.saturating_sub(total.saturating_sub(request.limit));
        let upto = exchange
            .booked
            .max(request.consumed)
            .saturating_add(granted);
        Reply {
            seq: request.seq,
            previous: request.seq,
            upto,
            total: total.max(upto),
        }
    }
}

/// What is used, by a status.
fn total(limit: u64, status: Status) -> u64 {
    let limit = status.limit.map_or(limit, u64::from);
    match status.remaining {
        // Limitador counts nothing of what does not fit, and says what remains; but a hit did not.
        Some(remaining) => limit.saturating_sub(remaining.into()),
        None if status.over => limit,
        None => 0,
    }
}

fn descriptor(counter: &Counter) -> Descriptor {
    Descriptor {
        plan: counter.plan.clone(),
        quota: counter.quota.clone(),
        consumer: counter.consumer,
        period: window_label(counter.start).into(),
    }
}

/// The message of an answer, or what is said instead. The status is in the trailers, or in the
/// headers where there is nothing else.
fn message<'a>(response: &'a CalloutResponse<'_>) -> Result<&'a [u8], StoreError> {
    let status = response.status();
    if status != Some(200) {
        // 14, UNAVAILABLE, as gRPC has it for what is no gRPC.
        let text = format!("HTTP status {}", status.unwrap_or_default());
        return Err(StoreError::grpc(14, text.as_bytes()));
    }
    let header = |name: &str| {
        let trailer = response.trailers.get(name);
        trailer.or_else(|| response.headers.get(name))
    };
    let code = header("grpc-status")
        .and_then(|code| str::from_utf8(code).ok())
        .and_then(|code| code.parse::<u32>().ok());
    match code {
        Some(0) => {}
        // 2, UNKNOWN: the answer broke off.
        code => {
            let text = header("grpc-message").unwrap_or_default();
            return Err(StoreError::grpc(code.unwrap_or(2), text));
        }
    }
    // A first byte of 1 would say that it is compressed, which was not offered.
    let message = match response.body.split_first_chunk::<5>() {
        Some(([0, length @ ..], message)) => {
            let length = usize::try_from(u32::from_be_bytes(*length)).ok();
            (length == Some(message.len())).then_some(message)
        }
        _ => None,
    };
    message.ok_or_else(|| StoreError::grpc(13, b"the message is cut off or compressed"))
}

/// Whether the server does what will be asked of it.
#[derive(Default)]
pub(in crate::store) enum Probe {
    /// That is not known.
    #[default]
    Due,
    /// It is being found out.
    UnderWay(CalloutId, Box<rls::Probe>),
    /// It could not be found out.
    Again(Timestamp),
    /// It does.
    Good,
    /// It does not: why, and when that is looked at anew.
    Bad(String, Timestamp),
}

impl Rls {
    pub(super) fn probe<H: Host>(
        &self,
        probe: &mut Probe,
        timeout: Duration,
        now: Timestamp,
        host: &H,
    ) -> Option<String> {
        let is_due = match probe {
            Probe::Due => true,
            Probe::Again(at) => *at <= now || *at > now.saturating_add(PROBE_AGAIN),
            Probe::Bad(why, again) => {
                if now < *again && *again <= now.saturating_add(LOOK_AGAIN) {
                    return Some(why.clone());
                }
                true
            }
            Probe::UnderWay(..) | Probe::Good => false,
        };
        if is_due && let Some((plan, quota)) = &self.probed {
            let window = quota.calendar.window(now.as_seconds());
            // Nobody has counted there before.
            let fresh = format!("probe {} {}", now.as_nanos(), random(host));
            let counter = Counter {
                plan: plan.clone(),
                quota: quota.engine_name(),
                consumer: ConsumerTag::new(" probe", &fresh),
                start: window.start,
                end: window.end,
            };
            let limit = u32::try_from(quota.limit).unwrap_or(u32::MAX);
            let begun = rls::Probe::new(self.service.clone(), descriptor(&counter), limit, window);
            *probe = match self.send(&begun.start(), timeout, host) {
                Ok(id) => Probe::UnderWay(id, Box::new(begun)),
                Err(_) => Probe::Again(now.saturating_add(PROBE_AGAIN)),
            };
        }
        None
    }

    pub(super) fn probed<H: Host>(
        &self,
        probe: &mut Probe,
        id: CalloutId,
        response: &CalloutResponse<'_>,
        host: &H,
    ) -> bool {
        let Probe::UnderWay(awaited, begun) = probe else {
            return false;
        };
        if *awaited != id {
            return false;
        }
        let now = host.now();
        let again = Probe::Again(now.saturating_add(PROBE_AGAIN));
        let next = match begun.answered(now.as_seconds(), message(response)) {
            ProbeStep::Call(call) => match self.send(&call, PROBE_AGAIN, host) {
                Ok(id) => {
                    *awaited = id;
                    return true;
                }
                Err(_) => again,
            },
            ProbeStep::Done(Verdict::Good) => Probe::Good,
            ProbeStep::Done(Verdict::TryLater) => again,
            ProbeStep::Done(Verdict::Failed(error)) if error.is_transient() => again,
            ProbeStep::Done(verdict) => {
                Probe::Bad(verdict.to_string(), now.saturating_add(LOOK_AGAIN))
            }
        };
        *probe = next;
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        reason = "a test that overflows fails, as it should"
    )]

    use prost::Message as _;
    use tollgate_core::headers::Headers;
    use tollgate_quota_ledger::Request;
    use tollgate_quota_store::rls::proto;
    use tollgate_testkit::{Clock, Process};
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const LIMIT: u32 = 100;

    fn rls() -> Rls {
        let profile = Profile::EnvoyRatelimit;
        Rls {
            cluster: "ratelimit".into(),
            authority: "ratelimit".into(),
            profile,
            service: RateLimitService::new(profile, "tollgate"),
            probed: None,
        }
    }

    fn exchange(consumer: &str, want: u64) -> Exchange {
        Exchange {
            counter: Counter {
                plan: "gold".into(),
                quota: "month".into(),
                consumer: ConsumerTag::new("test", consumer),
                start: 1_793_491_200,
                end: 1_796_083_200,
            },
            request: Request {
                seq: 1,
                consumed: 0,
                want,
                limit: LIMIT.into(),
            },
            booked: 0,
            used: 0,
        }
    }

    /// The status of a limit of which so much remains; `None` is no limit.
    fn status(limit: Option<u32>, remaining: u32) -> proto::DescriptorStatus {
        proto::DescriptorStatus {
            code: proto::Code::Ok.into(),
            current_limit: limit.map(|requests_per_unit| proto::RateLimit {
                requests_per_unit,
                unit: 5,
            }),
            limit_remaining: remaining,
            duration_until_reset: None,
        }
    }

    fn decode(
        exchanges: &[Exchange],
        statuses: Vec<proto::DescriptorStatus>,
    ) -> Vec<Result<Reply, StoreError>> {
        let message = proto::RateLimitResponse {
            overall_code: proto::Code::Ok.into(),
            statuses,
            response_headers_to_add: Vec::new(),
        };
        let message = message.encode_to_vec();
        let mut body = vec![0];
        body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend(message);
        let response = CalloutResponse {
            headers: &Headers::from_pairs([(":status", "200"), ("grpc-status", "0")]),
            body: &body,
            trailers: &Headers::default(),
        };
        rls().decode(exchanges.iter(), &response)
    }

    #[test]
    fn what_fails_for_one_consumer_leaves_the_others_their_own_answers() {
        let exchanges = [
            exchange("unknown", 3),
            exchange("acme", 1),
            exchange("bolt", 1),
        ];
        let mut statuses = vec![status(None, 0); 3];
        statuses.extend([status(Some(LIMIT), 40), status(Some(LIMIT), 7)]);
        let results = decode(&exchanges, statuses);
        assert_eq!(results[0], Err(StoreError::NoLimit));
        let totals = results[1..]
            .iter()
            .map(|reply| reply.clone().unwrap().total);
        assert_eq!(totals.collect::<Vec<_>>(), [60, 93]);
    }

    /// As while a new configuration reaches one before the other. What was reported is booked all the
    /// same: told again, it would be counted twice.
    #[test]
    fn a_server_with_a_larger_limit_grants_no_more_than_ours() {
        let reply = |remaining| {
            let status = status(Some(2 * LIMIT), remaining);
            let reply = decode(&[exchange("acme", 3)], vec![status; 3]).remove(0);
            let reply = reply.unwrap();
            (reply.upto, reply.total)
        };
        assert_eq!(reply(150), (3, 50));
        assert_eq!(reply(98), (1, 102));
        assert_eq!(reply(20), (0, 180));
    }

    #[test]
    fn a_server_that_counts_wrongly_is_looked_at_anew() {
        let now = Timestamp::from_seconds(1_795_176_000);
        let host = Process::new(Clock::at(now)).worker();
        let again = now.saturating_add(LOOK_AGAIN);
        let mut probe = Probe::Bad("its limit is another".to_owned(), again);
        let mut flaw = |now| rls().probe(&mut probe, PROBE_AGAIN, now, &host);
        assert!(flaw(now).is_some());
        assert!(flaw(again).is_none());
        // The clock has stepped back.
        assert!(flaw(Timestamp::from_seconds(1_795_175_000)).is_none());
    }
}
