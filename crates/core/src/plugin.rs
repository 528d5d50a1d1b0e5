//! What a plugin is: a file, and the policies in it.

use crate::chain::Policies;
use crate::policy::Policy;

/// A `.wasm` that holds a chain of policies.
pub trait Plugin {
    /// The name of the file, as `usage-plan.wasm`.
    const FILE: &'static str;

    /// The chain, with each policy as `W` has it. The plugin itself holds `Policies<Bare>`.
    type Policies<W: Wrap>: Policies;
}

/// What is put around each policy of a chain, by a tool that wants to look on.
pub trait Wrap {
    /// The policy with what is around it.
    type Of<P: Policy>: Policy;
}

/// Nothing is put around a policy.
pub enum Bare {}

impl Wrap for Bare {
    type Of<P: Policy> = P;
}
