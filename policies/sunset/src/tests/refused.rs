//! What is told of a version to those who are refused or wait before it is judged.

use tollgate_core::policy::Halt;
use tollgate_testkit::Submitted;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

/// Refuses, or lets wait, what asks for it by the name of a step.
struct Barrier;

#[derive(deserr::Deserr)]
#[deserr(error = tollgate_core::config::ConfigErrors)]
struct BarrierConfig {}

impl Policy for Barrier {
    const SECTION: &'static str = "barrier";
    const CALLBACKS: Callbacks = Callbacks::REQUEST_HEADERS;
    type Section = BarrierConfig;
    type Stream = bool;

    fn compile(BarrierConfig {}: BarrierConfig, _: &mut Compile<'_>) -> Result<Self, Rejected> {
        Ok(Barrier)
    }

    fn step<H: Host>(&self, step: Step, waited: &mut bool, x: &mut Exchange<'_, H>) -> StepResult {
        let asks = |header| x.request.get_str(header) == Some(format!("{step:?}").as_str());
        if asks("refuse") {
            return Err(Problem::new(&API_UNAVAILABLE, "No.").into());
        }
        if asks("wait") && !std::mem::replace(waited, true) {
            return Err(Halt::Await);
        }
        Ok(())
    }
}

type Guarded = tollgate_core::chain!(
    Barrier,
    tollgate_usage_plan::UsagePlan,
    tollgate_access::Access,
    Sunset
);

/// A version whose end is `acme`'s own or everybody's, behind a barrier.
fn start_guarded(grace: bool) -> Gateway<Guarded> {
    let mut config = json!({
        "barrier": {},
        "apis": [{ "name": "accounts", "match": [{ "path": "/v1/accounts/{**}" }] }],
        "usage_plan": {
            "key": { "header": "x-api-key", "query": "api_key" },
            "plans": { "gold": {} },
            "anonymous": { "plan": "gold" },
            "consumers": [{ "id": "acme", "plan": "gold", "keys": [{ "sha256": sha256("acme") }] }],
        },
        "sunset": [{
            "api": "accounts",
            "deprecated": "2026-09-15T00:00:00Z",
            "sunset": "2027-03-15T00:00:00Z",
            "successor": "/v2/accounts/{**}",
            "docs": "https://dev.bank.example/v2",
        }],
    });
    if grace {
        config["sunset"][0]["grace"] = json!({ "acme": "2027-06-30T00:00:00Z" });
    }
    Gateway::start(&config).unwrap_or_else(|errors| panic!("{errors}"))
}

const GENERAL: &str = "Mon, 15 Mar 2027 00:00:00 GMT";
const OF_ACME: &str = "Wed, 30 Jun 2027 00:00:00 GMT";

/// What tells of the version, each once.
fn assert_announced(headers: &ResponseHeaders, sunset: &str, what: &str) {
    assert_eq!(
        set(headers, "deprecation").as_deref(),
        Some("@1789430400"),
        "{what}"
    );
    assert_eq!(set(headers, "sunset").as_deref(), Some(sunset), "{what}");
    assert_eq!(set(headers, "link").as_deref(), Some(LINKS), "{what}");
}

#[test]
fn refusals_at_every_step_announce_it_too() {
    for grace in [false, true] {
        let plugin = start_guarded(grace);
        for (step, sunset) in [
            ("Shield", GENERAL),
            ("Require", GENERAL),
            ("Authenticate", GENERAL),
            // The consumer is known by now.
            ("Entitle", if grace { OF_ACME } else { GENERAL }),
            ("Charge", if grace { OF_ACME } else { GENERAL }),
        ] {
            let request = get("/v1/accounts/42?api_key=acme").header("refuse", step);
            let reply = plugin.send(request);
            let what = format!("{step} {grace}: {reply:?}");
            assert_eq!(reply.status, 503, "{what}");
            assert_eq!(reply.header("deprecation"), Some("@1789430400"), "{what}");
            assert_eq!(reply.header("sunset"), Some(sunset), "{what}");
            assert_eq!(reply.header("link"), Some(LINKS), "{what}");
            let links = reply.headers.iter().filter(|(name, _)| name == "link");
            assert_eq!(links.count(), 1, "{what}");
        }
        // What is for no version is told nothing.
        let other = plugin.send(get("/v2/accounts/42").header("refuse", "Shield"));
        assert_eq!((other.status, other.header("sunset")), (503, None));
    }
}

#[test]
fn what_waits_announces_it_whatever_becomes_of_it() {
    for grace in [false, true] {
        let plugin = start_guarded(grace);
        for step in ["Shield", "Authenticate", "Charge"] {
            let own = grace && step == "Charge";
            let sunset = if own { OF_ACME } else { GENERAL };
            let request = || get("/v1/accounts/42?api_key=acme").header("wait", step);
            let what = format!("{step} {grace}");
            // The host answers it.
            let paused = plugin.submit(request()).paused();
            let mut open = plugin.overtake(paused);
            let responded = plugin.respond(
                &mut open,
                504,
                &[],
                &ResponseSource::Gateway("response_timeout".to_owned()),
            );
            plugin.end(open);
            let Responded::Change(headers) = responded else {
                panic!("{what}");
            };
            assert_announced(&headers, sunset, &what);
            // It goes on, and its upstream knows the general end.
            let paused = plugin.submit(request()).paused();
            let Submitted::Answered(reply, mut open) = plugin.resume(paused) else {
                panic!("{what}");
            };
            assert_eq!(reply.status, 200, "{what}");
            let responded = plugin.respond(&mut open, 200, &[], &ResponseSource::Upstream);
            plugin.end(open);
            let Responded::Change(headers) = responded else {
                panic!("{what}");
            };
            assert_announced(&headers, if grace { OF_ACME } else { GENERAL }, &what);
        }
    }
}
