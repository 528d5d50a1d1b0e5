//! What is measured.

use tollgate_plugins::{
    JwtAuthz, ProblemDetails, RateLimit, RequestId, Sunset, Tollgate, UsagePlan,
};

use crate::document::{self, Policy};
use crate::plugin::{Answer, Plugin, Request};

/// 2026-11-20T12:00:00Z.
const START: u64 = 1_795_176_000;

/// How many requests are sent before anything is counted: counters are defined and what is
/// remembered is remembered by then.
const WARM_UP: usize = 64;

/// A plugin, a kind of request, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// The full plugin, the token seen before.
    Full,
    /// The same with 40 headers instead of 8.
    FullLong,
    /// The full plugin, each token a new one.
    FullCold,
    /// Refused for want of credentials.
    FullMissing,
    /// Refused by the limit by address.
    FullSpent,
    /// A single policy's plugin.
    Alone(Policy),
    /// API keys without limits.
    KeysOnly,
    /// The full plugin with so many keys.
    Keys(usize),
    /// The full plugin with so many APIs.
    Apis(usize),
    /// The full plugin with so many limits, all of which apply.
    Limits(usize),
    /// The full plugin with so many limits more, none of which applies.
    OtherLimits(usize),
}

impl Scenario {
    /// Those that are held at what they cost.
    pub const HELD: [Scenario; 12] = [
        Scenario::Full,
        Scenario::FullLong,
        Scenario::FullCold,
        Scenario::FullMissing,
        Scenario::FullSpent,
        Scenario::Alone(Policy::RequestId),
        Scenario::Alone(Policy::ProblemDetails),
        Scenario::Alone(Policy::RateLimit),
        Scenario::Alone(Policy::JwtAuthz),
        Scenario::Alone(Policy::UsagePlan),
        Scenario::Alone(Policy::Sunset),
        Scenario::KeysOnly,
    ];

    /// Those that show how cost grows with the document.
    pub const SCALE: [Scenario; 10] = [
        Scenario::Keys(1),
        Scenario::Keys(100),
        Scenario::Keys(10_000),
        Scenario::Keys(100_000),
        Scenario::Apis(10),
        Scenario::Apis(1_000),
        Scenario::Limits(1),
        Scenario::Limits(10),
        Scenario::Limits(50),
        Scenario::OtherLimits(50),
    ];

    /// The scenario of this name.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::HELD.into_iter().chain(Self::SCALE);
        all.find(|scenario| scenario.name() == name)
    }

    /// Its name.
    pub fn name(self) -> String {
        match self {
            Scenario::Full => "full".to_owned(),
            Scenario::FullLong => "full-40-headers".to_owned(),
            Scenario::FullCold => "full-new-token".to_owned(),
            Scenario::FullMissing => "full-401".to_owned(),
            Scenario::FullSpent => "full-429".to_owned(),
            Scenario::Alone(policy) => policy.name().to_owned(),
            Scenario::KeysOnly => "keys-only".to_owned(),
            Scenario::Keys(keys) => format!("keys-{keys}"),
            Scenario::Apis(apis) => format!("apis-{apis}"),
            Scenario::Limits(limits) => format!("limits-{limits}"),
            Scenario::OtherLimits(limits) => format!("other-limits-{limits}"),
        }
    }

    /// Starts the plugin and warms it up, with as many requests in stock as will be sent.
    pub fn start(self, requests: usize) -> Session {
        let mut session = Session {
            plugin: self.plugin(),
            requests: self.requests(requests + WARM_UP),
            next: 0,
            expected: self.expected(),
        };
        // The first request meets a full bucket.
        let first = session.requests.get(session.next).expect("a request");
        session.plugin.send(first);
        session.next = 1;
        session.drive(WARM_UP - 1);
        session
    }

    fn plugin(self) -> Plugin {
        match self {
            Scenario::Full | Scenario::FullLong | Scenario::FullCold | Scenario::FullMissing => {
                Plugin::start::<Tollgate>(&document::full(), START)
            }
            Scenario::FullSpent => Plugin::start::<Tollgate>(&document::full_spent(), START),
            Scenario::Keys(keys) => Plugin::start::<Tollgate>(&document::with_keys(keys), START),
            Scenario::Apis(apis) => Plugin::start::<Tollgate>(&document::with_apis(apis), START),
            Scenario::Limits(limits) => {
                Plugin::start::<Tollgate>(&document::with_limits(limits), START)
            }
            Scenario::OtherLimits(limits) => {
                Plugin::start::<Tollgate>(&document::with_limits_of_others(limits), START)
            }
            Scenario::KeysOnly => Plugin::start::<UsagePlan>(&document::keys_only(), START),
            Scenario::Alone(policy) => {
                let document = policy.document();
                match policy {
                    Policy::RequestId => Plugin::start::<RequestId>(&document, START),
                    Policy::ProblemDetails => Plugin::start::<ProblemDetails>(&document, START),
                    Policy::RateLimit => Plugin::start::<RateLimit>(&document, START),
                    Policy::JwtAuthz => Plugin::start::<JwtAuthz>(&document, START),
                    Policy::UsagePlan => Plugin::start::<UsagePlan>(&document, START),
                    Policy::Sunset => Plugin::start::<Sunset>(&document, START),
                }
            }
        }
    }

    fn requests(self, count: usize) -> Vec<Request> {
        let distinct = match self {
            Scenario::FullCold => count,
            _ => 1,
        };
        let request = |number| {
            let token = document::unsigned_token(number, START - 60);
            let headers = match self {
                Scenario::FullLong => document::headers(&token, 40),
                _ => document::headers(&token, 8),
            };
            let sent = |name: &str| match self {
                Scenario::FullMissing => name != "authorization" && name != "x-api-key",
                _ => true,
            };
            let headers: Vec<(&str, &str)> = headers
                .iter()
                .filter(|(name, _)| sent(name))
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            Request::new(&headers)
        };
        (0..distinct as u64).map(request).collect()
    }

    fn expected(self) -> Answer {
        match self {
            Scenario::FullMissing => Answer::Plugin(401),
            Scenario::FullSpent => Answer::Plugin(429),
            _ => Answer::Upstream,
        }
    }
}

/// A plugin that is warm.
pub struct Session {
    plugin: Plugin,
    requests: Vec<Request>,
    next: usize,
    expected: Answer,
}

impl Session {
    /// Sends so many requests.
    ///
    /// # Panics
    ///
    /// When one is not answered as it should be.
    // The profiler looks for this function by its name, and only into it.
    #[inline(never)]
    pub fn send(&mut self, count: usize) {
        self.drive(count);
    }

    fn drive(&mut self, count: usize) {
        for _ in 0..count {
            // One request is sent again and again, or each once.
            let request = self.requests.get(self.next).or(self.requests.first());
            self.next += 1;
            let answer = self.plugin.send(request.expect("a request"));
            assert_eq!(answer, self.expected, "{}", self.plugin.details());
        }
    }

    /// The plugin.
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }
}
