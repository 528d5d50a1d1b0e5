//! A filter that calls the host for each request as often as its configuration says, and makes
//! nothing of the answers: what a plugin would cost whose own work is free.
//!
//! ```json
//! { "get_shared_data": 2, "set_property": 5 }
//! ```

use std::collections::BTreeMap;
use std::rc::Rc;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MapType, MetricType, Status};
use tollgate_core::policy::Callbacks;

/// A header of every request that is measured.
const HEADER: &str = "user-agent";

/// One that none of them has.
const OTHER_HEADER: &str = "x-measured";

/// As long as the values that are written to headers and filter state are.
const VALUE: &str = "0192e4a8-6cb4-7c5e-b0d8-2f6f4c6f1a2b";

const ENTRY: &str = "tollgate/measured";

/// As large as the records in shared data are.
const ENTRY_BYTES: usize = 512;

#[derive(Default)]
struct Root {
    calls: Rc<Vec<(Call, u64)>>,
    counter: u32,
}

/// A call of the host.
#[derive(Clone, Copy)]
enum Call {
    CurrentTime,
    HeaderMap,
    Header,
    MissingHeader,
    Property,
    SharedData,
    IncrementMetric,
    RemoveHeader,
    AddHeader,
    ReplaceHeader,
    SetProperty,
    SetSharedData,
}

impl Call {
    /// By its name in the ABI without `proxy_`; a header that is missing has none of its own.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "get_current_time_nanoseconds" => Call::CurrentTime,
            "get_header_map_pairs" => Call::HeaderMap,
            "get_header_map_value" => Call::Header,
            "get_header_map_value of none" => Call::MissingHeader,
            "get_property" => Call::Property,
            "get_shared_data" => Call::SharedData,
            "increment_metric" => Call::IncrementMetric,
            "remove_header_map_value" => Call::RemoveHeader,
            "add_header_map_value" => Call::AddHeader,
            "replace_header_map_value" => Call::ReplaceHeader,
            "set_property" => Call::SetProperty,
            "set_shared_data" => Call::SetSharedData,
            _ => return None,
        })
    }

    fn make(self, counter: u32) -> Result<(), Status> {
        let map = MapType::HttpRequestHeaders;
        match self {
            Call::CurrentTime => hostcalls::get_current_time().map(drop),
            Call::HeaderMap => hostcalls::get_map_bytes(map).map(drop),
            Call::Header => hostcalls::get_map_value_bytes(map, HEADER).map(drop),
            Call::MissingHeader => hostcalls::get_map_value_bytes(map, OTHER_HEADER).map(drop),
            Call::Property => hostcalls::get_property(vec!["source", "address"]).map(drop),
            Call::SharedData => hostcalls::get_shared_data(ENTRY).map(drop),
            Call::IncrementMetric => hostcalls::increment_metric(counter, 1),
            Call::RemoveHeader => hostcalls::remove_map_value(map, OTHER_HEADER),
            Call::AddHeader => hostcalls::add_map_value(map, OTHER_HEADER, VALUE),
            Call::ReplaceHeader => hostcalls::set_map_value(map, HEADER, Some(VALUE)),
            Call::SetProperty => {
                hostcalls::set_property(vec!["tollgate.measured"], Some(VALUE.as_bytes()))
            }
            Call::SetSharedData => {
                hostcalls::set_shared_data(ENTRY, Some(&[b'x'; ENTRY_BYTES]), None)
            }
        }
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        let calls: BTreeMap<String, u64> = match serde_json::from_slice(&text) {
            Ok(calls) => calls,
            Err(error) => return refuse(&error.to_string()),
        };
        let calls: Option<Vec<(Call, u64)>> = calls
            .iter()
            .map(|(name, times)| Some((Call::named(name)?, *times)))
            .collect();
        let counter = hostcalls::define_metric(MetricType::Counter, "tollgate_measured");
        let stored = Call::SetSharedData.make(0);
        match (calls, counter, stored) {
            (Some(calls), Ok(counter), Ok(())) => {
                self.calls = Rc::new(calls);
                self.counter = counter;
                true
            }
            _ => refuse("found a call that is not known, or the host refuses one"),
        }
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream {
            calls: Rc::clone(&self.calls),
            counter: self.counter,
        }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

fn refuse(why: &str) -> bool {
    // Nobody is left to tell where this fails, too.
    let _ = hostcalls::log(LogLevel::Error, why);
    false
}

struct Stream {
    calls: Rc<Vec<(Call, u64)>>,
    counter: u32,
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        for (call, times) in self.calls.iter() {
            for _ in 0..*times {
                if call.make(self.counter).is_err() {
                    // What fails is cheaper than what succeeds, so it must not be measured.
                    self.send_http_response(500, Vec::new(), None);
                    return Action::Pause;
                }
            }
        }
        Action::Continue
    }
}

#[allow(
    missing_docs,
    reason = "the SDK's macro defines the entry point without any"
)]
mod entry_point {
    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|_| Box::new(super::Root::default()));
    }}
}

/// The callbacks that packaging keeps.
#[used]
#[unsafe(link_section = "tollgate.callbacks")]
static CALLBACKS: [u8; 256] = Callbacks::REQUEST_HEADERS
    .union(Callbacks::RESPONSE_HEADERS)
    .declaration();
