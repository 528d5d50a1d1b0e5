//! The only door to the host. `tollgate-host` implements it over proxy-wasm, `tollgate-testkit` in
//! memory; policies know no other way to time, randomness, shared state or telemetry.

use std::fmt;
use std::net::IpAddr;

use crate::time::Timestamp;

/// What the host offers while a request is decided.
///
/// Nothing here panics or blocks. What the host cannot give is `None` or a typed error, and the
/// policy decides what that means.
pub trait Host {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// Fills `buffer` with random bytes fit for identifiers.
    fn fill_random(&self, buffer: &mut [u8]);

    /// The address of the client as the host resolved it (Envoy: after `use_remote_address` and the
    /// trusted hops of `x-forwarded-for`).
    fn client_address(&self) -> Option<IpAddr>;

    /// What the client's certificate says, if the client showed one.
    fn peer_certificate(&self) -> Option<PeerCertificate>;

    /// The name of the route that the host has chosen for the request, if it has one.
    fn route_name(&self) -> Option<String>;

    /// Reads an entry of the state that all workers share.
    fn shared_get(&self, key: &str) -> Result<Option<SharedValue>, SharedUnavailable>;

    /// Writes an entry of the shared state if it is still as `expected`.
    fn shared_set(&self, key: &str, value: &[u8], expected: Expected)
    -> Result<(), SharedSetError>;

    /// Checks a signature with the host's own cryptography; `None` if it can't. `key` is a public key
    /// as SubjectPublicKeyInfo in DER (RFC 5280 section 4.1); an ECDSA signature is in DER too
    /// (RFC 3279 section 2.2.3).
    fn verify_signature(
        &self,
        hash: Hash,
        key: &[u8],
        signature: &[u8],
        message: &[u8],
    ) -> Option<bool>;

    /// Asks another server. The answer comes to [`Policy::on_callout`](crate::policy::Policy), and
    /// there only; so this is for [`Policy::tick`](crate::policy::Policy) and not for a request.
    fn call(&self, callout: &Callout<'_>) -> Result<CalloutId, CalloutNotSent>;

    /// Hands a value on to access logs and other filters.
    fn set_filter_state(&self, key: &str, value: &str);

    /// A counter by its full name, labels included; the same name gives the same counter.
    fn counter(&self, name: &str) -> Option<CounterId>;

    /// Adds to a counter; adding nothing is allowed.
    fn increment(&self, counter: CounterId, by: u64);

    /// A gauge by its full name, labels included; the same name gives the same gauge, to all workers.
    fn gauge(&self, name: &str) -> Option<GaugeId>;

    /// Sets a gauge.
    fn set_gauge(&self, gauge: GaugeId, to: u64);

    /// Writes to the log. The message is formatted only if the level is on.
    fn log(&self, level: log::Level, message: fmt::Arguments<'_>);
}

/// An entry of the shared state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedValue {
    /// What is stored.
    pub bytes: Vec<u8>,
    /// Which write it came from.
    pub version: Version,
}

/// Tells one write of an entry from the next. Never zero: zero is an unconditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub std::num::NonZeroU32);

/// What must still hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The entry does not exist.
    Absent,
    /// The entry is as it was when this version was read.
    Version(Version),
}

/// The shared state cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedUnavailable;

/// Why a write did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedSetError {
    /// Another worker has written the entry since it was read.
    Conflict,
    /// The shared state cannot be reached.
    Unavailable,
}

/// What a client's certificate says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The first URI among its subject's alternative names, as `spiffe://bank.example/payments`.
    pub uri_san: Option<String>,
    /// The first DNS name among them.
    pub dns_san: Option<String>,
}

/// A hash function of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// A request to another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callout<'a> {
    /// The host's name for the server: Envoy's cluster.
    pub cluster: &'a str,
    /// `GET` or `POST`.
    pub method: &'a str,
    /// `https` or `http`, for the `:scheme`; whether TLS is spoken is the cluster's matter.
    pub scheme: &'a str,
    /// The host, with a port if it is not the scheme's own.
    pub authority: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Further headers, their names in lower case.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; none if empty.
    pub body: &'a [u8],
    /// After what time no answer is awaited any longer.
    pub timeout: std::time::Duration,
}

/// Tells callouts under way from one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CalloutId(pub u32);

/// The host could not send a callout: it does not know the cluster, or not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CalloutNotSent;

/// What came back from a callout. A host may make answers up: Envoy says 503 for a connection that
/// was refused and 504 for one that took too long, just as a server could.
#[derive(Clone, Copy, Debug)]
pub struct CalloutResponse<'a> {
    /// The headers, `:status` among them; none if the answer broke off.
    pub headers: &'a crate::headers::Headers,
    /// The body, cut where it was longer than what [`MOST_CALLOUT_BODY`] allows.
    pub body: &'a [u8],
    /// The trailers, if there are any, as gRPC has.
    pub trailers: &'a crate::headers::Headers,
}

impl CalloutResponse<'_> {
    /// The status; `None` if the answer broke off.
    pub fn status(&self) -> Option<u16> {
        self.headers.get_str(":status")?.parse().ok()
    }
}

/// The longest body of an answer to a callout that is handed over whole, in bytes.
pub const MOST_CALLOUT_BODY: usize = 1 << 20;

/// A counter that the host has defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CounterId(pub u32);

/// A gauge that the host has defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GaugeId(pub u32);

/// Where a plugin is configured: what may be asked then, beside the document.
pub trait Environment {
    /// An environment variable that the operator handed to the plugin.
    fn variable(&self, name: &str) -> Option<String>;
}
