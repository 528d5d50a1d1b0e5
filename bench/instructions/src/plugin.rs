//! A plugin, entered as Envoy enters it.

use std::cell::Cell;

use serde_json::Value;
use tollgate_core::chain::Policies as _;
use tollgate_core::headers::to_wire;
use tollgate_core::plugin::{self, Bare};
use tollgate_core::policy::Callbacks;

use crate::held::{self, Held};
use crate::host::{self, Calls};

// The SDK's dispatcher.
unsafe extern "C" {
    fn proxy_on_context_create(context: u32, root: u32);
    fn proxy_on_vm_start(context: u32, size: usize) -> bool;
    fn proxy_on_configure(context: u32, size: usize) -> bool;
    fn proxy_on_request_headers(context: u32, count: usize, end: bool) -> u32;
    fn proxy_on_response_headers(context: u32, count: usize, end: bool) -> u32;
    fn proxy_on_delete(context: u32);
}

thread_local! {
    /// The number of the last context, of roots and of streams.
    static LAST_CONTEXT: Cell<u32> = const { Cell::new(0) };
}

fn new_context() -> u32 {
    let context = LAST_CONTEXT.get() + 1;
    LAST_CONTEXT.set(context);
    context
}

/// A plugin, configured. Those of one thread share a VM, its worker and what the host keeps.
pub struct Plugin {
    callbacks: Callbacks,
    root: u32,
    held: Held,
    upstream: Vec<u8>,
    refused: Vec<u8>,
}

/// A request, in the form in which the host hands it over.
pub struct Request {
    wire: Vec<u8>,
    count: usize,
}

impl Request {
    /// A request with these headers, pseudo-headers included.
    pub fn new(headers: &[(&str, &str)]) -> Self {
        Request {
            wire: to_wire(headers),
            count: headers.len(),
        }
    }
}

/// Who answered a request, with which status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The upstream, with 200.
    Upstream,
    /// The plugin.
    Plugin(u16),
}

impl Plugin {
    /// Starts a plugin with a document, at this time, in s since 1970.
    ///
    /// # Panics
    ///
    /// When it refuses the document; it has said why on the standard error stream.
    pub fn start<P: plugin::Plugin + 'static>(document: &Value, time: u64) -> Self {
        Self::start_with::<P>(document.to_string().as_bytes(), time)
    }

    /// Starts a plugin with a document as it is handed over.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_with<P: plugin::Plugin + 'static>(text: &[u8], time: u64) -> Self {
        host::set_time(time * 1_000_000_000);
        host::set_configuration(text);
        tollgate_host::register::<P::Policies<Bare>>(P::FILE);
        let root = new_context();
        // SAFETY: the functions are called as the ABI has it.
        let (configured, held) = held::held(|| unsafe {
            proxy_on_context_create(root, 0);
            proxy_on_vm_start(root, 0) && proxy_on_configure(root, text.len())
        });
        assert!(configured, "the plugin refuses its document");
        Plugin {
            callbacks: P::Policies::<Bare>::CALLBACKS,
            root,
            held,
            upstream: to_wire(&[
                (":status", "200"),
                ("content-length", "2"),
                ("content-type", "text/plain"),
                ("date", "Fri, 20 Nov 2026 12:00:00 GMT"),
                ("x-envoy-upstream-service-time", "0"),
            ]),
            refused: to_wire(&[(":status", "403"), ("content-length", "200")]),
        }
    }

    /// Sends a request through the plugin, and ends its stream. A millisecond passes.
    pub fn send(&mut self, request: &Request) -> Answer {
        host::advance(1_000_000);
        host::set_request(&request.wire);
        let context = new_context();
        // SAFETY: the functions are called as the ABI has it.
        unsafe {
            proxy_on_context_create(context, self.root);
            proxy_on_request_headers(context, request.count, true);
        }
        let status = host::local_status();
        if self.callbacks.contains(Callbacks::RESPONSE_HEADERS) {
            let response = match status {
                None => &self.upstream,
                Some(_) => &self.refused,
            };
            host::set_response(response);
            // SAFETY: as above.
            unsafe { proxy_on_response_headers(context, 5, false) };
        }
        // SAFETY: as above.
        unsafe {
            proxy_on_delete(context);
        }
        match status.or_else(host::local_status) {
            None => Answer::Upstream,
            Some(status) => Answer::Plugin(status),
        }
    }

    /// Why the plugin has answered a request, the last time that it did.
    pub fn details(&self) -> String {
        host::local_details()
    }

    /// What it held of memory while it started, and then.
    pub fn held(&self) -> Held {
        self.held
    }

    /// The calls of the host so far.
    pub fn calls(&self) -> Calls {
        host::calls()
    }
}
