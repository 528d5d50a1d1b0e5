//! Redis behind an HTTP server.

use std::time::Duration;

use tollgate_core::endpoint::Scheme;
use tollgate_core::host::{Callout, CalloutId, CalloutNotSent, CalloutResponse, Host};
use tollgate_quota_ledger::Reply;
use tollgate_quota_store::redis::{Answer, MAX_BATCH, Nonce, RedisHttp, Script};
use tollgate_quota_store::{CounterKey, EnvoyId, KeyPrefix, Outcome};

use super::{Answered, Exchange, Manner};
use crate::record::LATE_REPORTS;

/// How many exchanges go into a call.
pub(super) const ROOM: usize = MAX_BATCH;

/// Redis behind an HTTP server, as a configuration has it.
pub(in crate::store) struct Redis {
    /// Envoy's cluster for the server.
    pub(in crate::store) cluster: Box<str>,
    pub(in crate::store) scheme: Scheme,
    /// What the names of counters begin with.
    pub(in crate::store) key_prefix: KeyPrefix,
    pub(in crate::store) http: RedisHttp,
}

impl Redis {
    pub(super) fn call<'a, H: Host>(
        &self,
        envoy: EnvoyId,
        exchanges: impl Iterator<Item = &'a Exchange>,
        manner: Manner,
        timeout: Duration,
        host: &H,
    ) -> Result<CalloutId, CalloutNotSent> {
        let script = match manner.in_full {
            true => Script::InFull,
            false => Script::ByDigest,
        };
        let batch = self.batch(envoy, exchanges);
        let request = self.http.encode(&batch, Nonce(manner.nonce), script);
        let headers: Vec<(&str, &str)> = request
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        host.call(&Callout {
            cluster: &self.cluster,
            method: request.method,
            scheme: self.scheme.as_str(),
            authority: &request.authority,
            path: &request.path,
            headers: &headers,
            body: request.body.as_bytes(),
            timeout,
        })
    }

    pub(super) fn decode<'a>(
        &self,
        envoy: EnvoyId,
        exchanges: impl Iterator<Item = &'a Exchange>,
        manner: Manner,
        response: &CalloutResponse<'_>,
    ) -> Answered {
        let batch = self.batch(envoy, exchanges);
        // An answer that broke off has no status.
        let status = response.status().unwrap_or_default();
        let nonce = Nonce(manner.nonce);
        let results = match self.http.decode(&batch, nonce, status, response.body) {
            Answer::ScriptUnknown if !manner.in_full => return Answered::AgainInFull,
            answer => answer.into_results(&batch),
        };
        let results = results.into_iter().map(|result| result.map(reply));
        Answered::Results(results.collect())
    }

    fn batch<'a>(
        &self,
        envoy: EnvoyId,
        exchanges: impl Iterator<Item = &'a Exchange>,
    ) -> Vec<tollgate_quota_store::Exchange> {
        let exchange = |exchange: &Exchange| {
            let Exchange {
                counter, request, ..
            } = exchange;
            tollgate_quota_store::Exchange {
                key: CounterKey::new(
                    &self.key_prefix,
                    counter.consumer,
                    &counter.quota,
                    counter.start,
                ),
                envoy,
                seq: request.seq,
                consumed: request.consumed,
                want: request.want,
                limit: request.limit,
                expires_at: counter.end.saturating_add(EXPIRY_GRACE),
            }
        };
        exchanges.map(exchange).collect()
    }
}

/// For how many seconds after its window a counter is kept: longer than anybody reports to it, with
/// an hour for clocks that differ.
const EXPIRY_GRACE: i64 = LATE_REPORTS + 3600;

fn reply(outcome: Outcome) -> Reply {
    Reply {
        seq: outcome.seq,
        previous: outcome.previous,
        upto: outcome.upto,
        total: outcome.total,
    }
}
