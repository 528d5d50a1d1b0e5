//! What one request costs a plugin, beside what Envoy does for it.
//!
//! The plugins' own code runs here as a native program: the SDK's dispatcher, `tollgate-host` and
//! the policies, over a host that is written for measuring. It defines the functions that a plugin
//! imports, counts each call, and allocates nothing while a request is under way. So what is counted
//! is what the plugin does, every time the same.
//!
//! The instructions are those of this machine and not of WebAssembly; how many there are of one
//! thing in proportion to another, and whether there are more than yesterday, is what they are for.

pub mod allocations;
pub mod cost;
pub mod docs;
pub mod document;
pub mod held;
mod host;
mod plugin;
pub mod scenario;

pub use host::Calls;
pub use plugin::{Answer, Plugin, Request};
