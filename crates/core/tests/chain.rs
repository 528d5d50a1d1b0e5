//! The chain, with policies made for the test, on the in-memory host.

#![allow(
    clippy::panic,
    clippy::expect_used,
    reason = "that is how a test fails"
)]

use std::cell::RefCell;
use std::time::Duration;

use deserr::Deserr;
use serde_json::{Value, json};
use tollgate_core::chain;
use tollgate_core::chain::Responded;
use tollgate_core::config::{ConfigErrors, Rejected};
use tollgate_core::host::Host;
use tollgate_core::limit_headers::{LimitName, LimitStatus};
use tollgate_core::policy::{
    Callbacks, Compile, Exchange, Halt, Mode, Policy, ResponseSource, Step, StepResult, TargetUse,
};
use tollgate_core::problem::{Kind, Problem};
use tollgate_testkit::{Gateway, Request};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

static REFUSED: Kind = Kind {
    name: "refused",
    status: 403,
    registered: None,
};

thread_local! {
    /// The steps that were run, by the policies' names.
    static TRACE: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    /// What was undone and ended, by the policies' names.
    static ENDS: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

fn trace() -> Vec<String> {
    TRACE.take()
}

/// What the policies of this test can be told to do.
#[derive(Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct Section {
    /// The step at which to refuse.
    #[deserr(default)]
    refuse_at: Option<String>,
    /// The step at which to wait until the route has a name.
    #[deserr(default)]
    wait_at: Option<String>,
    /// Whether it has a limit, which every request meets first of all.
    #[deserr(default)]
    limits: bool,
    /// Whether compiling fails.
    #[deserr(default)]
    broken: bool,
    /// Whether it has rules about targets.
    #[deserr(default)]
    rules: bool,
    /// Whether it enforces them.
    #[deserr(default)]
    mode: Mode,
}

macro_rules! policy {
    ($name:ident, $section:literal, $callbacks:expr) => {
        struct $name(Section);

        impl $name {
            fn waits<H: Host>(&self, step: Step, host: &H) -> bool {
                let here = self.0.wait_at.as_ref();
                here.is_some_and(|at| *at == format!("{step:?}")) && host.route_name().is_none()
            }
        }

        impl Policy for $name {
            const SECTION: &'static str = $section;
            const CALLBACKS: Callbacks = $callbacks;
            type Section = Section;
            /// How many steps it has taken part in.
            type Stream = usize;

            fn compile(section: Section, cx: &mut Compile<'_>) -> Result<Self, Rejected> {
                match section.broken {
                    true => Err(cx.errors.add($section, "is broken")),
                    false => Ok($name(section)),
                }
            }

            fn target_use(&self) -> TargetUse {
                TargetUse::of(self.0.mode, self.0.rules)
            }

            fn step<H: Host>(
                &self,
                step: Step,
                steps: &mut usize,
                x: &mut Exchange<'_, H>,
            ) -> StepResult {
                *steps = steps.saturating_add(1);
                TRACE.with_borrow_mut(|trace| trace.push(format!("{} {step:?} {steps}", $section)));
                x.response.set(concat!("x-", $section), steps.to_string());
                x.edits.set(concat!("x-", $section), format!("{step:?}"));
                if self.0.limits && step == Step::Shield {
                    x.limits.push(LimitStatus {
                        name: LimitName::new("all").expect("a name in ASCII"),
                        allowance: 5,
                        window: Duration::from_secs(60),
                        remaining: 4,
                        reset: Duration::from_secs(12),
                    });
                }
                match &self.0.refuse_at {
                    Some(at) if *at == format!("{step:?}") => {
                        Err(Problem::new(&REFUSED, "By the test.").into())
                    }
                    _ if self.waits(step, x.host) => Err(Halt::Await),
                    _ => Ok(()),
                }
            }

            fn undo<H: Host>(&self, _: &mut usize, _: &mut Exchange<'_, H>) {
                ENDS.with_borrow_mut(|ends| ends.push(concat!($section, " undone")));
            }

            fn finish<H: Host>(&self, _: &mut usize, _: &H) {
                ENDS.with_borrow_mut(|ends| ends.push(concat!($section, " ended")));
            }
        }
    };
}

policy!(First, "first", Callbacks::REQUEST_HEADERS);
policy!(
    Second,
    "second",
    Callbacks::REQUEST_HEADERS.union(Callbacks::RESPONSE_HEADERS)
);

type Chain = chain!(First, Second);
type Plugin = Gateway<Chain>;

/// A plugin, with nothing on record: on WebAssembly, all tests run in one thread.
fn plugin(config: Value) -> Plugin {
    let _ = (TRACE.take(), ENDS.take());
    Plugin::start(&config).unwrap_or_else(|errors| panic!("{errors}"))
}

fn mistakes(config: Value) -> Vec<String> {
    let errors = Plugin::start(&config)
        .err()
        .expect("a configuration with mistakes");
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn steps_run_in_order_and_in_each_the_policies_of_the_chain() {
    let plugin = plugin(json!({ "second": {}, "first": {} }));
    let reply = plugin.send(Request::get("/"));
    let steps = [
        "Identify",
        "Shield",
        "Require",
        "Authenticate",
        "Entitle",
        "Throttle",
        "Concurrency",
        "Charge",
        "Forward",
    ];
    let expected: Vec<String> = steps
        .iter()
        .zip(1..)
        .flat_map(|(step, n)| [format!("first {step} {n}"), format!("second {step} {n}")])
        .collect();
    assert_eq!(trace(), expected);
    assert_eq!(
        reply.upstream.unwrap().header("x-second").as_deref(),
        Some("Forward")
    );
}

#[test]
fn a_policy_without_a_section_takes_no_part() {
    plugin(json!({ "second": {} })).send(Request::get("/"));
    assert!(trace().iter().all(|step| step.starts_with("second")));
}

#[test]
fn the_first_refusal_ends_the_request() {
    let plugin = plugin(json!({ "first": {}, "second": { "refuse_at": "Authenticate" } }));
    let reply = plugin.send(Request::get("/"));
    assert_eq!(trace().last().unwrap(), "second Authenticate 4");
    assert_eq!((reply.status, reply.kind().as_str()), (403, "refused"));
    assert!(reply.upstream.is_none());
    // What was prepared for every response is on the refusal too.
    assert_eq!(reply.header("x-first"), Some("4"));
}

#[test]
fn a_target_that_can_be_read_in_two_ways_is_refused_where_a_rule_depends_on_it() {
    let send = |first: Value| {
        let apis = json!([{ "name": "a", "match": [{ "path": "/a/**" }] }]);
        let plugin = plugin(json!({ "apis": apis, "first": first }));
        let reply = plugin.send(Request::get("/a/..%2f"));
        let decision = plugin.host.filter_state.borrow()["tollgate_decision"].clone();
        (reply, decision, trace().len())
    };
    let (reply, decision, steps) = send(json!({ "rules": true }));
    assert_eq!(
        (reply.status, reply.kind().as_str()),
        (400, "request-ambiguous")
    );
    assert_eq!((decision.as_str(), steps), ("deny", 1));
    // The request has its id by then.
    assert_eq!(reply.header("x-first"), Some("1"));

    let (reply, decision, steps) = send(json!({ "rules": true, "mode": "shadow" }));
    assert_eq!(
        (reply.status, decision.as_str(), steps),
        (200, "would_deny", 9)
    );
    let (reply, decision, steps) = send(json!({}));
    assert_eq!((reply.status, decision.as_str(), steps), (200, "allow", 9));
}

#[test]
fn a_path_is_rewritten_where_a_rule_is_enforced() {
    for (first, forwarded) in [
        (json!({ "rules": true }), "/b?q=/../"),
        (
            json!({ "rules": true, "mode": "shadow" }),
            "/a/..//b?q=/../",
        ),
        (json!({}), "/a/..//b?q=/../"),
    ] {
        let reply = plugin(json!({ "first": first })).send(Request::get("/a/..//b?q=/../"));
        assert_eq!(
            reply.upstream.unwrap().header(":path").as_deref(),
            Some(forwarded)
        );
    }
}

#[test]
fn mistakes_of_all_policies_are_reported_together() {
    let found = mistakes(json!({
        "apis": [{ "name": "a", "match": [{ "path": "a" }] }],
        "first": { "broken": true },
        "second": { "borken": true },
        "telemetry": { "consumers": "all" },
        "third": {},
    }));
    for expected in [
        "apis[0]",
        "first: is broken",
        "second.borken: unknown field",
        "telemetry.consumers: found text",
        "third: test.wasm has no such section",
    ] {
        assert!(
            found.iter().any(|mistake| mistake.starts_with(expected)),
            "{expected} in {found:#?}"
        );
    }
    assert_eq!(found.len(), 5);
}

#[test]
fn a_plugin_that_would_do_nothing_is_refused() {
    let found = mistakes(json!({ "telemetry": {} }));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains("add a section, first or second"),
        "{found:?}"
    );
    // Not on top of other mistakes.
    assert_eq!(mistakes(json!({ "telemetry": 5 })).len(), 1);
}

#[test]
fn a_chain_needs_the_callbacks_of_its_policies() {
    use tollgate_core::chain::Policies;
    let both = Callbacks::REQUEST_HEADERS.union(Callbacks::RESPONSE_HEADERS);
    assert_eq!(<Chain as Policies>::CALLBACKS, both);
    assert_eq!(
        <chain!(First) as Policies>::CALLBACKS,
        Callbacks::REQUEST_HEADERS
    );
}

#[test]
fn a_request_without_anything_is_judged() {
    let plugin = plugin(json!({ "first": {} }));
    let bare = Request::get("/")
        .without(":path")
        .without(":authority")
        .without(":method");
    assert_eq!(plugin.send(bare).status, 200);
}

#[test]
fn a_request_that_waits_goes_on_where_it_was() {
    let plugin = plugin(json!({
        "apis": [{ "name": "a", "match": [{ "path": "/a/**" }] }],
        "first": {},
        "second": { "wait_at": "Authenticate", "rules": true },
    }));
    let paused = plugin.submit(Request::get("/x/../a/b?c=d")).paused();
    assert_eq!(
        trace().last().map(String::as_str),
        Some("second Authenticate 4")
    );
    // Looked at again too early, it waits on.
    let paused = plugin.resume(paused).paused();
    assert_eq!(trace(), ["second Authenticate 5"]);
    plugin.host.route_name.replace(Some("r".to_owned()));
    let reply = plugin.resume(paused).reply();
    assert_eq!(
        trace()[..3],
        [
            "second Authenticate 6",
            "first Entitle 5",
            "second Entitle 7"
        ]
    );
    let upstream = reply.upstream.expect("it passes");
    // What was found out before the pause is still there.
    assert_eq!(upstream.header(":path").as_deref(), Some("/a/b?c=d"));
    let state = plugin.host.filter_state.borrow();
    assert_eq!(state["tollgate_api"], "a");
}

#[test]
fn a_request_that_waits_can_be_refused() {
    let plugin = plugin(json!({
        "first": { "refuse_at": "Entitle" },
        "second": { "wait_at": "Authenticate" },
    }));
    let paused = plugin.submit(Request::get("/")).paused();
    plugin.host.route_name.replace(Some("r".to_owned()));
    let _ = trace();
    assert_eq!(plugin.resume(paused).reply().kind(), "refused");
    assert_eq!(trace(), ["second Authenticate 5", "first Entitle 5"]);
    assert_eq!(ENDS.take(), ["first undone", "second undone"]);
}

#[test]
fn a_stream_that_ends_while_its_request_waits_gives_everything_back() {
    let plugin = plugin(json!({ "first": {}, "second": { "wait_at": "Charge" } }));
    let paused = plugin.submit(Request::get("/")).paused();
    let _ = trace();
    plugin.abandon(paused);
    assert_eq!(
        ENDS.take(),
        [
            "first undone",
            "second undone",
            "first ended",
            "second ended"
        ]
    );
}

#[test]
fn an_answer_that_overtakes_a_waiting_request_tells_of_its_limits() {
    let plugin = plugin(json!({
        "apis": [{ "name": "a", "match": [{ "path": "/a/**" }] }],
        "first": { "limits": true },
        "second": { "wait_at": "Authenticate", "rules": true },
    }));
    let wait = || plugin.submit(Request::get("/a/b")).paused();
    let mut open = plugin.overtake(wait());
    let source = ResponseSource::Gateway("stream_idle_timeout".to_owned());
    let responded = plugin.respond(&mut open, 504, &[], &source);
    let Responded::Change(headers) = responded else {
        panic!("it stays: {responded:?}")
    };
    let told: Vec<(&str, &str)> = headers
        .iter()
        .filter(|header| header.name.starts_with("ratelimit"))
        .map(|header| (header.name.as_ref(), header.value.as_str()))
        .collect();
    let expected = [
        ("ratelimit-policy", "\"all\";q=5;w=60"),
        ("ratelimit", "\"all\";r=4;t=12"),
    ];
    assert_eq!(told, expected);
    let state = plugin.host.filter_state.take();
    assert_eq!(state["tollgate_decision"], "undecided");
    assert_eq!(state["tollgate_reason"], "_overtaken");
    assert_eq!(state["tollgate_api"], "a");
    plugin.end(open);
    // A stream that is gone has no place for what access logs show.
    let paused = wait();
    plugin.abandon(paused);
    assert!(plugin.host.filter_state.borrow().is_empty());
    let counters = plugin.host.process.counters();
    for reason in ["_overtaken", "_abandoned"] {
        let name = format!(
            "decision=.=undecided;.;reason=.={reason};.;plan=.=_none;.;api=.=a;.;\
             tollgate_requests_total"
        );
        assert_eq!(counters.get(&name), Some(&1), "{counters:?}");
    }
}
