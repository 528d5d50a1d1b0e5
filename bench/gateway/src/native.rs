//! Envoy's own filters, as they would do the same job.

use serde_json::{Value, json};
use tollgate_instructions::document::{API_KEY, AUDIENCE, ISSUER, jwks};

/// `jwt_authn` with an issuer whose keys are in the configuration.
pub(crate) fn jwt_authn(cached: bool) -> Value {
    let mut provider = json!({
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "local_jwks": { "inline_string": jwks().to_string() },
        "from_headers": [{ "name": "authorization", "value_prefix": "Bearer " }],
        "from_params": ["token"],
        "claim_to_headers": [{ "header_name": "x-subject", "claim_name": "sub" }],
    });
    if cached {
        provider["jwt_cache_config"] = json!({ "jwt_cache_size": 1000 });
    }
    filter(
        "envoy.filters.http.jwt_authn",
        "jwt_authn.v3.JwtAuthentication",
        json!({
            "providers": { "idp": provider },
            "rules": [{
                "match": { "prefix": "/" },
                "requires": { "provider_name": "idp" },
            }],
        }),
    )
}

/// `api_key_auth` with the key of one client.
pub(crate) fn api_key_auth() -> Value {
    filter(
        "envoy.filters.http.api_key_auth",
        "api_key_auth.v3.ApiKeyAuth",
        json!({
            "credentials": [{ "key": API_KEY, "client": "acme" }],
            "key_sources": [{ "header": "x-api-key" }],
            "forwarding": { "header": "x-consumer-id", "hide_credentials": true },
        }),
    )
}

/// `local_ratelimit` with a bucket that is never empty, or always.
pub(crate) fn local_ratelimit(spent: bool) -> Value {
    let all = json!({ "default_value": { "numerator": 100, "denominator": "HUNDRED" } });
    let bucket = match spent {
        true => json!({ "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "3600s" }),
        false => json!({
            "max_tokens": 1_000_000_000,
            "tokens_per_fill": 1_000_000_000,
            "fill_interval": "1s",
        }),
    };
    filter(
        "envoy.filters.http.local_ratelimit",
        "local_ratelimit.v3.LocalRateLimit",
        json!({
            "stat_prefix": "limit",
            "token_bucket": bucket,
            "filter_enabled": all,
            "filter_enforced": all,
        }),
    )
}

/// A lookup of the API key in Lua, which tells the upstream what our plugin tells it.
pub(crate) fn lua() -> Value {
    let script = format!(
        r#"local consumers = {{ ["{API_KEY}"] = {{ id = "acme", plan = "gold" }} }}
function envoy_on_request(handle)
  local headers = handle:headers()
  local consumer = consumers[headers:get("x-api-key")]
  if consumer == nil then
    handle:respond({{ [":status"] = "401" }}, "unknown key")
    return
  end
  headers:remove("x-api-key")
  headers:replace("x-consumer-id", consumer.id)
  headers:replace("x-consumer-plan", consumer.plan)
end"#
    );
    filter(
        "envoy.filters.http.lua",
        "lua.v3.Lua",
        json!({ "default_source_code": { "inline_string": script } }),
    )
}

/// The name of the cluster of the authorisation service.
pub(crate) const EXT_AUTHZ_CLUSTER: &str = "ext-authz";

/// The API key checked by a service over gRPC.
pub(crate) fn ext_authz() -> Value {
    filter(
        "envoy.filters.http.ext_authz",
        "ext_authz.v3.ExtAuthz",
        json!({
            "transport_api_version": "V3",
            "grpc_service": {
                "envoy_grpc": { "cluster_name": EXT_AUTHZ_CLUSTER },
                "timeout": "5s",
            },
        }),
    )
}

fn filter(name: &str, kind: &str, mut configuration: Value) -> Value {
    configuration["@type"] = json!(format!(
        "type.googleapis.com/envoy.extensions.filters.http.{kind}"
    ));
    json!({ "name": name, "typed_config": configuration })
}
