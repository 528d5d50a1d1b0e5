//! How a plugin comes of its document.

use super::{Chain, Policies};
use crate::apis::{ApiConfig, ApiTable, HostOptions};
use crate::config::{ConfigErrors, Document, Rejected, Text, expected_one_of, key_path};
use crate::host::Environment;
use crate::limit_headers::LimitHeadersConfig;
use crate::policy::Compile;
use crate::problem::{
    CREDENTIALS_MISSING, GATEWAY_CROWDED, GATEWAY_FAULT, Kind, REQUEST_AMBIGUOUS,
};
use crate::target::PathOptions;
use crate::telemetry::{Telemetry, TelemetryConfig};

impl<P: Policies> Chain<P> {
    /// Reads a configuration document. `plugin` is the name of the `.wasm`, for messages.
    pub fn configure(
        plugin: &str,
        text: &[u8],
        environment: &dyn Environment,
    ) -> Result<Self, ConfigErrors> {
        Self::of(plugin, Document::parse(text)?, environment)
    }

    /// Reads a configuration document as [`configure`](Self::configure) does, a piece of it at a
    /// time.
    pub fn configure_from(
        plugin: &str,
        text: &dyn Text,
        environment: &dyn Environment,
    ) -> Result<Self, ConfigErrors> {
        Self::of(plugin, Document::read(text)?, environment)
    }

    fn of(
        plugin: &str,
        mut document: Document<'_>,
        environment: &dyn Environment,
    ) -> Result<Self, ConfigErrors> {
        const {
            assert!(
                P::GUARDED,
                "nothing behind a policy that checks credentials uses them"
            )
        };
        let mut errors = ConfigErrors::default();
        let chain = Self::compile(plugin, &mut document, environment, &mut errors);
        match chain {
            Ok(chain) if errors.is_empty() => Ok(chain),
            _ => Err(errors),
        }
    }

    /// The kinds of all refusals that there can be. One may be there twice.
    pub fn kinds() -> Vec<&'static Kind> {
        let mut kinds = vec![
            &REQUEST_AMBIGUOUS,
            &CREDENTIALS_MISSING,
            &GATEWAY_CROWDED,
            &GATEWAY_FAULT,
        ];
        P::kinds(&mut kinds);
        kinds
    }

    fn compile(
        plugin: &str,
        document: &mut Document<'_>,
        environment: &dyn Environment,
        errors: &mut ConfigErrors,
    ) -> Result<Self, Rejected> {
        let apis = document.take::<Vec<ApiConfig>>("apis", errors);
        let hosts = document.take::<HostOptions>("hosts", errors);
        let paths = document.take::<PathOptions>("paths", errors);
        let limit_headers = document.take::<LimitHeadersConfig>("limit_headers", errors);
        let telemetry = document.take::<TelemetryConfig>("telemetry", errors);
        // What can't be read is recorded; the rest is checked as if it had been left out.
        let hosts = hosts.ok().flatten().unwrap_or_default();
        let paths = paths.ok().flatten().unwrap_or_default();
        let metered = telemetry.as_ref().ok().and_then(Option::as_ref);
        let metered = metered.cloned().unwrap_or_default();
        // Where `apis` itself can't be read, names that refer to it can't be checked; the table is
        // then empty and says so, and no policy reports what only follows from that.
        let table = match &apis {
            Ok(_) => {
                let apis = apis.ok().flatten().unwrap_or_default();
                ApiTable::compile(apis, hosts, paths, errors)
            }
            Err(_) => ApiTable::unreadable(),
        };
        let mut sections = Vec::new();
        P::sections(&mut sections);
        let enabled = sections.iter().any(|section| document.has(section));
        let mut cx = Compile {
            apis: &table,
            credentials: P::credentials(document),
            authenticators: Vec::new(),
            metered_consumers: metered.consumers,
            filter_state: metered.filter_state,
            consumers: None,
            kinds: Self::kinds(),
            errors,
            environment,
        };
        let policies = P::compile(document, &mut cx);
        for unknown in document.remaining() {
            let message = unknown_section(plugin, unknown, &sections);
            errors.add(key_path("", unknown), message);
        }
        let policies = policies?;
        if !enabled && errors.is_empty() {
            return Err(errors.add(
                "",
                format!(
                    "no policy is configured, so {plugin} would do nothing: add a section, {}",
                    sections.join(" or ")
                ),
            ));
        }
        Ok(Chain {
            target_use: policies.target_use(),
            apis: table,
            paths,
            limit_headers: limit_headers?.unwrap_or_default(),
            telemetry: Telemetry::new(telemetry?.unwrap_or_default()),
            policies,
        })
    }
}

/// The sections that belong to no policy.
const CORE_SECTIONS: [&str; 5] = ["apis", "hosts", "paths", "limit_headers", "telemetry"];

fn unknown_section(plugin: &str, unknown: &str, sections: &[&str]) -> String {
    let own: Vec<&str> = CORE_SECTIONS.iter().chain(sections).copied().collect();
    let expected = expected_one_of(unknown, &own);
    let is_a_slip = expected.contains("did you mean");
    let elsewhere = match plugin {
        _ if is_a_slip => String::new(),
        FULL_PLUGIN => String::new(),
        _ => format!(
            "; if this is a policy of another plugin, load {FULL_PLUGIN}, which has all, or {}.wasm",
            unknown.replace('_', "-")
        ),
    };
    format!("{plugin} has no such section{expected}{elsewhere}")
}

/// The plugin that holds all policies.
const FULL_PLUGIN: &str = "tollgate.wasm";
