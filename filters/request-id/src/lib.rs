//! `request-id.wasm`: request ids and trace context.

tollgate_host::plugin!("request-id.wasm": tollgate_request_id::RequestId);
