//! A request on its way through the policies: what came in, what is known, what is to be done.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::IpAddr;
use std::sync::Arc;

use crate::apis::{ApiId, ApiTable};
use crate::credentials::Credentials;
use crate::headers::{Headers, RequestEdits};
use crate::host::Host;
use crate::limit_headers::LimitStatus;
use crate::problem::Kind;
use crate::response::ResponseHeaders;
use crate::target::{PathOptions, RequestTarget};
use crate::text::Text;
use crate::time::Timestamp;
use crate::token::Token;

/// A request on its way through the policies.
pub struct Exchange<'a, H> {
    /// The door to the host.
    pub host: &'a H,
    /// One instant for all policies: when the request arrived, or was taken up again after it had
    /// waited.
    pub now: Timestamp,
    /// The headers as they arrived.
    pub request: &'a Headers,
    /// What the request asks for, in the forms in which rules are matched.
    pub target: &'a RequestTarget<'a>,
    /// The `:path` that goes on: normalised, and without a credential once that was found. It also
    /// replaces the path of a request that is refused, so that no access log holds a credential.
    pub path: Cow<'a, [u8]>,
    /// The APIs of the configuration.
    pub apis: &'a ApiTable,
    pub(crate) paths: &'a PathOptions,
    /// The API that the request is for, from [`Step::Shield`](crate::policy::Step::Shield) on.
    pub api: Option<ApiId>,
    /// The credentials that count, and what became of them.
    pub credentials: Credentials,
    /// What the policies have found out so far.
    pub facts: Facts,
    /// What the upstream will see changed.
    pub edits: RequestEdits,
    /// The limits that the request met, for the headers that tell of them.
    pub limits: Vec<LimitStatus>,
    /// What every response to this request gets, whoever makes it.
    pub response: ResponseHeaders,
    pub(crate) client_address: OnceCell<Option<IpAddr>>,
}

/// What an exchange owns: all that has to be kept of it while its request waits.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    path: Option<Vec<u8>>,
    api: Option<ApiId>,
    credentials: Credentials,
    facts: Facts,
    edits: RequestEdits,
    limits: Vec<LimitStatus>,
    response: ResponseHeaders,
    client_address: OnceCell<Option<IpAddr>>,
}

impl Progress {
    /// What is to be changed in the request so far; `raw_path` is its path as it came.
    pub(crate) fn edits(&self, raw_path: &[u8]) -> RequestEdits {
        let mut edits = self.edits.clone();
        if let Some(path) = &self.path
            && path != raw_path
        {
            edits.set(":path", path.clone());
        }
        edits
    }
}

impl<'a, H> Exchange<'a, H> {
    /// Takes a request up where it was left; `path` is what goes on of one that has just come.
    pub(crate) fn resume(
        progress: Progress,
        (host, now): (&'a H, Timestamp),
        (request, target, path): (&'a Headers, &'a RequestTarget<'a>, Cow<'a, [u8]>),
        (apis, paths): (&'a ApiTable, &'a PathOptions),
    ) -> Self {
        Exchange {
            host,
            now,
            request,
            target,
            path: progress.path.map_or(path, Cow::Owned),
            apis,
            paths,
            api: progress.api,
            credentials: progress.credentials,
            facts: progress.facts,
            edits: progress.edits,
            limits: progress.limits,
            response: progress.response,
            client_address: progress.client_address,
        }
    }

    /// Leaves a request that has to wait.
    pub(crate) fn suspend(self) -> Progress {
        Progress {
            path: Some(self.path.into_owned()),
            api: self.api,
            credentials: self.credentials,
            facts: self.facts,
            edits: self.edits,
            limits: self.limits,
            response: self.response,
            client_address: self.client_address,
        }
    }

    /// The name of the API that the request is for; empty if it is for none.
    pub fn api_name(&self) -> &str {
        self.api.map_or("", |api| self.apis.name(api))
    }

    /// The request's method; empty if the host gave none.
    pub fn method(&self) -> &[u8] {
        self.request.get(":method").unwrap_or_default()
    }

    /// What goes on of the target: without the credential that its query may have had.
    pub fn clean_target(&self) -> RequestTarget<'_> {
        match &self.path {
            // Nothing was taken out.
            Cow::Borrowed(_) => self.target.clone(),
            Cow::Owned(path) => RequestTarget::parse(path, self.paths)
                .unwrap_or_else(|_| RequestTarget::unread(path)),
        }
    }

    /// Notes that a policy in shadow mode would have refused the request; the first one counts.
    pub fn note_would_deny(&mut self, kind: &'static Kind) {
        self.facts.would_deny.get_or_insert(kind);
    }
}

impl<H: Host> Exchange<'_, H> {
    /// The address of the client as the host resolved it; asked for once, since it is dear.
    pub fn client_address(&self) -> Option<IpAddr> {
        *self
            .client_address
            .get_or_init(|| self.host.client_address())
    }
}

/// What is known of a request; access logs and metrics are made from it.
#[derive(Debug, Default)]
pub struct Facts {
    /// The request's id.
    pub request_id: Option<Text>,
    /// The verified token that the caller is known by.
    pub token: Option<Arc<Token>>,
    /// The consumer, by its configured id.
    pub consumer: Option<Consumer>,
    /// The plan that applies.
    pub plan: Option<Plan>,
    /// The refusal that a policy in shadow mode would have given; the first one.
    pub would_deny: Option<&'static Kind>,
}

/// A consumer that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Its place in the configuration.
    pub index: u32,
    /// Its id.
    pub id: Arc<str>,
}

/// A plan that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its place in the configuration.
    pub index: u16,
    /// Its name.
    pub name: Arc<str>,
}
