//! What a person sees.

use std::io::IsTerminal as _;

use tollgate_tests::Reply;

use crate::caller::Caller;
use crate::gateway::{CONFIGURATION, Gateway};

/// Colours, where the output is a terminal that wants them.
pub(crate) struct Style {
    colours: bool,
}

impl Style {
    /// <https://no-color.org>: an environment variable NO_COLOR that is not empty turns them off.
    pub(crate) fn of_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Style {
            colours: std::io::stdout().is_terminal() && !unwanted,
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match self.colours {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    fn faint(&self, text: &str) -> String {
        self.paint("2", text)
    }

    fn good(&self, text: &str) -> String {
        self.paint("32", text)
    }

    fn bad(&self, text: &str) -> String {
        self.paint("31", text)
    }
}

pub(crate) fn introduction(style: &Style, caller: &Caller) {
    println!("\n{}", style.bold("Tollgate in a stock Envoy"));
    println!("  configuration  {CONFIGURATION}");
    println!("  gateway        {} (TLS, HTTP/2)", caller.url());
    println!("  upstreams      accounts, payments");
}

/// The headers that a gateway's answer is about.
const SHOWN: [&str; 9] = [
    "www-authenticate",
    "retry-after",
    "deprecation",
    "sunset",
    "link",
    "ratelimit-policy",
    "ratelimit",
    "x-request-id",
    "content-type",
];

pub(crate) fn stop(
    style: &Style,
    title: &str,
    why: &str,
    request: &str,
    reply: &Reply,
    mistakes: &[String],
) {
    println!(
        "\n{} {}",
        style.bold(&format!("▸ {title}.")),
        style.faint(why)
    );
    println!("  {request}");
    let status = reply.status.to_string();
    let status = if reply.status.is_success() {
        style.good(&status)
    } else {
        style.bad(&status)
    };
    println!("  {status}");
    for name in SHOWN {
        if let Some(value) = reply.header(name) {
            println!("  {} {value}", style.faint(&format!("{name}:")));
        }
    }
    println!("  {}", reply.text());
    for mistake in mistakes {
        println!("  {}", style.bad(&format!("✗ {mistake}")));
    }
}

pub(crate) fn conclusion(style: &Style, different: &[String]) {
    match different {
        [] => println!("\n{}", style.good("✓ Every outcome was the expected one.")),
        _ => {
            println!("\n{}", style.bad("✗ Some outcomes were different:"));
            for mistake in different {
                println!("  {mistake}");
            }
        }
    }
}

/// A request of those that spend a shared quota.
pub(crate) fn turn(gateway: &str, reply: &Reply) {
    let left = reply.header("ratelimit").unwrap_or_default();
    println!("  {gateway}  {}  {left}", reply.status);
}

pub(crate) fn shared(style: &Style, admitted: usize, limit: usize) {
    let text = format!("All gateways together admitted {admitted} requests of {limit}.");
    let text = match admitted == limit {
        true => style.good(&format!("✓ {text}")),
        false => style.bad(&format!("✗ {text}")),
    };
    println!("\n{text}");
}

pub(crate) fn invitation(style: &Style, gateway: &Gateway) {
    let (url, certificate) = (gateway.caller.url(), gateway.certificate());
    let curl = format!("curl -i --cacert {}", certificate.display());
    println!("\n{}", style.bold("It serves on. Try:"));
    println!("  {curl} -H 'x-api-key: acme-demo-key' {url}/v1/accounts/42");
    println!("  {curl} -H 'x-api-key: bolt-demo-key' '{url}/v1/accounts/42?page=[1-9]'");
    println!("  {curl} {url}/status");
    println!("Metrics, by plan, API and consumer:");
    println!(
        "  curl -s {}/stats/prometheus | grep tollgate",
        gateway.envoy.admin_url()
    );
    println!("{}", style.faint("Ctrl-C ends it."));
}
