//! Plugins by their names, and documents checked by their code.

use tollgate_core::chain::Chain;
use tollgate_core::config::{ConfigErrors, expected_one_of};
use tollgate_core::host::Environment;
use tollgate_core::plugin::{Bare, Plugin};
use tollgate_plugins::{FILES, Visitor, visit};

/// The file of the plugin that holds all policies.
pub const FULL: &str = <tollgate_plugins::Tollgate as Plugin>::FILE;

/// The file of a plugin that was named with or without `.wasm`, by a path, a URL or an image.
pub fn of_reference(reference: &str) -> Option<&'static str> {
    let without_query = reference.split(['?', '#', '@']).next().unwrap_or_default();
    let last = without_query.rsplit('/').next().unwrap_or_default();
    let stem = last.split(':').next().unwrap_or_default();
    let stem = stem.strip_suffix(".wasm").unwrap_or(stem);
    FILES
        .iter()
        .copied()
        .find(|file| file.strip_suffix(".wasm") == Some(stem))
}

/// The file of the plugin that `--plugin` names.
pub fn named(name: &str) -> anyhow::Result<&'static str> {
    of_reference(name).ok_or_else(|| {
        let names: Vec<&str> = FILES
            .iter()
            .filter_map(|file| file.strip_suffix(".wasm"))
            .collect();
        anyhow::anyhow!("unknown plugin {name:?}{}", expected_one_of(name, &names))
    })
}

/// Reads a document as the plugin does. No mistake means that the plugin would take it.
pub fn configure(file: &str, document: &[u8], environment: &dyn Environment) -> ConfigErrors {
    struct Configure<'a>(&'a [u8], &'a dyn Environment);

    impl Visitor for Configure<'_> {
        type Output = ConfigErrors;

        fn visit<P: Plugin>(self) -> ConfigErrors {
            let chain = Chain::<P::Policies<Bare>>::configure(P::FILE, self.0, self.1);
            chain.err().unwrap_or_default()
        }
    }

    visit(file, Configure(document, environment)).unwrap_or_default()
}

/// The names of the sections that the plugin with all policies takes, the common ones included.
pub fn sections() -> Vec<&'static str> {
    use tollgate_core::chain::Policies as _;

    let mut names = vec!["apis", "hosts", "paths", "limit_headers", "telemetry"];
    <tollgate_plugins::Tollgate as Plugin>::Policies::<Bare>::sections(&mut names);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_known_by_what_refers_to_them() {
        for (reference, expected) in [
            ("tollgate", Some("tollgate.wasm")),
            ("usage-plan.wasm", Some("usage-plan.wasm")),
            ("/etc/envoy/filters/sunset.wasm", Some("sunset.wasm")),
            (
                "oci://registry.bank.example:5000/mesh/tollgate:1.2",
                Some("tollgate.wasm"),
            ),
            (
                "oci://registry.bank.example/jwt-authz@sha256:00",
                Some("jwt-authz.wasm"),
            ),
            (
                "https://files.bank.example/rate-limit.wasm?v=1",
                Some("rate-limit.wasm"),
            ),
            ("coraza.wasm", None),
            ("", None),
        ] {
            assert_eq!(of_reference(reference), expected, "{reference}");
        }
        let error = named("usage-plans").unwrap_err().to_string();
        assert!(error.contains("did you mean \"usage-plan\"?"), "{error}");
    }
}
