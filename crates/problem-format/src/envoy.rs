//! What Envoy's own answers mean, by their response code details.

use tollgate_core::problem::{CREDENTIALS_MISSING, GATEWAY_FAULT, Kind};

use crate::kinds::{
    ACCESS_DENIED, CREDENTIALS_INVALID, GATEWAY_ERROR, GATEWAY_OVERLOADED,
    HTTP_VERSION_UNSUPPORTED, NO_ROUTE, REQUEST_HEADERS_TOO_LARGE, REQUEST_MALFORMED,
    REQUEST_REFUSED, REQUEST_TIMEOUT, REQUEST_TOO_LARGE, TOO_MANY_REQUESTS, UPGRADE_REFUSED,
    UPSTREAM_OVERLOADED, UPSTREAM_RESET, UPSTREAM_RESPONSE_INVALID, UPSTREAM_TIMEOUT,
    UPSTREAM_UNAVAILABLE, UPSTREAM_UNKNOWN,
};

/// An answer that Envoy gave itself, in words for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvoyReply {
    /// The sort of refusal or failure. The answer's status may be another than the kind's.
    pub kind: &'static Kind,
    /// A sentence that tells no internals.
    pub detail: &'static str,
    /// Whether the body, if there is one, may say more than this does: the operator's configuration
    /// or a service chose it, or it is of a filter that is not known here.
    pub is_authored: bool,
    /// How to send the credentials that are asked for (RFC 9110 section 11.6.1), where Envoy does not
    /// say it and their scheme is known.
    pub challenge: Option<&'static str>,
}

/// Reads `%RESPONSE_CODE_DETAILS%` of an answer with this status.
///
/// The names are those of Envoy 1.40 (`envoy/stream_info/stream_info.h`, and its filters'), which
/// does not promise to keep them: for others, the status decides. `None` if the answer is no error
/// of Envoy's: the upstream's, one of the gateway's own, or one with a status below 400.
pub fn from_details(status: u16, details: &str) -> Option<EnvoyReply> {
    let (name, reason) = split(details);
    if status < 400 || matches!(name, "via_upstream" | "tollgate") {
        return None;
    }
    let found = of_filter(status, name, reason)
        .or_else(|| of_router(status, name, reason))
        .or_else(|| of_connection_manager(status, name));
    let is_chosen = matches!(name, "request_rate_limited" | "rate_limited_by_quota");
    let (kind, detail) = found.unwrap_or_else(|| of_status(status));
    Some(EnvoyReply {
        kind,
        detail,
        is_authored: is_chosen || found.is_none(),
        challenge: challenge(name).filter(|_| status == 401),
    })
}

/// Reads the details of an answer to a gRPC call, whose HTTP status is 200 and whose error is this
/// gRPC status code.
///
/// Envoy has made the code of the status that another client would have got, so that is inferred as
/// far as it matters. `None` as for [`from_details`].
pub fn from_call_details(code: i32, details: &str) -> Option<EnvoyReply> {
    let (name, _) = split(details);
    let was_late = name.contains("timeout") || name.contains("duration");
    let status = match code {
        7 => 403,
        8 => 429,
        12 => 404,
        13 => 400,
        4 | 14 if was_late => 504,
        14 => 503,
        16 => 401,
        // Envoy says UNKNOWN of all other statuses, 408 among them.
        _ if was_late => 408,
        _ => 500,
    };
    from_details(status, details)
}

/// Filters for tokens and passwords send a challenge, the one for API keys does not. Its scheme is
/// ours for API keys, since none is registered.
fn challenge(name: &str) -> Option<&'static str> {
    matches!(name, "missing_api_key" | "unknown_api_key").then_some("ApiKey realm=\"api\"")
}

type Meaning = (&'static Kind, &'static str);

/// The name, and what is in braces or brackets behind it: `jwt_authn_access_denied{Jwt_is_missing}`.
fn split(details: &str) -> (&str, &str) {
    let details = details.trim();
    match details.split_once(['{', '[', '(']) {
        Some((name, reason)) => (name, reason.trim_end_matches(['}', ']', ')'])),
        None => (details, ""),
    }
}

/// The filters that guard the upstream.
fn of_filter(status: u16, name: &str, reason: &str) -> Option<Meaning> {
    let meaning = match name {
        "jwt_authn_access_denied" if reason == "Jwt_is_missing" || reason == "Jwt is missing" => {
            MISSING
        }
        "missing_api_key" | "no_credential_for_basic_auth" => MISSING,
        "jwt_authn_access_denied"
        | "unknown_api_key"
        | "invalid_credential_for_basic_auth"
        | "invalid_format_for_basic_auth"
        | "invalid_scheme_for_basic_auth"
            if status == 401 =>
        {
            INVALID
        }
        "jwt_authn_access_denied"
        | "client_not_allowed"
        | "csrf_origin_mismatch"
        | "rejecting_because_detection_failed" => DENIED,
        // The name of the rule that matched may follow.
        name if name.starts_with("rbac_access_denied") => DENIED,
        "local_rate_limited" | "request_rate_limited" | "rate_limited_by_quota" => TOO_MANY,
        "fault_filter_abort" => of_status(status),
        "denied_by_admission_control" | "reached_concurrency_limit" => SHED,
        "rate_limiter_error"
        | "ext_authz_error"
        | "ext_authz_invalid"
        | "ext_proc_error"
        | "ext_proc_grpc_error"
        | "ext_proc_message_timeout"
        | "ext_proc_stream_error"
        | "filter_added_invalid_request_data"
        | "filter_added_invalid_response_data"
        | "filter_removed_required_request_headers"
        | "filter_removed_required_response_headers"
        | "dynamic_module_filter_init_failed"
        | "wasm_fail_stream" => FAULT,
        _ => return None,
    };
    Some(meaning)
}

/// The router and what it finds upstream.
fn of_router(status: u16, name: &str, reason: &str) -> Option<Meaning> {
    let meaning = match name {
        "route_not_found" | "route_configuration_not_found" | "filter_chain_not_found" => {
            (&NO_ROUTE, "There is nothing at this host and path.")
        }
        "cluster_not_found" | "no_cluster" => (
            &UPSTREAM_UNKNOWN,
            "The gateway does not know the service behind this path.",
        ),
        "no_healthy_upstream" | "maintenance_mode" | "dns_resolution_failure" => UNAVAILABLE,
        "sub_cluster_warming_timeout" => UNAVAILABLE,
        "sub_cluster_overflow" | "dns_cache_overflow" | "dns_cache_pending_requests_overflow" => {
            SPARED
        }
        "drop_overload" | "unconditional_drop_overload" => SPARED,
        "upstream_reset_before_response_started" | "upstream_reset_after_response_started" => {
            of_reset(reason)
        }
        "response_timeout"
        | "upstream_response_timeout"
        | "upstream_per_try_timeout"
        | "upstream_per_try_idle_timeout"
        | "upstream_max_stream_duration_reached" => SLOW,
        // Its status tells whose silence it was.
        "stream_idle_timeout" | "max_duration_timeout" | "duration_timeout" if status == 504 => {
            SLOW
        }
        "response_payload_too_large" => (
            &UPSTREAM_RESPONSE_INVALID,
            "The answer of the service is too large.",
        ),
        "websocket_handshake_unsuccessful" => (
            &UPSTREAM_RESPONSE_INVALID,
            "The service did not accept the upgrade of the connection.",
        ),
        _ => return None,
    };
    Some(meaning)
}

/// Why a stream to the upstream ended, up to the transport's own words behind a bar. In Envoy's
/// texts blanks may have become underscores.
fn of_reset(reason: &str) -> Meaning {
    let cause = reason.split('|').next().unwrap_or_default();
    let cause = cause.replace(' ', "_").to_ascii_lowercase();
    match cause.as_str() {
        "overflow" => SPARED,
        "overload_manager_reset" => SHED,
        "protocol_error" => (
            &UPSTREAM_RESPONSE_INVALID,
            "The answer of the service can't be understood.",
        ),
        cause if cause.contains("connection_failure") || cause.contains("connection_timeout") => {
            UNAVAILABLE
        }
        _ => (&UPSTREAM_RESET, "The service broke off before it answered."),
    }
}

/// What Envoy refuses before it looks for a route, or at any time.
fn of_connection_manager(status: u16, name: &str) -> Option<Meaning> {
    let meaning = match name {
        "absolute_path_rejected"
        | "invalid_path"
        | "missing_host_header"
        | "missing_path_rejected"
        | "path_normalization_failed"
        | "request_headers_failed_strict_check"
        | "invalid_cdn_loop_header" => MALFORMED,
        "low_version" => (
            &HTTP_VERSION_UNSUPPORTED,
            "This version of HTTP is not supported.",
        ),
        "upgrade_failed" => (&UPGRADE_REFUSED, "The connection can't be upgraded here."),
        "request_payload_too_large" | "request_payload_exceeded_retry_buffer_limit" => TOO_LARGE,
        "request_header_timeout"
        | "request_overall_timeout"
        | "downstream_header_timeout"
        | "stream_idle_timeout"
        | "max_duration_timeout"
        | "duration_timeout" => LATE,
        "overload" => SHED,
        _ if status < 500 && is_of_codec(name) => match name.rsplit('.').next() {
            Some(
                "headers_too_large"
                | "too_many_headers"
                | "header_list_size_too_large"
                | "cookies_total_bytes_too_large"
                | "too_many_trailers",
            ) => HEADERS_TOO_LARGE,
            _ => MALFORMED,
        },
        _ => return None,
    };
    Some(meaning)
}

fn is_of_codec(name: &str) -> bool {
    ["http1.", "http2.", "http3.", "uhv."]
        .iter()
        .any(|codec| name.starts_with(codec))
}

fn of_status(status: u16) -> Meaning {
    match status {
        400 => MALFORMED,
        401 => INVALID,
        403 => DENIED,
        408 => LATE,
        413 => TOO_LARGE,
        429 => TOO_MANY,
        431 => HEADERS_TOO_LARGE,
        502 => (
            &UPSTREAM_RESPONSE_INVALID,
            "The answer of the service can't be understood.",
        ),
        503 => UNAVAILABLE,
        504 => SLOW,
        status if status < 500 => (&REQUEST_REFUSED, "The gateway refused the request."),
        _ => (&GATEWAY_ERROR, "The gateway could not handle the request."),
    }
}

const MISSING: Meaning = (
    &CREDENTIALS_MISSING,
    "This API needs credentials, and none were sent.",
);
const INVALID: Meaning = (&CREDENTIALS_INVALID, "The credentials are not valid.");
const DENIED: Meaning = (&ACCESS_DENIED, "Access is denied.");
const TOO_MANY: Meaning = (&TOO_MANY_REQUESTS, "Requests come faster than allowed.");
const MALFORMED: Meaning = (&REQUEST_MALFORMED, "The request is not valid HTTP.");
const LATE: Meaning = (&REQUEST_TIMEOUT, "The request did not arrive in time.");
const TOO_LARGE: Meaning = (&REQUEST_TOO_LARGE, "The body of the request is too large.");
const HEADERS_TOO_LARGE: Meaning = (
    &REQUEST_HEADERS_TOO_LARGE,
    "The headers of the request are too many or too large.",
);
const UNAVAILABLE: Meaning = (
    &UPSTREAM_UNAVAILABLE,
    "The service can't be reached at the moment.",
);
const SPARED: Meaning = (
    &UPSTREAM_OVERLOADED,
    "The service has too much to do at the moment.",
);
const SHED: Meaning = (
    &GATEWAY_OVERLOADED,
    "The gateway has too much to do at the moment.",
);
const SLOW: Meaning = (&UPSTREAM_TIMEOUT, "The service did not answer in time.");
const FAULT: Meaning = (&GATEWAY_FAULT, "The gateway could not judge the request.");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn details_have_their_kind() {
        for (status, details, expected) in [
            (404, "route_not_found", "no-route"),
            (404, "route_configuration_not_found", "no-route"),
            (503, "cluster_not_found", "upstream-unknown"),
            (503, "no_healthy_upstream", "upstream-unavailable"),
            (503, "maintenance_mode", "upstream-unavailable"),
            (
                503,
                "upstream_reset_before_response_started{connection_failure}",
                "upstream-unavailable",
            ),
            (
                503,
                "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}",
                "upstream-unavailable",
            ),
            (
                503,
                "upstream_reset_before_response_started{connection timeout}",
                "upstream-unavailable",
            ),
            (
                503,
                "upstream_reset_before_response_started{connection_termination}",
                "upstream-reset",
            ),
            (
                503,
                "upstream_reset_before_response_started{remote_reset}",
                "upstream-reset",
            ),
            (
                503,
                "upstream_reset_before_response_started{overflow}",
                "upstream-overloaded",
            ),
            (
                502,
                "upstream_reset_before_response_started{protocol_error}",
                "upstream-response-invalid",
            ),
            (503, "dns_resolution_failure{a|b}", "upstream-unavailable"),
            (504, "response_timeout", "upstream-timeout"),
            (504, "upstream_response_timeout", "upstream-timeout"),
            (504, "upstream_per_try_timeout", "upstream-timeout"),
            (504, "stream_idle_timeout", "upstream-timeout"),
            (408, "stream_idle_timeout", "request-timeout"),
            (408, "request_overall_timeout", "request-timeout"),
            (408, "max_duration_timeout", "request-timeout"),
            (504, "max_duration_timeout", "upstream-timeout"),
            (403, "upgrade_failed", "upgrade-refused"),
            (426, "low_version", "http-version-unsupported"),
            (413, "request_payload_too_large", "request-too-large"),
            (
                507,
                "request_payload_exceeded_retry_buffer_limit",
                "request-too-large",
            ),
            (431, "http1.headers_too_large", "request-headers-too-large"),
            (431, "http2.too_many_headers", "request-headers-too-large"),
            (400, "http1.codec_error", "request-malformed"),
            (400, "missing_host_header", "request-malformed"),
            (
                401,
                "jwt_authn_access_denied{Jwt_is_missing}",
                "credentials-missing",
            ),
            (
                401,
                "jwt_authn_access_denied{Jwt_is_expired}",
                "credentials-invalid",
            ),
            (
                403,
                "jwt_authn_access_denied{Audiences_in_Jwt_are_not_allowed}",
                "access-denied",
            ),
            (401, "missing_api_key", "credentials-missing"),
            (401, "unknown_api_key", "credentials-invalid"),
            (403, "client_not_allowed", "access-denied"),
            (401, "no_credential_for_basic_auth", "credentials-missing"),
            (
                403,
                "rbac_access_denied_matched_policy[ns[a]-policy]",
                "access-denied",
            ),
            (
                403,
                "rbac_access_denied_matched_policy[none]",
                "access-denied",
            ),
            (429, "local_rate_limited", "too-many-requests"),
            (429, "request_rate_limited", "too-many-requests"),
            (503, "denied_by_admission_control", "gateway-overloaded"),
            (503, "reached_concurrency_limit", "gateway-overloaded"),
            (503, "overload", "gateway-overloaded"),
            (500, "rate_limiter_error", "gateway-fault"),
            (403, "ext_authz_error", "gateway-fault"),
            (503, "wasm_fail_stream", "gateway-fault"),
            (403, "ext_authz_denied", "access-denied"),
            (
                500,
                "response_payload_too_large",
                "upstream-response-invalid",
            ),
        ] {
            let found = from_details(status, details).unwrap();
            assert_eq!(found.kind.name, expected, "{status} {details}");
        }
    }

    #[test]
    fn details_of_calls_have_the_kind_that_others_would_get() {
        for (code, details, expected) in [
            (12, "route_not_found", "no-route"),
            (14, "cluster_not_found", "upstream-unknown"),
            (14, "no_healthy_upstream", "upstream-unavailable"),
            (
                14,
                "upstream_reset_before_response_started{remote_reset}",
                "upstream-reset",
            ),
            (14, "response_timeout", "upstream-timeout"),
            (14, "stream_idle_timeout", "upstream-timeout"),
            (2, "stream_idle_timeout", "request-timeout"),
            (2, "request_payload_too_large", "request-too-large"),
            (14, "local_rate_limited", "too-many-requests"),
            (8, "local_rate_limited", "too-many-requests"),
            (
                16,
                "jwt_authn_access_denied{Jwt_is_missing}",
                "credentials-missing",
            ),
            (
                16,
                "jwt_authn_access_denied{Jwt_is_expired}",
                "credentials-invalid",
            ),
            (
                7,
                "rbac_access_denied_matched_policy[none]",
                "access-denied",
            ),
            (13, "http2.something_new", "request-malformed"),
            (2, "something_new", "gateway-error"),
        ] {
            let found = from_call_details(code, details).unwrap();
            assert_eq!(found.kind.name, expected, "{code} {details}");
        }
        assert_eq!(from_call_details(14, "via_upstream"), None);
        assert_eq!(from_call_details(14, "tollgate{throttled}"), None);
    }

    #[test]
    fn what_is_not_envoys_own_error_is_left_alone() {
        assert_eq!(from_details(503, "via_upstream"), None);
        assert_eq!(from_details(429, "tollgate{throttled}"), None);
        assert_eq!(from_details(301, "direct_response"), None);
        assert_eq!(from_details(200, "cors_response"), None);
    }

    #[test]
    fn what_somebody_wrote_is_told() {
        for (details, expected) in [
            ("direct_response", true),
            ("ext_authz_denied", true),
            ("lua_response", true),
            ("request_rate_limited", true),
            ("mcp_not_jsonrpc", true),
            ("", true),
            ("fault_filter_abort", false),
            ("local_rate_limited", false),
            ("route_not_found", false),
            ("jwt_authn_access_denied{Jwt_is_missing}", false),
        ] {
            let found = from_details(403, details).unwrap();
            assert_eq!(found.is_authored, expected, "{details}");
        }
    }

    #[test]
    fn details_that_nobody_knows_go_by_the_status() {
        for (status, expected) in [
            (400, "request-malformed"),
            (401, "credentials-invalid"),
            (403, "access-denied"),
            (404, "request-refused"),
            (429, "too-many-requests"),
            (500, "gateway-error"),
            (501, "gateway-error"),
            (502, "upstream-response-invalid"),
            (503, "upstream-unavailable"),
            (504, "upstream-timeout"),
        ] {
            for details in ["", "something_new{at_all}"] {
                let found = from_details(status, details).unwrap();
                assert_eq!(found.kind.name, expected, "{status} {details}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_error_of_envoys_has_a_kind_that_is_listed(
            status in 400_u16..600,
            details in "[a-z_]{0,12}[\\[{(]?.{0,12}",
        ) {
            let found = from_details(status, &details).unwrap();
            let others = [&CREDENTIALS_MISSING, &GATEWAY_FAULT];
            prop_assert!(crate::kinds::KINDS.iter().chain(&others).any(|kind| *kind == found.kind));
            prop_assert!(found.detail.ends_with('.'));
        }
    }
}
