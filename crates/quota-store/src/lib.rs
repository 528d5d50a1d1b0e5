//! What is said to a quota store on the wire, and what its answers mean.
//!
//! A quota store is an engine that keeps counters for all Envoys and survives their restarts. Two
//! languages are spoken: Redis over HTTP with one Lua script ([`redis`]), and Envoy's Rate Limit
//! Service protocol over gRPC ([`rls`]). Nothing here does I/O or knows the time: a batch becomes a
//! request, and an answer becomes a result for each member of the batch. No answer, whatever its
//! bytes, makes it panic; what can't be understood is a [`StoreError`].
//!
//! # The two languages differ
//!
//! | | Redis | Rate Limit Service |
//! |---|---|---|
//! | a report is | cumulative: all that this Envoy has used in the window | an increment |
//! | said twice, it counts | once | twice |
//! | a wish may be granted | in part | whole or not at all |
//! | what was granted can be given back | yes | no |
//! | largest number | [`MAX_COUNT`] | [`rls::MAX_COUNT`] |
//!
//! # What names a counter
//!
//! A [`CounterKey`]: a consumer, one of its quotas, one window of that quota. A consumer is named by
//! its [`ConsumerTag`], a digest, so that neither the store's keys nor its log hold anything that a
//! client has sent.

mod counter;
mod error;
pub mod redis;
pub mod rls;

pub use counter::{
    ConsumerTag, CounterKey, EnvoyId, Exchange, InvalidKeyPrefix, KeyPrefix, MAX_COUNT, Outcome,
    window_label,
};
pub use error::{RedisError, StoreError};
