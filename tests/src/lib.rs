//! The harness of the end-to-end tests: a real Envoy, a real upstream, real clients.
//!
//! ```no_run
//! # async fn example() {
//! use serde_json::json;
//! use tollgate_tests::{EchoUpstream, Envoy, plugin, wasm_filter};
//!
//! let upstream = EchoUpstream::start().await;
//! let envoy = Envoy::builder()
//!     .upstream(&upstream)
//!     .filter(wasm_filter("tollgate", plugin("tollgate"), json!({ "request_id": {} })))
//!     .start()
//!     .await
//!     .unwrap();
//! let reply = envoy.http1().get("/v1/accounts").header("x-api-key", "k1").send().await;
//! assert_eq!(reply.status, 200);
//! assert_eq!(reply.echo().header("x-api-key"), None);
//! # }
//! ```
//!
//! Every Envoy has its own ports and its own temporary folder, so tests run in parallel. Whatever
//! takes time is awaited as a condition with a deadline ([`wait_for`]); nothing sleeps and hopes.

use std::path::{Path, PathBuf};

mod access_log;
mod bootstrap;
mod client;
mod config_file;
mod connection;
mod echo;
mod envoy;
mod issuer;
mod listener;
mod load;
mod process;
mod prometheus;
mod raw;
mod redis;
mod redis_rest;
mod rls;
mod stats;
mod system;
mod tls;
mod tokens;
mod upstream;
mod wait;
mod webdis;

pub use access_log::AccessLogEntry;
pub use bootstrap::{EnvoyBuilder, cluster, http2_cluster, tls_cluster};
pub use client::{ClientError, HttpClient, Reply, RequestBuilder};
pub use config_file::ConfigFile;
pub use echo::{Echo, Received};
pub use envoy::{Envoy, StartError, UpdateRejected, Validation};
pub use issuer::{DISCOVERY_PATH, Fault, Fetch, Issuer, JWKS_PATH, OVERSIZED_BYTES};
pub use listener::{ECHO_CLUSTER, LISTENER, Listener, WasmFilter, merge, wasm_filter};
pub use load::{Load, LoadReport};
pub use prometheus::{Prometheus, promtool};
pub use raw::{RawClient, RawReply};
pub use rcgen;
pub use redis::{Redis, RedisConnection, RedisReply};
pub use redis_rest::RedisRest;
pub use rls::{RlsCall, RlsFault, RlsLimit, RlsPersonality, RlsStandIn};
pub use stats::{Sample, Stats};
pub use tls::{Authority, ClientTls, Identity};
pub use tokens::{
    Algorithm, SigningKey, base64url, hs256_token, replace_segment, tamper_signature, unix_time,
};
pub use upstream::{EchoUpstream, Page};
pub use wait::{DEADLINE, wait_for};
pub use webdis::Webdis;

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the repository")
}

/// The built plugin of this name: `<name>.wasm` in `TOLLGATE_DIST`, else in `dist/`.
///
/// # Panics
///
/// When it is not built.
pub fn plugin(name: &str) -> PathBuf {
    let path = plugin_path(name);
    assert!(
        path.is_file(),
        "{} is not built: run `make dist` first, or set TOLLGATE_DIST to where the plugins are",
        path.display(),
    );
    path
}

/// The plugin of this name that is made for tests alone, where `make e2e` builds it.
///
/// # Panics
///
/// When it is not built.
pub fn test_plugin(name: &str) -> PathBuf {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => folder.into(),
        None => repository().join("target"),
    };
    let path = target.join(format!("wasm32-wasip1/release/{name}.wasm"));
    assert!(
        path.is_file(),
        "{} is not built: run `make test-plugins`",
        path.display()
    );
    path
}

/// Where the plugin of this name lies once it is built.
fn plugin_path(name: &str) -> PathBuf {
    let folder = match std::env::var_os("TOLLGATE_DIST") {
        Some(folder) => folder.into(),
        None => repository().join("dist"),
    };
    folder.join(format!("{name}.wasm"))
}
