//! Which policies each plugin holds, in the order in which a request is judged.
//!
//! The `.wasm` files are made of this by `filters/*`, and the command line runs the same chains
//! natively. Each plugin is behind a feature of its own name.

#[cfg(feature = "all")]
mod visit;

#[allow(unused_imports, reason = "without any feature there is no plugin")]
use tollgate_core::{
    chain,
    plugin::{Plugin, Wrap},
};
#[cfg(feature = "all")]
pub use visit::{FILES, Visitor, visit};

macro_rules! plugin {
    ($feature:literal, $name:ident: $($policy:ty),+ $(,)?) => {
        #[cfg(feature = $feature)]
        #[doc = concat!("`", $feature, ".wasm`")]
        pub enum $name {}

        #[cfg(feature = $feature)]
        impl Plugin for $name {
            const FILE: &'static str = concat!($feature, ".wasm");
            type Policies<W: Wrap> = chain!($(W::Of<$policy>),+);
        }
    };
}

plugin!("tollgate", Tollgate:
    tollgate_request_id::RequestId,
    tollgate_problem_details::ProblemDetails,
    tollgate_rate_limit::RateLimit,
    tollgate_jwt_authz::JwtAuthz,
    tollgate_usage_plan::UsagePlan,
    tollgate_access::Access,
    tollgate_sunset::Sunset,
);
plugin!("request-id", RequestId: tollgate_request_id::RequestId);
plugin!("rate-limit", RateLimit: tollgate_rate_limit::RateLimit);
plugin!("jwt-authz", JwtAuthz: tollgate_jwt_authz::JwtAuthz, tollgate_access::Access);
plugin!("usage-plan", UsagePlan: tollgate_usage_plan::UsagePlan, tollgate_access::Access);
plugin!("sunset", Sunset: tollgate_sunset::Sunset);
plugin!("problem-details", ProblemDetails: tollgate_problem_details::ProblemDetails);
