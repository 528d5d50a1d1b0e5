//! One quota, many Envoys, one store: how an Envoy decides locally, and when it has to ask.
//!
//! A quota of a consumer in one window is a counter that the store keeps. To ask it for every
//! request would be exact and slow. Here each Envoy keeps a [`Ledger`] of it, tells the store what it
//! has used, and asks only where the limit is near. All is pure: no I/O, no clock, and no allocation.
//! A ledger is a fixed number of bytes, which workers of an Envoy share by compare-and-swap.
//!
//! # The protocol
//!
//! An Envoy has one [`Request`] about a counter under way at a time. It says all there is to say: its
//! sequence number, what the Envoy has consumed since the window opened, and how much more it would
//! like to be granted. The store keeps, for each Envoy, the last sequence number and up to which the
//! Envoy may consume; and the total of the latter. It applies requests in their order and grants what
//! is free ([`model::Counter`], behind the feature `model`, is the reference). So the total counts
//! every grant; usage that was not granted before is booked when it is told, over the limit too; a
//! request or reply that is lost is made good by the next; one that is late or repeated changes
//! nothing.
//!
//! The id of an Envoy must be new whenever it may have lost its ledgers, as when it restarts.
//!
//! # Deciding
//!
//! [`Ledger::decide`] admits a request that a grant covers. In [`Mode::Adaptive`] it admits others
//! too, to be booked afterwards, while the limit is **far**; below is what that means. Where the
//! store's last word leaves no room for the request, it refuses, and peeks now and then. Otherwise
//! the store is asked, for what the waiting requests need and for a lease: a grant ahead of requests,
//! of about what was used in twice the report interval. Leases become smaller towards the end of the
//! limit, and what is not needed is given back.
//!
//! ```
//! # use std::num::NonZeroU32;
//! # use tollgate_quota_ledger::{Decision, Ledger, Mode, RateBound, Reply, Settings, Terms};
//! const SECOND: u64 = 1_000_000_000;
//! let terms = Terms::new(Settings {
//!     limit: 100,
//!     mode: Mode::Strict,
//!     envoys: NonZeroU32::new(3).unwrap(),
//!     rate: Some(RateBound::per_second(10)),
//!     report_interval_ns: SECOND,
//!     stale_ns: SECOND,
//!     skew_ns: SECOND / 2,
//!     peek_interval_ns: 2 * SECOND,
//!     takes_back: true,
//! });
//! let now = 1_700_000_000 * SECOND;
//! let mut ledger = Ledger::new(now);
//! assert_eq!(ledger.decide(&terms, 1, now), Decision::Ask);
//! let request = ledger.begin(&terms, 1, now, SECOND).unwrap();
//! let reply = Reply { seq: request.seq, previous: 0, upto: 1, total: 73 };
//! ledger.settle(&terms, reply, now, 0);
//! assert_eq!(ledger.decide(&terms, 1, now), Decision::Admit);
//! ledger.consume(1, now);
//! assert_eq!(ledger.remaining(&terms), 27);
//! ```
//!
//! # Driving it
//!
//! - For a request: [`decide`](Ledger::decide), for each of its quotas. If all admit,
//!   [`consume`](Ledger::consume). If one asks, [`begin`](Ledger::begin), store the ledger, and only
//!   then send; let the request wait. A peek is begun for no one.
//! - When the reply is here: [`settle`](Ledger::settle). When there will be none, or its deadline has
//!   passed: [`fail`](Ledger::fail). Then decide about the waiting requests again; if they would have
//!   to ask once more after a failure, or a [`Breaker`] is open, [`Ledger::decides_alone`].
//! - Now and then, for ledgers that were used: [`due`](Ledger::due) says whether to begin an exchange
//!   that no request waits for. Many of them can go in one message.
//! - When a window is over: the same, with the ledger of that window, until
//!   [`is_settled`](Ledger::is_settled).
//!
//! # What holds
//!
//! **Strict.** If the store loses nothing, what all Envoys together admit never exceeds the limit,
//! whatever is lost, late or repeated, whoever crashes, and whatever the clocks say. An Envoy admits
//! up to what it was granted; what a request may give back it does not use from when that is begun.
//! So what it holds to be granted is never more than what the store has booked for it, and the store
//! books no more than the limit. An Envoy that crashes takes its lease with it.
//!
//! **Adaptive.** Let `N` be the number of Envoys, `rate` and `burst` what one lets through of the
//! consumer ([`RateBound`]), `T` the report interval (while an Envoy has less than `G` to report, up
//! to 30 s, and to a 256th of the time in which all Envoys could use up the limit), and
//! `H = T + stale`, for the longest `T`. With the store's
//! word of `age` ago, a limit is far if
//!
//! ```text
//! others booked + own consumed, this request included + S(age) <= limit
//! S(age) = (N - 1) · (burst + rate · (2H + age + skew) + G)
//! ```
//!
//! where `G = max(burst, rate · T)` is the largest lease; and if the Envoy's oldest usage that is not
//! booked is no older than `H`. *Then nothing is admitted over the limit, as long as usage is booked
//! within `H` of its admission and no clock steps by more than `skew`.*
//!
//! *Proof.* Let `V` be the sum over the Envoys of what is booked for them or was admitted by them,
//! whichever is more; what was admitted is never more than `V`. Usage that is granted and the booking
//! of usage do not change `V`. In any time `t`, one Envoy adds to it at most what it lets through
//! and a lease: `burst + rate · t + G`. Assume that `V` exceeds the limit, and look at the moment at
//! which it does first.
//!
//! - It was usage without a grant. What this Envoy knew of the others lacks what they admitted up to
//!   `H` before the store's word, what they added since, and nothing else: at most `S(age)`.
//!   So `V` is within the limit.
//! - It was a grant. The store's total is within the limit then, so some other Envoy `e` has usage
//!   that is not booked; what it admitted last of it, it admitted at most `H` ago. It found the limit
//!   far: there was room for `S`, which covers what the others had not told then and what they have
//!   added since, this grant included. `e` itself has been granted nothing since, else its usage
//!   would be booked. So `V` is within the limit. ∎
//!
//! When the window opens, nothing has been used: this is the store's word of that time, so no Envoy
//! has to ask first while the limit is far. But this run of an Envoy may be younger than the window,
//! and another one have had its place, so that `S` is taken for `N` Envoys until the store has
//! answered; and without a rate bound it is asked first, also by an Envoy that is alone.
//!
//! **An Envoy that is cut off from the store** for longer than `H`, or crashes, stops to use what is
//! not granted, but what it has used then and not told, `burst + rate · H` at most, the others may be
//! granted again. So the excess is at most that much for each such Envoy. Strict mode has none.
//! [`Outage::Allow`] and [`Outage::Safe`] add what they say.
//!
//! **Without a rate bound**, what others use unseen is guessed: twice as fast as the total has grown
//! of late. That is not proven, and a faster surge goes over.
//!
//! **Booking.** Once every Envoy that lives has told what it used, the total is at least what they
//! have admitted, and exactly that if none has a lease left. A store that has lost its data is told
//! all again, by each Envoy in its next exchange ([`Settled::WentBack`]).

mod breaker;
mod bytes;
mod exchange;
mod ledger;
#[cfg(any(test, doc, feature = "model"))]
pub mod model;
mod slope;
mod terms;

pub use breaker::{Breaker, Circuit};
pub use bytes::LEDGER_SIZE;
pub use exchange::{Due, MAX_SEQ, Reply, Request, Settled};
pub use ledger::{Decision, Ledger, Outage, Window};
pub use terms::{Mode, RateBound, Settings, Terms};
#[cfg(test)]
mod tests;
