//! The callbacks through which Envoy enters a plugin, and how a plugin says which it needs.

use std::collections::BTreeSet;
use std::fmt;

/// The custom section in which a plugin lists the optional callbacks it needs: their names in
/// ASCII, separated by commas. NUL bytes at the end are padding.
pub(crate) const SECTION: &str = "tollgate.callbacks";

/// The callbacks of proxy-wasm ABI 0.2.1 that Envoy calls if a plugin exports them, and does
/// without if not.
const OPTIONAL: &[&str] = &[
    "proxy_on_done",
    "proxy_on_downstream_connection_close",
    "proxy_on_downstream_data",
    "proxy_on_foreign_function",
    "proxy_on_grpc_close",
    "proxy_on_grpc_receive",
    "proxy_on_grpc_receive_initial_metadata",
    "proxy_on_grpc_receive_trailing_metadata",
    "proxy_on_http_call_response",
    "proxy_on_log",
    "proxy_on_new_connection",
    "proxy_on_queue_ready",
    "proxy_on_request_body",
    "proxy_on_request_headers",
    "proxy_on_request_metadata",
    "proxy_on_request_trailers",
    "proxy_on_response_body",
    "proxy_on_response_headers",
    "proxy_on_response_metadata",
    "proxy_on_response_trailers",
    "proxy_on_tick",
    "proxy_on_upstream_connection_close",
    "proxy_on_upstream_data",
    "proxy_validate_configuration",
];

/// The exports that make a module a plugin at all: its memory, its initialisation, its allocator
/// and the life of its contexts.
const ESSENTIAL: &[&str] = &[
    "__wasm_call_ctors",
    "_initialize",
    "_start",
    "main",
    "malloc",
    "memory",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_memory_allocate",
    "proxy_on_vm_start",
];

/// An export whose name says which version of the ABI the plugin speaks.
const ABI_VERSION_PREFIX: &str = "proxy_abi_version_";

/// Whether an export is kept whatever the plugin declares.
pub(crate) fn is_essential(export: &str) -> bool {
    ESSENTIAL.contains(&export) || export.starts_with(ABI_VERSION_PREFIX)
}

/// Whether an export is a callback that Envoy can do without.
pub(crate) fn is_optional(export: &str) -> bool {
    OPTIONAL.contains(&export)
}

/// The optional callbacks that a plugin declares it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declaration(BTreeSet<&'static str>);

impl Declaration {
    /// Reads the contents of the section [`SECTION`].
    pub(crate) fn parse(section: &[u8]) -> Result<Self, InvalidDeclaration> {
        let end = section.iter().rposition(|byte| *byte != 0);
        let Some(text) = end.and_then(|last| section.get(..=last)) else {
            return Ok(Self(BTreeSet::new()));
        };
        let text = String::from_utf8_lossy(text);
        text.split(',').map(str::trim).map(optional).collect()
    }

    pub(crate) fn contains(&self, callback: &str) -> bool {
        self.0.contains(callback)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().copied()
    }
}

impl FromIterator<&'static str> for Declaration {
    fn from_iter<I: IntoIterator<Item = &'static str>>(callbacks: I) -> Self {
        Self(callbacks.into_iter().collect())
    }
}

fn optional(name: &str) -> Result<&'static str, InvalidDeclaration> {
    let known = OPTIONAL.iter().find(|known| **known == name);
    known.copied().ok_or_else(|| InvalidDeclaration {
        name: name.to_owned(),
    })
}

/// A name in the section [`SECTION`] that no optional callback has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InvalidDeclaration {
    name: String,
}

impl fmt::Display for InvalidDeclaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name } = self;
        write!(f, "the section {SECTION:?} lists {name:?}, ")?;
        match is_essential(name) {
            true => f.write_str("which every plugin keeps: leave it out of the list"),
            false => write!(f, "expected one of {}", OPTIONAL.join(", ")),
        }
    }
}

impl std::error::Error for InvalidDeclaration {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(section: &[u8]) -> Vec<&'static str> {
        Declaration::parse(section).unwrap().iter().collect()
    }

    fn rejected(section: &[u8]) -> String {
        Declaration::parse(section).unwrap_err().to_string()
    }

    #[test]
    fn lists_are_sorted_sets() {
        assert_eq!(
            parsed(b"proxy_on_tick,proxy_on_log,proxy_on_tick"),
            ["proxy_on_log", "proxy_on_tick"]
        );
    }

    #[test]
    fn padding_and_white_space_are_ignored() {
        assert_eq!(
            parsed(b"proxy_on_log, proxy_on_tick\n\0\0\0"),
            ["proxy_on_log", "proxy_on_tick"]
        );
    }

    #[test]
    fn a_plugin_may_need_nothing() {
        assert_eq!(parsed(b""), [""; 0]);
        assert_eq!(parsed(b"\0\0"), [""; 0]);
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known_ones() {
        let error = rejected(b"proxy_on_log,proxy_on_requests");
        assert!(
            error.contains(r#"lists "proxy_on_requests", expected one of proxy_on_done"#),
            "{error}"
        );
    }

    #[test]
    fn names_run_together_are_an_error() {
        for section in [
            &b"proxy_on_log,"[..],
            b",",
            b"proxy_on_logproxy_on_tick",
            b"proxy_on_log\0proxy_on_tick",
            b"proxy_on_l\xffg",
        ] {
            rejected(section);
        }
    }

    #[test]
    fn what_every_plugin_keeps_is_not_declared() {
        let error = rejected(b"proxy_on_configure");
        assert!(error.contains("leave it out of the list"), "{error}");
    }

    #[test]
    fn no_export_is_both_essential_and_optional() {
        assert!(OPTIONAL.is_sorted() && ESSENTIAL.is_sorted());
        assert!(!OPTIONAL.iter().any(|callback| is_essential(callback)));
        assert!(is_essential("proxy_abi_version_0_2_1"));
    }
}
