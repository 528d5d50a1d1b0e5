//! Requests that can't be judged.

use std::fmt;

/// A request that can't be judged, because a server behind might take it for another.
///
/// `Display` gives the [explanation](AmbiguousRequest::explanation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AmbiguousRequest {
    /// The target is neither a path nor an absolute URL, `*` or empty.
    NotAPath,
    /// The target has a raw `#`.
    Fragment,
    /// The path has a `%` that two hexadecimal digits do not follow.
    MalformedEscape,
    /// The target has a control character, raw or escaped.
    ControlCharacter,
    /// The path has a backslash, raw or escaped, which some servers take for a slash.
    Backslash,
    /// The path has an escaped slash.
    EscapedSlash,
    /// The path has a dot segment that only some servers recognise: `..;x`, or one next to a `%2F`.
    DisguisedDotSegment,
    /// The path's `..` lead above the root.
    AboveRoot,
    /// The path has a character of ASCII in an overlong encoding of UTF-8 (RFC 3629 §10).
    OverlongEncoding,
    /// The path has readings to which different rules apply.
    PathReadings,
    /// The authority is not a host with an optional port.
    MalformedHost,
    /// The authority has readings to which different rules apply.
    HostReadings,
    /// The method is not a token, or has lower-case letters, which some servers take for capitals.
    MalformedMethod,
}

impl AmbiguousRequest {
    /// A stable name for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAPath => "not_a_path",
            Self::Fragment => "fragment",
            Self::MalformedEscape => "malformed_escape",
            Self::ControlCharacter => "control_character",
            Self::Backslash => "backslash",
            Self::EscapedSlash => "escaped_slash",
            Self::DisguisedDotSegment => "disguised_dot_segment",
            Self::AboveRoot => "above_root",
            Self::OverlongEncoding => "overlong_encoding",
            Self::PathReadings => "path_readings",
            Self::MalformedHost => "malformed_host",
            Self::HostReadings => "host_readings",
            Self::MalformedMethod => "malformed_method",
        }
    }

    /// One sentence for the client. It tells nothing of how the gateway is configured.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::NotAPath => "The request target is not a path that begins with a slash.",
            Self::Fragment => "The request target has a fragment (#), which must not be sent.",
            Self::MalformedEscape => {
                "The path has a percent sign that two hexadecimal digits do not follow."
            }
            Self::ControlCharacter => "The request target has a control character.",
            Self::Backslash => "The path has a backslash.",
            Self::EscapedSlash => "The path has an escaped slash (%2F).",
            Self::DisguisedDotSegment => "The path has a dot segment in disguise.",
            Self::AboveRoot => "The path leads above the root.",
            Self::OverlongEncoding => "The path has an overlong encoding of a character.",
            Self::PathReadings => "The path can be read in more than one way.",
            Self::MalformedHost => "The host is not a name or an address with an optional port.",
            Self::HostReadings => {
                "The host can be read in more than one way, send it without port and trailing dot."
            }
            Self::MalformedMethod => "The method is not a word in capital letters.",
        }
    }
}

impl fmt::Display for AmbiguousRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.explanation())
    }
}

impl std::error::Error for AmbiguousRequest {}
