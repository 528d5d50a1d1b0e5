//! Talking to the store: one request at a time, each with all there is to say, so that none is
//! missed when it is lost, and none counts twice when it is repeated.

use crate::ledger::Ledger;
use crate::slope::Slope;
use crate::terms::Terms;

/// What an Envoy tells the store of one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Higher in each request of an Envoy about a counter; from 1 to [`MAX_SEQ`].
    pub seq: u64,
    /// What the Envoy has admitted in the window so far.
    pub consumed: u64,
    /// Up to how much more it would like to admit. What it was granted beyond that is given back.
    pub want: u64,
    /// The units of the window.
    pub limit: u64,
}

/// What the store says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The Envoy's last request that the store has applied: the one that is answered, unless that
    /// came late.
    pub seq: u64,
    /// The one before it that the store knew of, 0 if none; `seq` itself if nothing was applied.
    pub previous: u64,
    /// Up to which the Envoy may admit.
    pub upto: u64,
    /// What all Envoys have been granted.
    pub total: u64,
}

/// The highest sequence number: 2^53 − 1, which a double holds, as in the scripts of Redis.
pub const MAX_SEQ: u64 = (1 << 53) - 1;

/// What a reply was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The one that was awaited.
    Done,
    /// That too, from a store that has forgotten some of what it had booked. What this Envoy has
    /// used is booked again by now; what it knew of others is still held against the limit.
    WentBack,
    /// One that was answered already, or overtaken: nothing has changed.
    Late,
    /// One for requests that this ledger has not begun: its Envoy has lost a ledger and kept its id,
    /// or two Envoys share an id. What the store had booked is taken over; what the lost ledger had
    /// not reported is lost.
    Forgotten,
}

/// Why an exchange should be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Usage is to be booked.
    Report,
    /// The last request has not been answered.
    Retry,
    /// A lease runs low.
    Refill,
    /// A lease has not been needed.
    Release,
}

impl Ledger {
    /// Begins an exchange whose reply is awaited for `deadline_ns`. `waiting` are the units of
    /// requests that wait for it. `None` if one is in flight.
    ///
    /// The ledger has changed and must be stored before the request is sent.
    pub fn begin(
        &mut self,
        terms: &Terms,
        waiting: u64,
        now: u64,
        deadline_ns: u64,
    ) -> Option<Request> {
        if self.is_in_flight(now) || self.seq >= MAX_SEQ {
            return None;
        }
        let want = waiting
            .saturating_add(self.lease(terms, now))
            .min(terms.largest_lease())
            .max(self.kept(terms));
        self.seq = self.seq.saturating_add(1);
        self.sent_at = now;
        self.sent_consumed = self.consumed;
        self.asked = self.consumed.saturating_add(want);
        self.in_flight_until = now.saturating_add(deadline_ns.max(1));
        // What the request gives back may be somebody else's before the reply is here.
        self.upto = self.upto.min(self.asked);
        Some(Request {
            seq: self.seq,
            consumed: self.consumed,
            want,
            limit: terms.limit,
        })
    }

    /// Takes in a reply. `jitter` is a random number, which spreads the peeks of Envoys.
    ///
    /// Waiting requests are to be decided about again, whatever the reply was.
    pub fn settle(&mut self, terms: &Terms, reply: Reply, now: u64, jitter: u32) -> Settled {
        if reply.seq > self.seq && reply.seq <= MAX_SEQ {
            self.take_over(reply, now);
            return Settled::Forgotten;
        }
        if reply.seq != self.seq || reply.seq == self.settled {
            return Settled::Late;
        }
        let went_back = reply.previous < self.settled;
        if went_back {
            self.floor = self.others();
        }
        // A store that keeps to the protocol grants no more than was asked for.
        self.upto = reply.upto.min(self.asked);
        self.own = self.upto;
        self.total = reply.total.max(self.own);
        self.measure_burn(terms);
        self.synced_at = self.sent_at;
        self.reported = self.sent_consumed;
        self.settled = self.seq;
        self.in_flight_until = 0;
        self.retry_at = 0;
        self.peek_at = now.saturating_add(jittered(terms.peek_ns, jitter));
        // Of what was used since the request was begun, none is older than it.
        self.oldest = if self.consumed > self.upto {
            self.sent_at.max(1)
        } else {
            0
        };
        if went_back {
            Settled::WentBack
        } else {
            Settled::Done
        }
    }

    /// Notes that a request has failed, or that it is not known what became of it. It will be told
    /// again in the next. `jitter` is a random number, which spreads the attempts of Envoys.
    pub fn fail(&mut self, terms: &Terms, seq: u64, now: u64, jitter: u32) {
        if seq == self.seq && seq != self.settled {
            self.in_flight_until = 0;
            self.retry_at = now.saturating_add(jittered(terms.interval_ns, jitter));
        }
    }

    /// Why an exchange should be begun now, though no request waits for one.
    pub fn due(&self, terms: &Terms, now: u64) -> Option<Due> {
        let (at, due) = self.next_due(terms, now)?;
        (at <= now).then_some(due)
    }

    /// When an exchange will be due if nothing else happens, and why. `None` if none will be.
    pub fn next_due(&self, terms: &Terms, now: u64) -> Option<(u64, Due)> {
        if self.is_in_flight(now) {
            return Some((self.in_flight_until, Due::Retry));
        }
        let (at, due) = self.errand(terms, now)?;
        // A retry that is far away was set before the clock stepped back.
        let patience = now.saturating_add(terms.interval_ns.saturating_mul(2));
        let retry_at = Some(self.retry_at).filter(|at| *at <= patience);
        Some((at.max(retry_at.unwrap_or(0)), due))
    }

    fn errand(&self, terms: &Terms, now: u64) -> Option<(u64, Due)> {
        if self.seq != self.settled {
            return Some((now, Due::Retry));
        }
        if self.consumed > self.upto {
            let interval = terms.interval_at(self.remaining(terms), self.unreported());
            let at = self.oldest.saturating_add(interval);
            return Some((if self.oldest > now { now } else { at }, Due::Report));
        }
        let lease = self.upto.saturating_sub(self.consumed);
        if lease == 0 {
            return None;
        }
        let granted = self.upto.saturating_sub(self.reported);
        let runs_low = lease < granted.div_ceil(2) && self.lease(terms, now) > lease;
        if runs_low {
            return Some((now, Due::Refill));
        }
        if !terms.takes_back {
            return None;
        }
        let idle_at = self
            .synced_at
            .saturating_add(terms.interval_ns.saturating_mul(2));
        Some((
            if self.synced_at > now { now } else { idle_at },
            Due::Release,
        ))
    }

    /// What this Envoy was granted and can't give back.
    fn kept(&self, terms: &Terms) -> u64 {
        match terms.takes_back {
            true => 0,
            false => self.upto.saturating_sub(self.consumed),
        }
    }

    /// How many units this Envoy should be granted ahead of requests.
    ///
    /// What it is likely to use in two intervals, by what it used since the last exchange; at most
    /// its part of half of what remains, so that leases become smaller towards the end, and the last
    /// units are found by who still needs them. None while the limit is far away.
    fn lease(&self, terms: &Terms, now: u64) -> u64 {
        let Some(age) = self.age_of_knowledge(now) else {
            return 0;
        };
        let obtainable = self.remaining(terms);
        if obtainable == 0 || self.is_far(terms, self.consumed, now) {
            return 0;
        }
        let recent = self.consumed.saturating_sub(self.reported);
        let likely = Slope::new(recent, age.max(terms.interval_ns))
            .units_in(terms.interval_ns.saturating_mul(2))
            .min(recent.saturating_mul(2));
        let parts = terms.envoys.saturating_mul(2).max(1);
        let fair = obtainable.checked_div(parts).unwrap_or(0).max(1);
        likely.min(fair)
    }

    /// Learns how fast the total grows, from replies that are not too close together. It is quick to
    /// believe in more, and slow to believe in less.
    fn measure_burn(&mut self, terms: &Terms) {
        let Some(span) = self.sent_at.checked_sub(self.burn_at) else {
            (self.burn_total, self.burn_at) = (self.total, self.sent_at);
            return;
        };
        if span < terms.interval_ns / 2 {
            return;
        }
        let grown = self.total.saturating_sub(self.burn_total);
        self.burn = Slope::new(grown, span).max(self.burn.decayed());
        (self.burn_total, self.burn_at) = (self.total, self.sent_at);
    }

    fn take_over(&mut self, reply: Reply, now: u64) {
        self.consumed = self.consumed.max(reply.upto);
        self.upto = reply.upto;
        self.own = reply.upto;
        self.total = reply.total.max(reply.upto);
        self.synced_at = now.min(self.sent_at);
        self.reported = self.consumed;
        (self.seq, self.settled) = (reply.seq, reply.seq);
        self.in_flight_until = 0;
        self.retry_at = 0;
        if self.consumed <= self.upto {
            self.oldest = 0;
        }
    }
}

/// Between three and five quarters of a span.
pub(crate) fn jittered(span: u64, jitter: u32) -> u64 {
    let half = u128::from(span / 2).saturating_mul(u128::from(jitter)) >> 32;
    span.saturating_sub(span / 4)
        .saturating_add(u64::try_from(half).unwrap_or(u64::MAX))
}
