//! The contexts that the SDK's dispatcher calls.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
use tollgate_core::chain::{Chain, Judged, Outcome, Policies};
use tollgate_core::headers::{HeaderName, Headers, RequestEdit, RequestEdits, to_wire};
use tollgate_core::host::Host;
use tollgate_core::policy::{ResponseHeader, ResponseHeaders};
use tollgate_core::problem::LocalReply;

use crate::abi::{self, Failure, MapKind};
use crate::host::Envoy;

const CRITICAL: u32 = 5;

/// Makes the SDK run a plugin that holds the policies `P`.
pub fn register<P: Policies + 'static>(name: &'static str) {
    NAME.set(name);
    proxy_wasm::set_root_context(|_| {
        Box::new(Root::<P> {
            name: NAME.get(),
            envoy: Rc::new(Envoy::default()),
            chain: None,
        })
    });
}

thread_local! {
    /// The name of the `.wasm`; the SDK takes a plain function, which can capture nothing.
    static NAME: std::cell::Cell<&'static str> = const { std::cell::Cell::new("") };
}

/// One configuration of the plugin on one worker.
struct Root<P> {
    name: &'static str,
    envoy: Rc<Envoy>,
    chain: Option<Rc<Chain<P>>>,
}

impl<P: Policies + 'static> Context for Root<P> {}

impl<P: Policies + 'static> RootContext for Root<P> {
    fn on_configure(&mut self, size: usize) -> bool {
        let text = abi::plugin_configuration(size).unwrap_or_default();
        match Chain::configure(self.name, &text, &*self.envoy) {
            Ok(chain) => {
                self.chain = Some(Rc::new(chain));
                true
            }
            Err(errors) => {
                let mistakes = errors.len();
                abi::log(
                    CRITICAL,
                    &format!("{}: {mistakes} mistake(s) in the configuration", self.name),
                );
                for error in errors.iter() {
                    abi::log(CRITICAL, &format!("{}: {error}", self.name));
                }
                false
            }
        }
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream {
            envoy: Rc::clone(&self.envoy),
            chain: self.chain.clone(),
            response: ResponseHeaders::default(),
            streams: None,
        }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// One request and its response.
struct Stream<P: Policies> {
    envoy: Rc<Envoy>,
    chain: Option<Rc<Chain<P>>>,
    /// What the response still has to get; empty once we have answered ourselves.
    response: ResponseHeaders,
    /// What the policies remember of the request, once it was judged and until it ends.
    streams: Option<P::Streams>,
}

impl<P: Policies> Context for Stream<P> {}

impl<P: Policies> HttpContext for Stream<P> {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        // Envoy creates no stream on a plugin whose configuration it has refused.
        let Some(chain) = self.chain.clone() else {
            let _ = abi::send_local_response(503, "tollgate{unconfigured}", b"", b"", None);
            return Action::Pause;
        };
        let headers = abi::header_map(MapKind::Request).map(Headers::from_wire);
        let Ok(Ok(headers)) = headers else {
            return self.answer(&chain.on_unreadable_request(&*self.envoy));
        };
        let Judged {
            outcome,
            edits,
            response,
            streams,
        } = chain.on_request(&*self.envoy, &headers);
        self.streams = Some(streams);
        let changed = change(&edits);
        match outcome {
            // An upstream must not see what should have been removed.
            Outcome::Forward if changed.is_err() => {
                self.answer(&chain.on_unreadable_request(&*self.envoy))
            }
            Outcome::Forward => {
                self.response = response;
                Action::Continue
            }
            Outcome::Reply(reply) => self.answer(&reply),
        }
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        let trailers = abi::header_map(MapKind::RequestTrailers).map(Headers::from_wire);
        if let (Some(chain), Ok(Ok(trailers))) = (&self.chain, trailers) {
            for name in chain.on_request_trailers(&trailers) {
                // The host does not fail to remove what it has just listed.
                let _ = abi::remove_header(MapKind::RequestTrailers, name);
            }
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        for ResponseHeader { name, value, joins } in self.response.iter() {
            let made = match joins {
                true => abi::add_header(MapKind::Response, name, value.as_bytes()),
                false => abi::set_header(MapKind::Response, name, value.as_bytes()),
            };
            if let Err(failure) = made {
                self.envoy.log(
                    log::Level::Warn,
                    format_args!("response header {name} not set: {failure:?}"),
                );
            }
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        // A stream that Envoy has refused by itself was never judged.
        if let (Some(chain), Some(streams)) = (&self.chain, self.streams.take()) {
            chain.on_end(&*self.envoy, streams);
        }
    }
}

/// Changes the request's headers.
fn change(edits: &RequestEdits) -> Result<(), Failure> {
    edits.iter().try_for_each(|edit| match edit {
        RequestEdit::Set(name, value) => abi::set_header(MapKind::Request, name, value),
        RequestEdit::Remove(name) => abi::remove_header(MapKind::Request, name),
    })
}

impl<P: Policies> Stream<P> {
    fn answer(&self, reply: &LocalReply) -> Action {
        let pairs: Vec<(&HeaderName, &String)> = reply
            .headers
            .iter()
            .map(|(name, value)| (name, value))
            .collect();
        let headers = to_wire(
            &pairs
                .iter()
                .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
                .collect::<Vec<_>>(),
        );
        let sent = abi::send_local_response(
            reply.status,
            &reply.details,
            &reply.body,
            &headers,
            reply.grpc_status,
        );
        if let Err(failure) = sent {
            self.envoy.log(
                log::Level::Error,
                format_args!("answer {} not sent: {failure:?}", reply.details),
            );
        }
        Action::Pause
    }
}
