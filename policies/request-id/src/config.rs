//! The `request_id` section.

use deserr::Deserr;
use tollgate_core::config::{ConfigErrors, Rejected};
use tollgate_core::headers::FieldName;
use tollgate_core::network::Network;

/// The `request_id` section.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct RequestIdConfig {
    /// The header that carries the id, to the upstream and back to the client.
    #[deserr(default = default_header())]
    pub header: FieldName,
    /// The form of the ids made here.
    #[deserr(default)]
    pub format: Format,
    /// Whose id counts: the one judged by `accept`, or the one that Envoy's connection manager has
    /// put there.
    #[deserr(default)]
    pub authority: Authority,
    /// Which ids that a request brings are kept.
    #[deserr(default)]
    pub accept: Accept,
    /// Whether the id is set on every response.
    #[deserr(default = true)]
    pub echo: bool,
    /// What is done with `traceparent` and `tracestate`.
    #[deserr(default)]
    pub trace_context: TraceContext,
}

/// The form of an id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum Format {
    /// A UUID version 7 (RFC 9562 section 5.7): sorts by time, rises on each worker.
    #[default]
    Uuid7,
    /// A UUID version 4: random.
    Uuid4,
    /// The id of the trace, 32 hexadecimal digits.
    #[deserr(rename = "trace_id")]
    TraceId,
}

/// Whose id counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum Authority {
    /// An id is kept if `accept` says so, and made here otherwise.
    #[default]
    Tollgate,
    /// A well-formed id is always kept. Before any filter runs, Envoy's connection manager has
    /// either made one or decided by its own settings to keep the client's; for a mesh whose
    /// connection manager can't be configured.
    Envoy,
}

/// Which ids that a request brings are kept.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Accept {
    /// The peers whose ids are kept; from all others they are replaced.
    #[deserr(default)]
    pub from: Vec<Network>,
    /// The longest id that is kept, 1 to 256 bytes.
    #[deserr(default = DEFAULT_MAX_LENGTH)]
    pub max_length: u64,
}

const DEFAULT_MAX_LENGTH: u64 = 128;
const LARGEST_MAX_LENGTH: u64 = 256;

impl Default for Accept {
    fn default() -> Self {
        Accept {
            from: Vec::new(),
            max_length: DEFAULT_MAX_LENGTH,
        }
    }
}

/// What is done with a trace context (W3C Trace Context).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum TraceContext {
    /// A valid one is passed on untouched; otherwise a trace is started whose id has the bits of
    /// the request id.
    #[default]
    #[deserr(rename = "join_or_start")]
    JoinOrStart,
    /// A valid one is passed on untouched; an invalid one is removed.
    Join,
    /// It is left alone. (Not `off`, which YAML takes for false.)
    Ignore,
}

impl TraceContext {
    pub(crate) fn reads(self) -> bool {
        self != TraceContext::Ignore
    }
}

impl RequestIdConfig {
    pub(crate) fn check(&self, errors: &mut ConfigErrors) -> Result<(), Rejected> {
        let mut verdict = Ok(());
        if !(1..=LARGEST_MAX_LENGTH).contains(&self.accept.max_length) {
            verdict = Err(errors.add(
                "request_id.accept.max_length",
                format!(
                    "found {}, expected 1 to {LARGEST_MAX_LENGTH}",
                    self.accept.max_length
                ),
            ));
        }
        if self.authority == Authority::Envoy && !self.accept.from.is_empty() {
            verdict = Err(errors.add(
                "request_id.accept.from",
                "has no effect with authority: envoy, which keeps every well-formed id; remove \
                 one of the two",
            ));
        }
        verdict
    }
}

fn default_header() -> FieldName {
    FieldName::from_static("x-request-id")
}
