//! The functions that a plugin imports from its host (proxy-wasm ABI 0.2.1), for one thread that is
//! one Envoy with one worker.
//!
//! Memory for what it hands over is the plugin's own, as the ABI wants. Beside that it allocates
//! nothing once it has seen the names of counters and shared entries.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::{ptr, slice};

/// Each function that a plugin calls, by its name in the ABI, and how often it was called.
pub type Calls = BTreeMap<&'static str, u64>;

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const CAS_MISMATCH: u32 = 8;
const UNIMPLEMENTED: u32 = 12;

/// Only warnings and worse are logged, as in production.
const LOG_LEVEL: u32 = 3;

const REQUEST_HEADERS: u32 = 0;
const RESPONSE_HEADERS: u32 = 2;

/// What `VerifySignatureResult` is for a signature that fits: field 1, true.
const SIGNATURE_FITS: &[u8] = &[0x08, 0x01];

thread_local! {
    static HOST: State = State::default();
}

/// What this thread's host knows.
#[derive(Default)]
struct State {
    time: Cell<u64>,
    configuration: RefCell<Vec<u8>>,
    request: RefCell<Vec<u8>>,
    response: RefCell<Vec<u8>>,
    status: Cell<Option<u16>>,
    details: RefCell<Vec<u8>>,
    shared: RefCell<BTreeMap<Vec<u8>, Entry>>,
    writes: Cell<u32>,
    counters: RefCell<Vec<Vec<u8>>>,
    calls: Counts,
}

/// How often each of the functions was called.
struct Counts([Cell<u64>; NAMES.len()]);

impl Default for Counts {
    fn default() -> Self {
        Counts([const { Cell::new(0) }; NAMES.len()])
    }
}

struct Entry {
    value: Vec<u8>,
    write: u32,
}

/// Sets the time, in ns since 1970.
pub(crate) fn set_time(nanoseconds: u64) {
    HOST.with(|host| host.time.set(nanoseconds));
}

/// Lets time pass.
pub(crate) fn advance(nanoseconds: u64) {
    HOST.with(|host| host.time.set(host.time.get() + nanoseconds));
}

/// Sets what the plugin finds as its configuration.
pub(crate) fn set_configuration(text: &[u8]) {
    HOST.with(|host| text.clone_into(&mut host.configuration.borrow_mut()));
}

/// Sets the headers of the request at hand, as a serialised map.
pub(crate) fn set_request(wire: &[u8]) {
    HOST.with(|host| {
        wire.clone_into(&mut host.request.borrow_mut());
        host.status.set(None);
    });
}

/// Sets the headers of the response at hand, as a serialised map.
pub(crate) fn set_response(wire: &[u8]) {
    HOST.with(|host| wire.clone_into(&mut host.response.borrow_mut()));
}

/// The status with which the plugin has answered the request at hand, if it has.
pub(crate) fn local_status() -> Option<u16> {
    HOST.with(|host| host.status.get())
}

/// Why the plugin has answered a request, the last time that it did.
pub(crate) fn local_details() -> String {
    HOST.with(|host| String::from_utf8_lossy(&host.details.borrow()).into_owned())
}

/// How often each function was called so far; those that never were are left out.
pub(crate) fn calls() -> Calls {
    HOST.with(|host| {
        let calls = NAMES
            .iter()
            .zip(&host.calls.0)
            .map(|(name, count)| (*name, count.get()));
        calls.filter(|(_, count)| *count > 0).collect()
    })
}

unsafe extern "C" {
    fn proxy_on_memory_allocate(size: usize) -> *mut u8;
}

/// Hands bytes over in memory of the plugin's.
unsafe fn hand_over(bytes: &[u8], data: *mut *mut u8, size: *mut usize) -> u32 {
    // SAFETY: the plugin gives as much memory as it is asked for, and `data` and `size` are places
    // for the answer.
    unsafe {
        let memory = proxy_on_memory_allocate(bytes.len());
        ptr::copy_nonoverlapping(bytes.as_ptr(), memory, bytes.len());
        *data = memory;
        *size = bytes.len();
    }
    OK
}

/// The bytes that a plugin points to.
unsafe fn given<'a>(data: *const u8, size: usize) -> &'a [u8] {
    match size {
        0 => &[],
        // SAFETY: the plugin points to that many bytes, which stay until the call returns.
        _ => unsafe { slice::from_raw_parts(data, size) },
    }
}

/// The first value of a header in a serialised map.
fn find<'a>(wire: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let integer = |at: usize| -> Option<usize> {
        let bytes = wire.get(at..at + 4)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes) as usize)
    };
    let count = integer(0)?;
    let mut at = 4 + count * 8;
    for index in 0..count {
        let (name_length, value_length) = (integer(4 + index * 8)?, integer(8 + index * 8)?);
        let value_at = at + name_length + 1;
        if wire.get(at..at + name_length)? == name {
            return wire.get(value_at..value_at + value_length);
        }
        at = value_at + value_length + 1;
    }
    None
}

/// Declares functions of the ABI: each counts its call, then does what it says with the state.
macro_rules! host_functions {
    ($(fn $name:ident($host:ident $(, $argument:ident: $type:ty)*) $body:block)*) => {
        /// The names of all functions.
        const NAMES: [&str; [$(stringify!($name)),*].len()] = [$(stringify!($name)),*];

        #[allow(non_camel_case_types, clippy::enum_variant_names)]
        #[derive(Clone, Copy)]
        enum Function { $($name),* }

        $(
            /// # Safety
            ///
            /// Pointers and lengths are those of the ABI.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($argument: $type),*) -> u32 {
                HOST.with(|$host| {
                    let calls = &$host.calls.0[Function::$name as usize];
                    calls.set(calls.get() + 1);
                    // SAFETY: the plugin keeps to the ABI.
                    #[allow(unused_unsafe)]
                    unsafe { $body }
                })
            }
        )*
    };
}

host_functions! {
    fn proxy_log(_host, level: u32, message: *const u8, size: usize) {
        if level >= LOG_LEVEL {
            eprintln!("{}", String::from_utf8_lossy(given(message, size)));
        }
        OK
    }

    fn proxy_get_log_level(_host, level: *mut u32) {
        *level = LOG_LEVEL;
        OK
    }

    fn proxy_get_current_time_nanoseconds(host, time: *mut u64) {
        *time = host.time.get();
        OK
    }

    fn proxy_get_buffer_bytes(
        host,
        _buffer: u32,
        start: usize,
        length: usize,
        data: *mut *mut u8,
        size: *mut usize
    ) {
        let configuration = host.configuration.borrow();
        let rest = configuration.get(start..).unwrap_or_default();
        hand_over(rest.get(..length).unwrap_or(rest), data, size)
    }

    fn proxy_get_header_map_pairs(host, map: u32, data: *mut *mut u8, size: *mut usize) {
        match map {
            REQUEST_HEADERS => hand_over(&host.request.borrow(), data, size),
            RESPONSE_HEADERS => hand_over(&host.response.borrow(), data, size),
            _ => NOT_FOUND,
        }
    }

    fn proxy_get_header_map_value(
        host,
        map: u32,
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize
    ) {
        let headers = match map {
            RESPONSE_HEADERS => host.response.borrow(),
            _ => host.request.borrow(),
        };
        match find(&headers, given(key, key_size)) {
            Some(value) => hand_over(value, data, size),
            None => NOT_FOUND,
        }
    }

    fn proxy_replace_header_map_value(
        _host,
        _map: u32,
        _key: *const u8,
        _key_size: usize,
        _value: *const u8,
        _value_size: usize
    ) {
        OK
    }

    fn proxy_add_header_map_value(
        _host,
        _map: u32,
        _key: *const u8,
        _key_size: usize,
        _value: *const u8,
        _value_size: usize
    ) {
        OK
    }

    fn proxy_remove_header_map_value(_host, _map: u32, _key: *const u8, _key_size: usize) {
        OK
    }

    fn proxy_get_property(
        _host,
        path: *const u8,
        path_size: usize,
        data: *mut *mut u8,
        size: *mut usize
    ) {
        match given(path, path_size) {
            b"source\0address" => hand_over(b"192.0.2.1:49152", data, size),
            b"response\0code_details" => hand_over(b"via_upstream", data, size),
            _ => NOT_FOUND,
        }
    }

    fn proxy_set_property(
        _host,
        _path: *const u8,
        _path_size: usize,
        _value: *const u8,
        _value_size: usize
    ) {
        OK
    }

    fn proxy_get_shared_data(
        host,
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32
    ) {
        match host.shared.borrow().get(given(key, key_size)) {
            Some(entry) => {
                *cas = entry.write;
                hand_over(&entry.value, data, size)
            }
            None => NOT_FOUND,
        }
    }

    fn proxy_set_shared_data(
        host,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        cas: u32
    ) {
        let (key, value) = (given(key, key_size), given(value, value_size));
        let mut shared = host.shared.borrow_mut();
        let write = host.writes.get() + 1;
        match shared.get_mut(key) {
            Some(entry) if cas == 0 || cas == entry.write => {
                value.clone_into(&mut entry.value);
                entry.write = write;
            }
            Some(_) => return CAS_MISMATCH,
            None => {
                let value = value.to_vec();
                shared.insert(key.to_vec(), Entry { value, write });
            }
        }
        host.writes.set(write);
        OK
    }

    fn proxy_send_local_response(
        host,
        status: u32,
        details: *const u8,
        details_size: usize,
        _body: *const u8,
        _body_size: usize,
        _headers: *const u8,
        _headers_size: usize,
        _grpc_status: i32
    ) {
        given(details, details_size).clone_into(&mut host.details.borrow_mut());
        host.status.set(u16::try_from(status).ok());
        OK
    }

    fn proxy_define_metric(host, _kind: u32, name: *const u8, name_size: usize, id: *mut u32) {
        let name = given(name, name_size);
        let mut counters = host.counters.borrow_mut();
        let index = match counters.iter().position(|known| known == name) {
            Some(index) => index,
            None => {
                counters.push(name.to_vec());
                counters.len() - 1
            }
        };
        *id = u32::try_from(index).expect("few counters");
        OK
    }

    fn proxy_increment_metric(_host, _id: u32, _offset: i64) {
        OK
    }

    fn proxy_set_tick_period_milliseconds(_host, _period: u32) {
        OK
    }

    fn proxy_set_effective_context(_host, _context: u32) {
        OK
    }

    fn proxy_continue_stream(_host, _stream: u32) {
        OK
    }

    // The only function that is called is `verify_signature`. Every signature fits: this is about
    // what the plugin does, and a signature is checked by Envoy's cryptography.
    fn proxy_call_foreign_function(
        _host,
        _name: *const u8,
        _name_size: usize,
        _arguments: *const u8,
        _arguments_size: usize,
        results: *mut *mut u8,
        results_size: *mut usize
    ) {
        hand_over(SIGNATURE_FITS, results, results_size)
    }

    // What the SDK has and no scenario needs. A caller may pass more than a C function takes.
    fn proxy_close_stream(_host) { UNIMPLEMENTED }
    fn proxy_dequeue_shared_queue(_host) { UNIMPLEMENTED }
    fn proxy_done(_host) { UNIMPLEMENTED }
    fn proxy_enqueue_shared_queue(_host) { UNIMPLEMENTED }
    fn proxy_get_metric(_host) { UNIMPLEMENTED }
    fn proxy_get_status(_host) { UNIMPLEMENTED }
    fn proxy_grpc_call(_host) { UNIMPLEMENTED }
    fn proxy_grpc_cancel(_host) { UNIMPLEMENTED }
    fn proxy_grpc_close(_host) { UNIMPLEMENTED }
    fn proxy_grpc_send(_host) { UNIMPLEMENTED }
    fn proxy_grpc_stream(_host) { UNIMPLEMENTED }
    fn proxy_http_call(_host) { UNIMPLEMENTED }
    fn proxy_record_metric(_host) { UNIMPLEMENTED }
    fn proxy_register_shared_queue(_host) { UNIMPLEMENTED }
    fn proxy_resolve_shared_queue(_host) { UNIMPLEMENTED }
    fn proxy_set_buffer_bytes(_host) { UNIMPLEMENTED }
    fn proxy_set_header_map_pairs(_host) { UNIMPLEMENTED }
}
