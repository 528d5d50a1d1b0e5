//! Usage plans, and a policy that panics on request: what happens to usage when a VM dies can be
//! tested only with a plugin that dies.

use deserr::Deserr;
use tollgate_core::config::{ConfigErrors, Rejected};
use tollgate_core::host::Host;
use tollgate_core::policy::{Callbacks, Compile, Exchange, Policy, Step, StepResult};

/// Panics when a request has the header `x-trap`.
struct Trap;

/// The section has nothing to say.
#[derive(Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct TrapConfig {}

impl Policy for Trap {
    const SECTION: &'static str = "trap";
    const CALLBACKS: Callbacks = Callbacks::REQUEST_HEADERS;
    type Section = TrapConfig;
    type Stream = ();

    fn compile(TrapConfig {}: TrapConfig, _cx: &mut Compile<'_>) -> Result<Self, Rejected> {
        Ok(Trap)
    }

    #[allow(clippy::panic, reason = "it is what this policy is for")]
    fn step<H: Host>(&self, step: Step, (): &mut (), x: &mut Exchange<'_, H>) -> StepResult {
        if step == Step::Identify && x.request.get("x-trap").is_some() {
            panic!("asked to");
        }
        Ok(())
    }
}

tollgate_host::plugin!("trap.wasm":
    Trap,
    tollgate_rate_limit::RateLimit,
    tollgate_usage_plan::UsagePlan,
    tollgate_access::Access,
);
