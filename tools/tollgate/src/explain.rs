//! `tollgate explain`: what would become of a request, and why.

mod answer;
mod apis;
mod keys;
mod text;
mod watch;

use std::io::Write;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value as Json;
use tollgate_core::plugin::Plugin;
use tollgate_core::policy::Policy;
use tollgate_core::time::{Instant3339, Timestamp};
use tollgate_core::units::Span;
use tollgate_plugins::{Visitor, visit};
use tollgate_testkit::{Clock, Gateway, MemoryHost, Process, Reply, Request, Submitted};

use crate::args::{ExplainArguments, Format};
use crate::check::{self, Checked};
use crate::section::Section;
use crate::{Outcome, input, note, plugin};
use answer::Explanation;
use keys::Keys;

/// Explains a request.
pub fn run(arguments: &ExplainArguments, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let checked = check::check(input::read(&arguments.file)?, named(&arguments.plugin)?);
    if !checked.mistakes.is_empty() {
        write!(anstream::stderr(), "{}\n\n", checked.report())?;
        note("mend the configuration first");
        return Ok(Outcome::Bad);
    }
    let section = only_section(&checked, &arguments.plugin)?;
    let explanation = explain(section, arguments)?;
    match arguments.format {
        Format::Text => text::write(&explanation, out)?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, &explanation)?;
            writeln!(out)?;
        }
    }
    Ok(Outcome::Good)
}

/// The plugin that `--plugin` names, if it is there.
pub(crate) fn named(plugin: &Option<String>) -> anyhow::Result<Option<&'static str>> {
    plugin.as_deref().map(plugin::named).transpose()
}

/// The section that is meant: the only one, or the only one of the plugin.
pub(crate) fn only_section<'a>(
    checked: &'a Checked,
    plugin: &Option<String>,
) -> anyhow::Result<&'a Section> {
    let name = &checked.input.name;
    let named = named(plugin)?;
    let mut fitting = checked.sections.iter();
    let mut fitting = fitting
        .by_ref()
        .filter(|section| named.is_none_or(|named| named == section.plugin));
    match (fitting.next(), fitting.next()) {
        (Some(section), None) => Ok(section),
        (None, _) => bail!(
            "{name} has no configuration of {}",
            named.unwrap_or("a Tollgate plugin")
        ),
        (Some(_), Some(_)) => bail!(
            "{name} has several configurations: choose one with --plugin, or give a file of one"
        ),
    }
}

fn explain(section: &Section, arguments: &ExplainArguments) -> anyhow::Result<Explanation> {
    // What was checked is JSON: the plugin has read it.
    let document: Json = serde_json::from_slice(&section.document)?;
    let asked = Asked::of(arguments)?;
    let keys = Keys::of(&document, &arguments.jwks)?;
    let host = Process::new(Clock::at(asked.at)).worker();
    host.client_address.set(Some(arguments.client_address));
    if let Some(uri) = &arguments.client_uri {
        let certificate = tollgate_core::host::PeerCertificate {
            uri_san: Some(uri.clone()),
            dns_san: None,
        };
        host.peer_certificate.replace(Some(certificate));
    }
    host.clusters.replace(keys.clusters());
    host.environment.replace(std::env::vars().collect());
    let run = Run {
        host,
        document: &document,
        asked: &asked,
        keys: &keys,
    };
    let mut explanation = visit(section.plugin, run).context("the plugin is unknown")??;
    explanation.plugin = section.plugin;
    explanation.apis = apis::judge(&document, &asked);
    explanation.missing_keys = keys.missing();
    Ok(explanation)
}

/// The request that is asked about.
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) authority: String,
    pub(crate) path: String,
    request: Request,
    at: Timestamp,
    repeat: u32,
    every: Duration,
}

impl Asked {
    fn of(arguments: &ExplainArguments) -> anyhow::Result<Self> {
        let expected = "expected a method and a URL, as 'GET https://api.bank.example/v1/accounts'";
        let (method, url) = arguments
            .request
            .trim()
            .split_once(char::is_whitespace)
            .with_context(|| format!("--request: {expected}"))?;
        let url = url.trim();
        let (scheme, rest) = url
            .split_once("://")
            .with_context(|| format!("--request: {expected}"))?;
        // Not read any further: how a path is understood is what is to be explained.
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/{path}"),
        };
        let mut request = Request::new(method, &path)
            .without(":authority")
            .header(":authority", authority)
            .header(":scheme", scheme);
        for header in &arguments.headers {
            let (name, value) = header
                .split_once(':')
                .filter(|(name, _)| !name.is_empty())
                .with_context(|| "-H: expected a header, as 'x-api-key: …'")?;
            request = request.header(&name.to_ascii_lowercase(), value.trim());
        }
        let at = match &arguments.at {
            Some(text) => {
                let at: Instant3339 = text
                    .parse()
                    .map_err(|error| anyhow::anyhow!("--at: {error}"))?;
                at.0
            }
            None => {
                let now = jiff::Timestamp::now().as_nanosecond();
                Timestamp::from_nanos(u64::try_from(now).unwrap_or_default())
            }
        };
        let every = match &arguments.every {
            Some(text) => {
                let span: Span = text
                    .parse()
                    .map_err(|error| anyhow::anyhow!("--every: {error}"))?;
                span.get()
            }
            None => Duration::ZERO,
        };
        Ok(Asked {
            method: method.to_owned(),
            authority: authority.to_owned(),
            path,
            request,
            at,
            repeat: arguments.repeat,
            every,
        })
    }
}

/// The requests, sent through the chain of a plugin.
struct Run<'a> {
    host: MemoryHost,
    document: &'a Json,
    asked: &'a Asked,
    keys: &'a Keys,
}

impl Visitor for Run<'_> {
    type Output = anyhow::Result<Explanation>;

    fn visit<P: Plugin>(self) -> Self::Output {
        let gateway = Gateway::<P::Policies<watch::Watched>>::on(self.host, self.document)
            .map_err(|errors| anyhow::anyhow!("{errors}"))?;
        let mut statuses = answer::Statuses::default();
        for number in 1..=self.asked.repeat {
            if number > 1 {
                gateway.clock().advance(self.asked.every);
            }
            watch::forget();
            let reply = send(&gateway, self.asked.request.clone(), self.keys);
            statuses.add(&reply);
            if number == self.asked.repeat {
                return Ok(Explanation::of(self.asked, reply, watch::seen(), statuses));
            }
        }
        bail!("no request was sent")
    }
}

/// The longest time that a request waits for keys here; no chain lets one wait so long.
const MOST_WAITING: Duration = Duration::from_secs(600);

/// The time between two looks at a request that waits.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Sends a request, and lets it wait for keys as long as it wants to.
fn send<P: tollgate_core::chain::Policies>(
    gateway: &Gateway<P>,
    request: Request,
    keys: &Keys,
) -> Reply {
    serve(gateway, keys);
    let mut submitted = gateway.submit(request);
    let began = gateway.clock().now();
    loop {
        match submitted {
            Submitted::Answered(reply, open) => {
                gateway.end(open);
                return reply;
            }
            Submitted::Waiting(paused) => {
                if gateway.clock().now().saturating_since(began) < MOST_WAITING {
                    gateway.clock().advance(LOOK_AGAIN);
                }
                serve(gateway, keys);
                submitted = gateway.resume(paused);
            }
        }
    }
}

/// Answers what the gateway asks of issuers.
fn serve<P: tollgate_core::chain::Policies>(gateway: &Gateway<P>, keys: &Keys) {
    // Metadata lead to keys: each answer may bring the next question.
    for _ in 0..8 {
        gateway.tick();
        let sent: Vec<_> = gateway.host.callouts.borrow_mut().drain(..).collect();
        if sent.is_empty() {
            return;
        }
        for callout in sent {
            match keys.answer(&callout.url) {
                Some(body) => {
                    let headers = [("content-type", "application/json")];
                    gateway.answer(callout.id, Some(200), &headers, &body);
                }
                None => gateway.answer(callout.id, None, &[], b""),
            }
        }
    }
}

/// The name of a policy: that of its section.
pub(crate) fn name_of<P: Policy>() -> &'static str {
    P::SECTION
}
