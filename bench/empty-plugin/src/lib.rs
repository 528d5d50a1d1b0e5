//! A filter of the SDK's that lets everything pass: what it costs is the price of the SDK and of
//! entering a VM. As it is built it exports every callback; packaged, only the two of headers.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;
use tollgate_core::policy::Callbacks;

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream;

impl Context for Stream {}

impl HttpContext for Stream {}

#[allow(
    missing_docs,
    reason = "the SDK's macro defines the entry point without any"
)]
mod entry_point {
    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|_| Box::new(super::Root));
    }}
}

/// The callbacks that packaging keeps.
#[used]
#[unsafe(link_section = "tollgate.callbacks")]
static CALLBACKS: [u8; 256] = Callbacks::REQUEST_HEADERS
    .union(Callbacks::RESPONSE_HEADERS)
    .declaration();
