//! The response: what a request prepares for it, and what policies see and make of it.

use crate::headers::{HeaderName, Headers};
use crate::problem::Problem;
use crate::text::Text;
use crate::time::Timestamp;

/// Headers for every response to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHeaders(Vec<ResponseHeader>);

/// A header for every response to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: Text,
    /// Whether it joins what the upstream has set, as a member of a list does, or replaces it.
    pub joins: bool,
}

impl ResponseHeaders {
    /// Sets a header, replacing one that an earlier policy or the upstream has set.
    pub fn set(&mut self, name: impl Into<HeaderName>, value: impl Into<Text>) {
        let (name, value) = (name.into(), value.into());
        self.0.retain(|existing| existing.name != name);
        self.push(ResponseHeader {
            name,
            value,
            joins: false,
        });
    }

    /// Adds to a header that is a list, beside what others have set.
    pub fn join(&mut self, name: impl Into<HeaderName>, value: impl Into<Text>) {
        self.push(ResponseHeader {
            name: name.into(),
            value: value.into(),
            joins: true,
        });
    }

    fn push(&mut self, header: ResponseHeader) {
        if self.0.is_empty() {
            self.0.reserve(TYPICAL_HEADERS);
        }
        self.0.push(header);
    }

    /// Takes a header out again; what the upstream has set then stays.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|header| header.name != name);
    }

    /// The headers.
    pub fn iter(&self) -> impl Iterator<Item = &ResponseHeader> {
        self.0.iter()
    }

    /// Adds them to the headers of an answer of our own. Those that the answer has stay as they are.
    pub fn append_to(&self, headers: &mut Vec<(HeaderName, Text)>) {
        let own = headers.len();
        for header in &self.0 {
            let mut own = headers.iter().take(own);
            if !own.any(|(name, _)| *name == header.name) {
                headers.push((header.name.clone(), header.value.clone()));
            }
        }
    }
}

/// As many as a plugin with all policies sets.
const TYPICAL_HEADERS: usize = 8;

/// Which responses a policy has to see, of those to one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseUse {
    /// None: their headers are not read.
    #[default]
    None,
    /// Those with a status of 400 or more, and calls by gRPC that have failed.
    Errors,
    /// Those that have one of these headers.
    With(&'static [&'static str]),
}

impl ResponseUse {
    /// Whether this response is one of them.
    pub fn includes(self, response: &impl Glimpse) -> bool {
        match self {
            ResponseUse::None => false,
            ResponseUse::Errors => response.is_error(),
            ResponseUse::With(names) => names.iter().any(|name| response.has(name)),
        }
    }
}

/// A response of which no more is read than is asked for.
pub trait Glimpse {
    /// Whether it has a status of 400 or more, or says in its headers that a call by gRPC has
    /// failed.
    fn is_error(&self) -> bool;

    /// Whether it has this header.
    fn has(&self, name: &str) -> bool;
}

/// Who has made a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseSource {
    /// The upstream.
    Upstream,
    /// The host itself, or another filter; with what the host says why, as `route_not_found`.
    Gateway(String),
}

/// A response on its way through the policies. The gateway's own refusals do not come here.
pub struct Responding<'a, H> {
    /// The door to the host.
    pub host: &'a H,
    /// When its headers came.
    pub now: Timestamp,
    /// Its status.
    pub status: u16,
    /// Its headers as they came.
    pub headers: &'a Headers,
    /// Who has made it.
    pub source: &'a ResponseSource,
    /// Whether its request is a call by gRPC or gRPC-Web.
    pub is_call: bool,
    /// What it gets: to begin with, what its request has prepared.
    pub prepared: ResponseHeaders,
    /// What takes its place.
    pub replacement: Option<Box<Problem>>,
}
