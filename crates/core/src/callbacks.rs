//! The host's callbacks, and how a plugin says which of them it needs.

/// A set of host callbacks. One that a plugin does not need is not exported, and Envoy then does
/// not enter the plugin for it: an exported body callback is entered for every chunk of every body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callbacks(u8);

impl Callbacks {
    /// The request's headers: every plugin needs them.
    pub const REQUEST_HEADERS: Callbacks = Callbacks(1);
    /// The response's headers, Envoy's own replies included.
    pub const RESPONSE_HEADERS: Callbacks = Callbacks(1 << 1);
    /// The request's trailers, for a policy that [reserves](crate::policy::Policy::reserves) headers.
    pub const REQUEST_TRAILERS: Callbacks = Callbacks(1 << 2);
    /// Ticks and answers to callouts, for a policy that [asks](crate::policy::Policy::tick) others.
    pub const CALLOUTS: Callbacks = Callbacks(1 << 3);

    const NAMES: [(Callbacks, &'static str); 5] = [
        (Callbacks::REQUEST_HEADERS, "proxy_on_request_headers"),
        (Callbacks::REQUEST_TRAILERS, "proxy_on_request_trailers"),
        (Callbacks::RESPONSE_HEADERS, "proxy_on_response_headers"),
        (Callbacks::CALLOUTS, "proxy_on_tick"),
        (Callbacks::CALLOUTS, "proxy_on_http_call_response"),
    ];

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Callbacks) -> Callbacks {
        Callbacks(self.0 | other.0)
    }

    /// Whether all of `other` are in this set.
    pub const fn contains(self, other: Callbacks) -> bool {
        self.0 & other.0 == other.0
    }

    /// The proxy-wasm names of the callbacks, joined by commas and padded with NULs: the form in
    /// which a plugin declares them to the packaging step.
    #[allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "evaluated by the compiler: a mistake is a compile error"
    )]
    pub const fn declaration<const N: usize>(self) -> [u8; N] {
        let mut text = [0; N];
        let mut length = 0;
        let mut index = 0;
        while index < Callbacks::NAMES.len() {
            let (callback, name) = Callbacks::NAMES[index];
            if self.contains(callback) {
                if length > 0 {
                    text[length] = b',';
                    length += 1;
                }
                let name = name.as_bytes();
                let mut at = 0;
                while at < name.len() {
                    text[length] = name[at];
                    length += 1;
                    at += 1;
                }
            }
            index += 1;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn callbacks_are_declared_by_their_proxy_wasm_names() {
        let declare = |callbacks: Callbacks| {
            let text = callbacks.declaration::<192>();
            String::from_utf8(text.to_vec())
                .unwrap()
                .trim_end_matches('\0')
                .to_owned()
        };
        assert_eq!(
            declare(Callbacks::REQUEST_HEADERS),
            "proxy_on_request_headers"
        );
        assert_eq!(
            declare(Callbacks::REQUEST_HEADERS.union(Callbacks::RESPONSE_HEADERS)),
            "proxy_on_request_headers,proxy_on_response_headers"
        );
    }
}
