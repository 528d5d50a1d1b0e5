//! proxy-wasm ABI 0.2.1, the calls Tollgate uses: every status a value, nothing panics.
//!
//! <https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1>

use std::num::NonZeroU32;
use std::ptr;

/// What the host answers instead of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no such thing.
    NotFound,
    /// A compare-and-swap lost.
    CasMismatch,
    /// Any other status, by its number.
    Other(u32),
}

type Answer<T> = Result<T, Failure>;

fn check(status: u32) -> Answer<()> {
    match status {
        0 => Ok(()),
        1 => Err(Failure::NotFound),
        8 => Err(Failure::CasMismatch),
        other => Err(Failure::Other(other)),
    }
}

/// Header maps of the ABI.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum MapKind {
    Request = 0,
    RequestTrailers = 1,
    Response = 2,
    CalloutResponse = 6,
    CalloutResponseTrailers = 7,
}

const CALLOUT_RESPONSE_BODY: u32 = 4;
const PLUGIN_CONFIGURATION: u32 = 7;
const REQUEST: u32 = 0;
const COUNTER: u32 = 0;
const GAUGE: u32 = 1;

mod imports {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub(super) fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
        pub(super) fn proxy_get_log_level(level: *mut u32) -> u32;
        pub(super) fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
        pub(super) fn proxy_get_buffer_bytes(
            buffer: u32,
            start: usize,
            length: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_get_header_map_pairs(
            map: u32,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_get_header_map_value(
            map: u32,
            key: *const u8,
            key_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_replace_header_map_value(
            map: u32,
            key: *const u8,
            key_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_add_header_map_value(
            map: u32,
            key: *const u8,
            key_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_remove_header_map_value(
            map: u32,
            key: *const u8,
            key_size: usize,
        ) -> u32;
        pub(super) fn proxy_get_property(
            path: *const u8,
            path_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_set_property(
            path: *const u8,
            path_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_get_shared_data(
            key: *const u8,
            key_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
            cas: *mut u32,
        ) -> u32;
        pub(super) fn proxy_set_shared_data(
            key: *const u8,
            key_size: usize,
            value: *const u8,
            value_size: usize,
            cas: u32,
        ) -> u32;
        pub(super) fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_size: usize,
            body: *const u8,
            body_size: usize,
            headers: *const u8,
            headers_size: usize,
            grpc_status: i32,
        ) -> u32;
        pub(super) fn proxy_define_metric(
            kind: u32,
            name: *const u8,
            name_size: usize,
            id: *mut u32,
        ) -> u32;
        pub(super) fn proxy_increment_metric(id: u32, offset: i64) -> u32;
        pub(super) fn proxy_record_metric(id: u32, value: u64) -> u32;
        pub(super) fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
        pub(super) fn proxy_set_effective_context(context_id: u32) -> u32;
        pub(super) fn proxy_continue_stream(stream: u32) -> u32;
        pub(super) fn proxy_call_foreign_function(
            name: *const u8,
            name_size: usize,
            arguments: *const u8,
            arguments_size: usize,
            results: *mut *mut u8,
            results_size: *mut usize,
        ) -> u32;
    }
}

/// Memory that the host has filled and handed over: it was allocated by this module's own
/// `proxy_on_memory_allocate`, with exactly this size.
struct Handed {
    data: *mut u8,
    size: usize,
}

impl Handed {
    fn nothing() -> Self {
        Handed {
            data: ptr::null_mut(),
            size: 0,
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        if self.data.is_null() {
            return Vec::new();
        }
        // SAFETY: the SDK's `proxy_on_memory_allocate` made it as a boxed slice of `size` bytes
        // and gave up ownership; the host gives it to us and to nobody else.
        unsafe { Vec::from_raw_parts(self.data, self.size, self.size) }
    }
}

/// Writes a line to Envoy's log. `level` counts from 0, trace, to 5, critical.
pub(crate) fn log(level: u32, message: &str) {
    // SAFETY: pointer and length are those of a live slice. There is nobody to tell of a failure.
    unsafe { imports::proxy_log(level, message.as_ptr(), message.len()) };
}

/// The least level that Envoy logs, 0 to 5.
pub(crate) fn log_level() -> u32 {
    let mut level = 0;
    // SAFETY: the host writes a `u32`.
    match check(unsafe { imports::proxy_get_log_level(&raw mut level) }) {
        Ok(()) => level,
        Err(_) => 0,
    }
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn current_time() -> Answer<u64> {
    let mut time = 0;
    // SAFETY: the host writes a `u64`.
    check(unsafe { imports::proxy_get_current_time_nanoseconds(&raw mut time) })?;
    Ok(time)
}

/// The plugin's configuration from a place on, or the first `most` bytes of that. The place must be
/// in it.
pub(crate) fn plugin_configuration(start: usize, most: usize) -> Answer<Vec<u8>> {
    buffer(PLUGIN_CONFIGURATION, start, most)
}

/// The body of the answer to a callout, or the first `most` bytes of it.
pub(crate) fn callout_response_body(most: usize) -> Answer<Vec<u8>> {
    buffer(CALLOUT_RESPONSE_BODY, 0, most)
}

fn buffer(buffer: u32, start: usize, most: usize) -> Answer<Vec<u8>> {
    let mut handed = Handed::nothing();
    // SAFETY: the host writes a pointer and a length.
    check(unsafe {
        imports::proxy_get_buffer_bytes(
            buffer,
            start,
            most,
            &raw mut handed.data,
            &raw mut handed.size,
        )
    })?;
    Ok(handed.into_bytes())
}

/// A whole header map in its serialised form.
pub(crate) fn header_map(map: MapKind) -> Answer<Vec<u8>> {
    let mut handed = Handed::nothing();
    // SAFETY: the host writes a pointer and a length.
    check(unsafe {
        imports::proxy_get_header_map_pairs(map as u32, &raw mut handed.data, &raw mut handed.size)
    })?;
    Ok(handed.into_bytes())
}

/// The first value of a header.
pub(crate) fn header(map: MapKind, name: &str) -> Answer<Vec<u8>> {
    let mut handed = Handed::nothing();
    // SAFETY: the name is a live slice; the host writes a pointer and a length.
    check(unsafe {
        imports::proxy_get_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            &raw mut handed.data,
            &raw mut handed.size,
        )
    })?;
    Ok(handed.into_bytes())
}

/// Sets a header to one value, replacing all it had.
pub(crate) fn set_header(map: MapKind, name: &str, value: &[u8]) -> Answer<()> {
    // SAFETY: pointers and lengths are those of live slices.
    check(unsafe {
        imports::proxy_replace_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// Adds a header beside those of the same name.
pub(crate) fn add_header(map: MapKind, name: &str, value: &[u8]) -> Answer<()> {
    // SAFETY: pointers and lengths are those of live slices.
    check(unsafe {
        imports::proxy_add_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// Removes a header and its repetitions.
pub(crate) fn remove_header(map: MapKind, name: &str) -> Answer<()> {
    // SAFETY: pointer and length are those of a live slice.
    check(unsafe { imports::proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// A property by its path, the parts joined by NUL.
pub(crate) fn property(path: &[u8]) -> Answer<Vec<u8>> {
    let mut handed = Handed::nothing();
    // SAFETY: the path is a live slice; the host writes a pointer and a length.
    check(unsafe {
        imports::proxy_get_property(
            path.as_ptr(),
            path.len(),
            &raw mut handed.data,
            &raw mut handed.size,
        )
    })?;
    Ok(handed.into_bytes())
}

/// Sets a property of the stream: filter state `wasm.<path>`.
pub(crate) fn set_property(path: &str, value: &[u8]) -> Answer<()> {
    // SAFETY: pointers and lengths are those of live slices.
    check(unsafe {
        imports::proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len())
    })
}

/// An entry of shared data and the compare value of its last write.
pub(crate) fn shared_data(key: &str) -> Answer<(Vec<u8>, NonZeroU32)> {
    let mut handed = Handed::nothing();
    let mut cas = 0;
    // SAFETY: the key is a live slice; the host writes a pointer, a length and a `u32`.
    let status = unsafe {
        imports::proxy_get_shared_data(
            key.as_ptr(),
            key.len(),
            &raw mut handed.data,
            &raw mut handed.size,
            &raw mut cas,
        )
    };
    check(status)?;
    let cas = NonZeroU32::new(cas).ok_or(Failure::NotFound)?;
    Ok((handed.into_bytes(), cas))
}

/// Writes an entry of shared data if its compare value is `cas`, or if there is none.
pub(crate) fn set_shared_data(key: &str, value: &[u8], cas: NonZeroU32) -> Answer<()> {
    // SAFETY: pointers and lengths are those of live slices.
    check(unsafe {
        imports::proxy_set_shared_data(
            key.as_ptr(),
            key.len(),
            value.as_ptr(),
            value.len(),
            cas.get(),
        )
    })
}

/// Answers the request. `headers` is a serialised map.
pub(crate) fn send_local_response(
    status: u16,
    details: &str,
    body: &[u8],
    headers: &[u8],
    grpc_status: Option<i32>,
) -> Answer<()> {
    // SAFETY: pointers and lengths are those of live slices.
    check(unsafe {
        imports::proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status.unwrap_or(-1),
        )
    })
}

/// Defines a counter, or finds the one of that name.
pub(crate) fn define_counter(name: &str) -> Answer<u32> {
    define_metric(COUNTER, name)
}

/// Defines a gauge, or finds the one of that name.
pub(crate) fn define_gauge(name: &str) -> Answer<u32> {
    define_metric(GAUGE, name)
}

fn define_metric(kind: u32, name: &str) -> Answer<u32> {
    let mut id = 0;
    // SAFETY: the name is a live slice; the host writes a `u32`.
    check(unsafe { imports::proxy_define_metric(kind, name.as_ptr(), name.len(), &raw mut id) })?;
    Ok(id)
}

/// Adds to a counter. The host refuses to add nothing.
pub(crate) fn increment_counter(id: u32, by: i64) -> Answer<()> {
    // SAFETY: no pointers.
    check(unsafe { imports::proxy_increment_metric(id, by) })
}

/// Sets a gauge.
pub(crate) fn set_gauge(id: u32, to: u64) -> Answer<()> {
    // SAFETY: no pointers.
    check(unsafe { imports::proxy_record_metric(id, to) })
}

/// Sets the time between two ticks of the root context that the current context belongs to.
pub(crate) fn set_tick_period(milliseconds: u32) -> Answer<()> {
    // SAFETY: no pointers.
    check(unsafe { imports::proxy_set_tick_period_milliseconds(milliseconds) })
}

/// Makes the calls that follow be about another context, until the current callback returns.
pub(crate) fn set_effective_context(context_id: u32) -> Answer<()> {
    // SAFETY: no pointers.
    check(unsafe { imports::proxy_set_effective_context(context_id) })
}

/// Lets a request go on that was stopped.
pub(crate) fn continue_request() -> Answer<()> {
    // SAFETY: no pointers.
    check(unsafe { imports::proxy_continue_stream(REQUEST) })
}

/// Calls a function that is Envoy's own and no part of the ABI.
pub(crate) fn call_foreign_function(name: &str, arguments: &[u8]) -> Answer<Vec<u8>> {
    let mut handed = Handed::nothing();
    // SAFETY: pointers and lengths are those of live slices; the host writes a pointer and a length.
    check(unsafe {
        imports::proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            arguments.as_ptr(),
            arguments.len(),
            &raw mut handed.data,
            &raw mut handed.size,
        )
    })?;
    Ok(handed.into_bytes())
}
