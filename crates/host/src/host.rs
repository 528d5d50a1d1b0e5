//! The host trait over the ABI.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use tollgate_core::host::{
    Callout, CalloutId, CalloutNotSent, CounterId, Environment, Expected, GaugeId, Hash, Host,
    PeerCertificate, SharedSetError, SharedUnavailable, SharedValue, Version,
};
use tollgate_core::time::Timestamp;

use crate::abi::{self, Failure};
use crate::signature;

/// Envoy, as seen from one VM.
#[derive(Default)]
pub(crate) struct Envoy {
    random: RandomPool,
    last_time: Cell<Timestamp>,
}

impl Host for Envoy {
    fn now(&self) -> Timestamp {
        if let Ok(nanos) = abi::current_time() {
            self.last_time.set(Timestamp::from_nanos(nanos));
        }
        self.last_time.get()
    }

    fn fill_random(&self, buffer: &mut [u8]) {
        self.random.fill(buffer);
    }

    fn client_address(&self) -> Option<IpAddr> {
        let address = abi::property(b"source\0address").ok()?;
        let address: SocketAddr = std::str::from_utf8(&address).ok()?.parse().ok()?;
        Some(address.ip().to_canonical())
    }

    fn peer_certificate(&self) -> Option<PeerCertificate> {
        if abi::property(b"connection\0mtls").ok()? != [1] {
            return None;
        }
        Some(PeerCertificate {
            uri_san: text_property(b"connection\0uri_san_peer_certificate"),
            dns_san: text_property(b"connection\0dns_san_peer_certificate"),
        })
    }

    fn route_name(&self) -> Option<String> {
        text_property(b"xds\0route_name")
    }

    fn verify_signature(
        &self,
        hash: Hash,
        key: &[u8],
        signature: &[u8],
        message: &[u8],
    ) -> Option<bool> {
        signature::verify(hash, key, signature, message)
    }

    fn call(&self, callout: &Callout<'_>) -> Result<CalloutId, CalloutNotSent> {
        let mut headers = vec![
            (":method", callout.method),
            (":scheme", callout.scheme),
            (":authority", callout.authority),
            (":path", callout.path),
        ];
        headers.extend_from_slice(callout.headers);
        let body = (!callout.body.is_empty()).then_some(callout.body);
        // Through the SDK, whose dispatcher has to know to which context the answer belongs.
        proxy_wasm::hostcalls::dispatch_http_call(
            callout.cluster,
            headers,
            body,
            Vec::new(),
            callout.timeout,
        )
        .map(CalloutId)
        .map_err(|_| CalloutNotSent)
    }

    fn shared_get(&self, key: &str) -> Result<Option<SharedValue>, SharedUnavailable> {
        match abi::shared_data(key) {
            Ok((bytes, cas)) => Ok(Some(SharedValue {
                bytes,
                version: Version(cas),
            })),
            Err(Failure::NotFound) => Ok(None),
            Err(_) => Err(SharedUnavailable),
        }
    }

    fn shared_set(
        &self,
        key: &str,
        value: &[u8],
        expected: Expected,
    ) -> Result<(), SharedSetError> {
        let cas = match expected {
            Expected::Version(Version(cas)) => cas,
            // Envoy compares only where there is an entry, so a compare value that none has
            // creates a missing one and fails on one that is there.
            Expected::Absent => NonZeroU32::MAX,
        };
        abi::set_shared_data(key, value, cas).map_err(|failure| match failure {
            Failure::CasMismatch => SharedSetError::Conflict,
            _ => SharedSetError::Unavailable,
        })
    }

    fn set_filter_state(&self, key: &str, value: &str) {
        if let Err(failure) = abi::set_property(key, value.as_bytes()) {
            self.log(
                log::Level::Debug,
                format_args!("filter state {key} not set: {failure:?}"),
            );
        }
    }

    fn counter(&self, name: &str) -> Option<CounterId> {
        abi::define_counter(name).ok().map(CounterId)
    }

    fn increment(&self, CounterId(id): CounterId, by: u64) {
        let by = i64::try_from(by).unwrap_or(i64::MAX);
        if by > 0
            && let Err(failure) = abi::increment_counter(id, by)
        {
            self.log(
                log::Level::Debug,
                format_args!("counter {id} not increased: {failure:?}"),
            );
        }
    }

    fn gauge(&self, name: &str) -> Option<GaugeId> {
        abi::define_gauge(name).ok().map(GaugeId)
    }

    fn set_gauge(&self, GaugeId(id): GaugeId, to: u64) {
        if let Err(failure) = abi::set_gauge(id, to) {
            self.log(
                log::Level::Debug,
                format_args!("gauge {id} not set: {failure:?}"),
            );
        }
    }

    fn log(&self, level: log::Level, message: fmt::Arguments<'_>) {
        let level = match level {
            log::Level::Trace => 0,
            log::Level::Debug => 1,
            log::Level::Info => 2,
            log::Level::Warn => 3,
            log::Level::Error => 4,
        };
        if level >= abi::log_level() {
            abi::log(level, &message.to_string());
        }
    }
}

impl Environment for Envoy {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// A property that is text; `None` if it is absent or empty.
fn text_property(path: &[u8]) -> Option<String> {
    let text = String::from_utf8(abi::property(path).ok()?).ok()?;
    (!text.is_empty()).then_some(text)
}

/// Random bytes, fetched from the host a block at a time.
struct RandomPool(RefCell<RandomBlock>);

struct RandomBlock {
    bytes: [u8; 1024],
    used: usize,
}

impl Default for RandomPool {
    fn default() -> Self {
        RandomPool(RefCell::new(RandomBlock {
            bytes: [0; 1024],
            used: 1024,
        }))
    }
}

impl RandomPool {
    fn fill(&self, buffer: &mut [u8]) {
        let Ok(mut block) = self.0.try_borrow_mut() else {
            return;
        };
        for byte in buffer {
            if block.used >= block.bytes.len() {
                // The host's generator doesn't fail. If it did, the old block would be used again: ids
                // would repeat, which is better than no answer.
                let _ = getrandom::fill(&mut block.bytes);
                block.used = 0;
            }
            let used = block.used;
            if let Some(random) = block.bytes.get_mut(used) {
                *byte = *random;
            }
            block.used = used.saturating_add(1);
        }
    }
}
