//! The one crate that talks to Envoy: [`tollgate_core::host::Host`] over proxy-wasm, and the
//! [`plugin!`] macro that makes a `.wasm` of a chain of policies.
//!
//! The SDK's own host calls panic on any status they do not expect, on header values that are not
//! UTF-8 and on maps that are absent, and a panic ends the filter on its worker. So the calls are
//! declared anew in `abi`, where every status is a value; of the SDK only the dispatcher is used.

mod abi;
mod host;
mod plugin;
mod signature;

pub use plugin::register;

/// What [`plugin!`] expands to needs these names.
#[doc(hidden)]
pub mod internal {
    pub use proxy_wasm;
    pub use tollgate_core::chain;
    pub use tollgate_core::chain::Policies;
    pub use tollgate_core::plugin::{Bare, Plugin};
}

/// Makes the crate a proxy-wasm plugin: `tollgate_host::plugin!(tollgate_plugins::UsagePlan);`, or
/// one that holds the given policies, in this order:
/// `tollgate_host::plugin!("usage-plan.wasm": UsagePlan, Access);`. Use it in a leaf crate of type
/// `cdylib`, once: the entry points it defines have fixed names.
#[macro_export]
macro_rules! plugin {
    ($name:literal: $($policy:ty),+ $(,)?) => {
        $crate::plugin!(@ $name, $crate::internal::chain!($($policy),+));
    };
    ($plugin:path) => {
        $crate::plugin!(
            @ <$plugin as $crate::internal::Plugin>::FILE,
            <$plugin as $crate::internal::Plugin>::Policies<$crate::internal::Bare>
        );
    };
    (@ $name:expr, $policies:ty) => {
        type Policies = $policies;

        #[allow(missing_docs, reason = "the SDK's macro defines the entry point without any")]
        mod entry_point {
            $crate::internal::proxy_wasm::main! {{
                $crate::register::<super::Policies>($name);
            }}
        }

        /// The callbacks that the plugin needs; packaging drops the exports of all others.
        #[used]
        #[unsafe(link_section = "tollgate.callbacks")]
        static CALLBACKS: [u8; 256] =
            <Policies as $crate::internal::Policies>::CALLBACKS.declaration::<256>();
    };
}
