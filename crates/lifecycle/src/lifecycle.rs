//! One version's life.

use tollgate_core::apis::Template;
use tollgate_core::policy::Mode;
use tollgate_core::target::RequestTarget;
use tollgate_core::time::Timestamp;

use crate::brownout::Brownouts;
use crate::config::{AfterSunset, Answer};
use crate::dates::{Deprecation, Sunset};
use crate::link::{Link, Relation};
use crate::selector::VersionSelector;
use crate::successor::Successor;
use crate::uri::Docs;

/// How far a version's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is not deprecated, and no end is known.
    Live,
    /// Its end is known, and it is not deprecated, or not yet.
    Ending,
    /// It is served, and should not be used any more.
    Deprecated,
    /// It is dark for practice.
    Brownout {
        /// When requests are served again; none if that is never, as the version ends first.
        until: Option<Timestamp>,
        /// How requests are answered.
        answer: Answer,
    },
    /// It has ended. What that means is for [`Lifecycle::after_sunset`] to say.
    Retired,
}

/// The life of a version.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    pub(crate) selector: VersionSelector,
    /// What metrics call it.
    pub(crate) version: Option<Box<str>>,
    pub(crate) deprecated: Option<i64>,
    pub(crate) deprecation: Option<Deprecation>,
    pub(crate) end: Option<End>,
    /// The ends of consumers who have their own, sorted by name.
    pub(crate) grace: Box<[(Box<str>, End)]>,
    pub(crate) brownouts: Brownouts,
    pub(crate) after_sunset: AfterSunset,
    pub(crate) successor: Option<Successor>,
    pub(crate) latest: Option<Successor>,
    pub(crate) docs: Option<Docs>,
    pub(crate) mode: Mode,
}

/// When a version ends, in seconds since the Unix epoch, and how that is told.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) at: i64,
    pub(crate) sunset: Sunset,
}

impl Lifecycle {
    /// The stage at an instant, exact to the second; for a consumer, if it is known who asks.
    ///
    /// It depends on nothing else, so after a step of the clock it is what it is at the new time.
    pub fn at(&self, now: Timestamp, consumer: Option<&str>) -> Stage {
        let now = now.as_seconds();
        let own_end = consumer.and_then(|consumer| self.grace_of(consumer));
        let end = own_end.or(self.end.as_ref());
        if end.is_some_and(|end| end.at <= now) {
            return Stage::Retired;
        }
        if self.deprecated.is_none_or(|deprecated| now < deprecated) {
            return match end {
                Some(_) => Stage::Ending,
                None => Stage::Live,
            };
        }
        match self.brownouts.find(now).filter(|_| own_end.is_none()) {
            Some(stretch) => Stage::Brownout {
                until: self.served_from(stretch.until),
                answer: stretch.answer,
            },
            None => Stage::Deprecated,
        }
    }

    /// The end of a brownout, if requests are served then.
    fn served_from(&self, until: i64) -> Option<Timestamp> {
        let has_ended = self.end.as_ref().is_some_and(|end| end.at <= until);
        let is_served = !has_ended || self.after_sunset == AfterSunset::Pass;
        let until = u64::try_from(until).unwrap_or_default();
        is_served.then(|| Timestamp::from_seconds(until))
    }

    /// The version as operators see it: the first value, or media type, by which requests name it;
    /// none if the API itself is the version. It can be the value of a metric's label.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// What becomes of requests once it is [retired](Stage::Retired).
    pub fn after_sunset(&self) -> AfterSunset {
        self.after_sunset
    }

    /// Whether refusals are given or only counted.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether some consumers have an end of their own, so that it matters who asks.
    pub fn has_grace(&self) -> bool {
        !self.grace.is_empty()
    }

    /// The `Deprecation` for every response.
    pub fn deprecation(&self) -> Option<&Deprecation> {
        self.deprecation.as_ref()
    }

    /// The `Sunset` for every response: the end for this consumer.
    pub fn sunset(&self, consumer: Option<&str>) -> Option<&Sunset> {
        let own_end = consumer.and_then(|consumer| self.grace_of(consumer));
        own_end.or(self.end.as_ref()).map(|end| &end.sunset)
    }

    /// Where the request's thing is in other versions. `templates` are those of the request's API
    /// ([`ApiTable::templates`](tollgate_core::apis::ApiTable::templates)).
    ///
    /// The query comes along as `target` has it, a credential in it too.
    pub fn elsewhere(&self, templates: &[Template], target: &RequestTarget<'_>) -> Elsewhere {
        let uri = |successor: &Option<Successor>| {
            let left_out = self.selector.query_names();
            successor.as_ref()?.uri(templates, target, left_out)
        };
        Elsewhere {
            successor: uri(&self.successor),
            latest: uri(&self.latest),
        }
    }

    /// The links for every response to the request whose thing is `elsewhere` too.
    ///
    /// A URI that is longer than 2 KiB is left out: it repeats what the client has sent, on every
    /// response and perhaps twice, and proxies have limits to what headers may hold. Cut short it would
    /// lead to something else.
    pub fn links<'a>(&'a self, elsewhere: &'a Elsewhere) -> impl Iterator<Item = Link<'a>> {
        let docs = |relation| {
            let docs = self.docs.as_ref()?;
            Some(Link::new(relation, docs.to_target()))
        };
        let version = |relation, uri: Option<&'a str>| {
            let uri = uri.filter(|uri| uri.len() <= LONGEST_TARGET)?;
            Some(Link::new(relation, uri.into()))
        };
        let links = [
            self.deprecation
                .as_ref()
                .and_then(|_| docs(Relation::Deprecation)),
            self.end.as_ref().and_then(|_| docs(Relation::Sunset)),
            version(Relation::SuccessorVersion, elsewhere.successor()),
            version(Relation::LatestVersion, elsewhere.latest()),
        ];
        links.into_iter().flatten()
    }

    fn grace_of(&self, consumer: &str) -> Option<&End> {
        let index = self
            .grace
            .binary_search_by(|(name, _)| (**name).cmp(consumer))
            .ok()?;
        self.grace.get(index).map(|(_, end)| end)
    }
}

/// The longest URI of another version in a link, in bytes.
const LONGEST_TARGET: usize = 2048;

/// Where a request's thing is in other versions; see [`Lifecycle::elsewhere`].
#[derive(Clone, Debug, Default)]
pub struct Elsewhere {
    successor: Option<String>,
    latest: Option<String>,
}

impl Elsewhere {
    /// Its URI in the next version.
    pub fn successor(&self) -> Option<&str> {
        self.successor.as_deref()
    }

    /// Its URI in the latest version.
    pub fn latest(&self) -> Option<&str> {
        self.latest.as_deref()
    }
}

#[cfg(test)]
mod tests;
