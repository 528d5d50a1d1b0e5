//! What is fixed when a source is configured.

use std::hash::Hasher as _;
use std::time::Duration;

use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::discovery::Discovery;
use tollgate_core::endpoint::Endpoint;

/// Where the keys of an issuer come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What the log calls it.
    pub name: String,
    /// What its entries in the shared state are called, less what tells the entries apart. There is
    /// no way to delete an entry, so it comes from a bounded set: the names in a configuration.
    pub shared_key: String,
    /// The host's name for the server: Envoy's cluster.
    pub cluster: String,
    /// Where the keys are, or with `discovery` the metadata that tells it.
    pub endpoint: Endpoint,
    /// How the keys are found.
    pub discovery: Option<Discovery>,
}

impl Source {
    /// Tells what was fetched by one configuration from what was fetched by another: 128 bits of
    /// SipHash under a fixed key, of all that decides whose keys they are.
    pub(crate) fn fingerprint(&self) -> [u8; 16] {
        let endpoint = self.endpoint.to_string();
        let (issuer, host) = match &self.discovery {
            None => (None, None),
            Some(discovery) => (
                Some(discovery.issuer.as_str()),
                discovery.jwks_host.as_deref(),
            ),
        };
        let mut hasher = SipHasher24::new();
        for part in [Some(self.cluster.as_str()), Some(&endpoint), issuer, host] {
            let length = part.map_or(u64::MAX, |part| {
                u64::try_from(part.len()).unwrap_or(u64::MAX)
            });
            hasher.write(&length.to_le_bytes());
            hasher.write(part.unwrap_or_default().as_bytes());
        }
        hasher.finish128().as_bytes()
    }
}

/// How keys are kept, and how often the issuer is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// After what time no answer is awaited any longer. Default 5 s.
    pub timeout: Duration,
    /// The longest body that is taken, in bytes. Default 64 KiB.
    pub max_body: usize,
    /// The shortest lifetime of keys, whatever the answer says. Default 42 s: a refresh, which is
    /// due at about 80 % of it, is then half a minute away at least.
    pub min_lifetime: Duration,
    /// The longest lifetime of keys, and that of an answer which says none: a refresh is due at about
    /// 80 % of it. Default 10 min.
    pub max_lifetime: Duration,
    /// For how long keys are used while they can't be refreshed, counted from when they were
    /// fetched; `None`: as long as the process lives. Default 24 h. While they are fresh, and until
    /// the attempt to refresh them is over, they are used whatever this says.
    pub stale_limit: Option<Duration>,
    /// The longest pause after a failed fetch; the first is 1 s, and they double. Default 60 s.
    pub max_backoff: Duration,
    /// For how long no further fetch is made for an unknown `kid` after one was. Default 30 s.
    pub cool_down: Duration,
    /// For how long a worker remembers a `kid` that was looked for in vain. Default 10 min.
    pub remember_unknown: Duration,
    /// For how long a request waits for keys. Default 5 s.
    pub max_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            timeout: Duration::from_secs(5),
            max_body: 64 << 10,
            min_lifetime: Duration::from_secs(42),
            max_lifetime: Duration::from_secs(600),
            stale_limit: Some(Duration::from_secs(86_400)),
            max_backoff: Duration::from_secs(60),
            cool_down: Duration::from_secs(30),
            remember_unknown: Duration::from_secs(600),
            max_wait: Duration::from_secs(5),
        }
    }
}

impl Settings {
    /// With values that would make a storm or never end put right: a lifetime of at least a second,
    /// a time-out that a host does not take for none.
    pub(crate) fn tempered(mut self) -> Settings {
        self.timeout = self.timeout.max(Duration::from_millis(1));
        self.min_lifetime = self.min_lifetime.max(Duration::from_secs(1));
        self.max_lifetime = self.max_lifetime.max(self.min_lifetime);
        self
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn sources_that_may_have_other_keys_have_other_fingerprints() {
        let source = Source {
            name: "idp".into(),
            shared_key: "k".into(),
            cluster: "idp".into(),
            endpoint: "https://idp.example/jwks".parse().unwrap(),
            discovery: None,
        };
        let discovery = Discovery {
            issuer: "i".into(),
            jwks_host: None,
        };
        let changed: [fn(&mut Source, Discovery); 5] = [
            |source, _| source.cluster = "other".into(),
            |source, _| source.endpoint = "https://idp.example/other".parse().unwrap(),
            |source, discovery| source.discovery = Some(discovery),
            |source, mut discovery| {
                discovery.issuer.push('i');
                source.discovery = Some(discovery);
            },
            |source, mut discovery| {
                discovery.jwks_host = Some(String::new());
                source.discovery = Some(discovery);
            },
        ];
        let mut seen = vec![source.fingerprint()];
        for change in changed {
            let mut other = source.clone();
            change(&mut other, discovery.clone());
            assert!(!seen.contains(&other.fingerprint()));
            seen.push(other.fingerprint());
        }
        let renamed = Source {
            name: "other".into(),
            ..source.clone()
        };
        assert_eq!(renamed.fingerprint(), source.fingerprint());
    }
}
