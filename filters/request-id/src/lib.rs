//! `request-id.wasm`: request ids and trace context.

tollgate_host::plugin!(tollgate_plugins::RequestId);
