//! What is compared: an Envoy with these filters.

use std::path::PathBuf;

use serde_json::{Value, json};
use tollgate_instructions::document::{self, Policy};
use tollgate_tests::{
    Envoy, EnvoyBuilder, WasmFilter, cluster, http2_cluster, plugin, repository, test_plugin,
    wasm_filter,
};

use crate::calls::Calls;
use crate::measure::Servers;
use crate::native;

/// Envoy's cluster for the quota store.
const STORE_CLUSTER: &str = "store";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Configuration {
    NoFilter,
    /// The SDK's filter that does nothing, with every callback exported.
    EmptyAll,
    /// The same with those of headers alone.
    EmptyUsed,
    /// A filter that calls the host and does nothing else.
    Calls(Calls),
    /// One of the plugins with one policy.
    Alone(Policy),
    /// `usage-plan.wasm` with a quota that a store keeps.
    Stored,
    /// API keys without limits.
    KeysOnly,
    /// All policies in one plugin.
    Full,
    /// The same with a token in the query.
    FullQuery,
    /// The same with a limit that is spent.
    FullSpent,
    /// The plugins with one policy each, one behind another.
    InARow,
    JwtAuthn {
        cached: bool,
    },
    ApiKeyAuth,
    LocalRatelimit,
    NativeChain {
        cached: bool,
    },
    /// The native chain whose bucket is empty.
    NativeSpent,
    /// `jwt-authz.wasm` with a token in the query.
    JwtQuery,
    Lua,
    ExtAuthz,
    /// The full plugin with so many API keys.
    Keys(usize),
    Apis(usize),
    /// So many limits, all of which apply.
    Limits(usize),
    /// So many limits more, none of which applies.
    OtherLimits(usize),
}

impl Configuration {
    pub(crate) fn name(self) -> String {
        match self {
            Configuration::NoFilter => "no filter".to_owned(),
            Configuration::EmptyAll => "empty SDK filter, every callback".to_owned(),
            Configuration::EmptyUsed => "empty SDK filter, callbacks of headers".to_owned(),
            Configuration::Calls(calls) => calls.name(),
            Configuration::Alone(policy) => format!("`{}.wasm`", policy.name()),
            Configuration::Stored => "`usage-plan.wasm`, quota in a store".to_owned(),
            Configuration::KeysOnly => "`usage-plan.wasm`, API key only".to_owned(),
            Configuration::Full | Configuration::FullQuery => "**`tollgate.wasm`**".to_owned(),
            Configuration::FullSpent => "`tollgate.wasm`, limit spent".to_owned(),
            Configuration::InARow => "the six plugins in a row".to_owned(),
            Configuration::JwtAuthn { cached } => format!("jwt_authn{}", cache(cached)),
            Configuration::ApiKeyAuth => "api_key_auth".to_owned(),
            Configuration::LocalRatelimit => "local_ratelimit".to_owned(),
            Configuration::NativeChain { cached } => {
                format!(
                    "jwt_authn + api_key_auth + local_ratelimit{}",
                    cache(cached)
                )
            }
            Configuration::NativeSpent => "the same, limit spent".to_owned(),
            Configuration::JwtQuery => "`jwt-authz.wasm`".to_owned(),
            Configuration::Lua => "Lua, API key only".to_owned(),
            Configuration::ExtAuthz => "ext_authz over gRPC, API key only".to_owned(),
            Configuration::Keys(1) => "1 key".to_owned(),
            Configuration::Keys(keys) => format!("{keys} keys"),
            Configuration::Apis(apis) => format!("{apis} APIs"),
            Configuration::Limits(1) => "1 limit".to_owned(),
            Configuration::Limits(limits) => format!("{limits} limits"),
            Configuration::OtherLimits(limits) => format!("{limits} limits of another API"),
        }
    }

    fn filters(self) -> Vec<Value> {
        let full = |document| vec![wasm_filter("tollgate", plugin("tollgate"), document)];
        let alone =
            |policy: Policy| wasm_filter(policy.name(), plugin(policy.name()), policy.document());
        match self {
            Configuration::NoFilter => Vec::new(),
            Configuration::EmptyAll => {
                vec![wasm_filter("empty", test_plugin("empty"), json!({}))]
            }
            Configuration::EmptyUsed => vec![wasm_filter("empty", packaged("empty"), json!({}))],
            Configuration::Calls(calls) => {
                let document = calls.document().to_string();
                vec![
                    WasmFilter::new("calls", packaged("calls"))
                        .configuration_text(&document)
                        .into(),
                ]
            }
            Configuration::Alone(policy) => vec![alone(policy)],
            Configuration::Stored => vec![wasm_filter(
                "usage-plan",
                plugin("usage-plan"),
                document::stored(STORE_CLUSTER),
            )],
            Configuration::KeysOnly => vec![wasm_filter(
                "usage-plan",
                plugin("usage-plan"),
                document::keys_only(),
            )],
            Configuration::Full => full(document::full()),
            Configuration::FullQuery => full(by_query(document::full())),
            Configuration::FullSpent => full(document::full_spent()),
            Configuration::InARow => Policy::ALL.map(alone).to_vec(),
            Configuration::JwtAuthn { cached } => vec![native::jwt_authn(cached)],
            Configuration::ApiKeyAuth => vec![native::api_key_auth()],
            Configuration::LocalRatelimit => vec![native::local_ratelimit(false)],
            Configuration::NativeChain { cached } => vec![
                native::jwt_authn(cached),
                native::api_key_auth(),
                native::local_ratelimit(false),
            ],
            Configuration::NativeSpent => vec![
                native::jwt_authn(true),
                native::api_key_auth(),
                native::local_ratelimit(true),
            ],
            Configuration::JwtQuery => vec![wasm_filter(
                "jwt-authz",
                plugin("jwt-authz"),
                by_query(Policy::JwtAuthz.document()),
            )],
            Configuration::Lua => vec![native::lua()],
            Configuration::ExtAuthz => vec![native::ext_authz()],
            Configuration::Keys(keys) => full(document::with_keys(keys)),
            Configuration::Apis(apis) => full(document::with_apis(apis)),
            Configuration::Limits(limits) => full(document::with_limits(limits)),
            Configuration::OtherLimits(limits) => full(document::with_limits_of_others(limits)),
        }
    }

    /// Starts an Envoy with it. Nothing is logged of requests, so that nothing but the filters is
    /// added to what Envoy does.
    pub(crate) async fn start(self, servers: &Servers, workers: u32) -> Result<Envoy, String> {
        let to_upstream = json!({
            "match": { "prefix": "/" },
            "route": { "cluster": "upstream", "timeout": "60s" },
        });
        let builder = Envoy::builder()
            .concurrency(workers)
            .log_level("warn")
            .cluster(cluster("upstream", servers.upstream.address))
            .cluster(http2_cluster(
                native::EXT_AUTHZ_CLUSTER,
                servers.ext_authz.address,
            ))
            .route(to_upstream)
            .map_listener(|listener| listener.connection_manager(json!({ "access_log": [] })));
        let builder = self
            .filters()
            .into_iter()
            .fold(builder, EnvoyBuilder::filter);
        let builder = match &servers.store {
            Some(store) => builder.cluster(cluster(STORE_CLUSTER, store.address())),
            None => builder,
        };
        let started = builder.start().await;
        started.map_err(|error| format!("{}: {error}", self.name()))
    }
}

fn cache(cached: bool) -> &'static str {
    match cached {
        true => ", cache on",
        false => "",
    }
}

/// Reads the token from the query, where h2load can send another one each time.
fn by_query(mut document: Value) -> Value {
    document["jwt_authz"]["token"] = json!({ "query": "token" });
    document
}

/// A plugin for tests, packaged as those that are shipped are: `make bench` does that.
fn packaged(name: &str) -> PathBuf {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => folder.into(),
        None => repository().join("target"),
    };
    target.join(format!("bench/plugins/{name}.wasm"))
}
