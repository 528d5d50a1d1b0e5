//! The vocabulary every Tollgate policy speaks. Nothing here does I/O or knows a host: time,
//! randomness and state are passed in.

pub mod accept;
pub mod apis;
mod callbacks;
pub mod chain;
pub mod config;
pub mod credentials;
mod document;
pub mod endpoint;
mod exchange;
pub mod headers;
pub mod host;
pub mod limit_headers;
pub mod lookup;
pub mod name;
pub mod name_list;
pub mod network;
pub mod order;
pub mod places;
pub mod plugin;
pub mod policy;
pub mod problem;
mod response;
pub mod shared;
pub mod syntax;
pub mod target;
pub mod telemetry;
pub mod text;
pub mod time;
pub mod token;
pub mod units;
