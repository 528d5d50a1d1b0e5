//! Problems as gRPC and gRPC-Web say them: a status code and a message.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// The gRPC status code that says what the HTTP status of a problem says; UNKNOWN if none does.
///
/// 429 is RESOURCE_EXHAUSTED, which clients do not blindly retry, rather than the UNAVAILABLE that
/// a proxy would make of it.
pub fn code(status: u16) -> i32 {
    match status {
        400 | 411 | 414 | 417 | 422 => 3,        // INVALID_ARGUMENT
        401 | 407 | 511 => 16,                   // UNAUTHENTICATED
        402 | 403 | 451 => 7,                    // PERMISSION_DENIED
        404 | 405 | 406 | 410 | 415 | 501 => 12, // UNIMPLEMENTED
        408 => 4,                                // DEADLINE_EXCEEDED
        409 | 423 => 10,                         // ABORTED
        412 | 424 | 426 | 428 => 9,              // FAILED_PRECONDITION
        416 => 11,                               // OUT_OF_RANGE
        413 | 429 | 431 | 507 => 8,              // RESOURCE_EXHAUSTED
        499 => 1,                                // CANCELLED
        500 => 13,                               // INTERNAL
        421 | 425 | 502..=504 => 14,             // UNAVAILABLE
        _ => 2,                                  // UNKNOWN
    }
}

/// Whether a code says that the server has failed, and not that something is wrong with the call:
/// UNKNOWN, INTERNAL, UNAVAILABLE and DATA_LOSS.
pub fn is_servers_fault(code: i32) -> bool {
    matches!(code, 2 | 13 | 14 | 15)
}

/// A text as the value of `grpc-message`: percent-encoded but for printable ASCII (gRPC over HTTP2,
/// "Percent-Encoded").
pub fn encode_message(message: &str) -> String {
    const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');
    utf8_percent_encode(message, ESCAPED).to_string()
}

/// How a gRPC-Web body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebFormat {
    /// `application/grpc-web`, alone or followed by `+` and a format.
    Binary,
    /// `application/grpc-web-text`, likewise: the binary form in base64.
    Text,
}

impl WebFormat {
    /// Reads the content type of a request; `None` if it is not gRPC-Web.
    pub fn of(content_type: &[u8]) -> Option<Self> {
        let essence = content_type.split(|byte| *byte == b';').next()?;
        let name = essence.trim_ascii().split(|byte| *byte == b'+').next()?;
        if name.eq_ignore_ascii_case(b"application/grpc-web") {
            Some(WebFormat::Binary)
        } else if name.eq_ignore_ascii_case(b"application/grpc-web-text") {
            Some(WebFormat::Text)
        } else {
            None
        }
    }

    /// The content type of the answer, whose HTTP status is 200.
    pub fn content_type(self) -> &'static str {
        match self {
            WebFormat::Binary => "application/grpc-web+proto",
            WebFormat::Text => "application/grpc-web-text+proto",
        }
    }

    /// The body of an answer without a message of its own: one frame of trailers (gRPC-Web,
    /// "Protocol differences vs gRPC over HTTP2").
    pub fn trailers(self, code: i32, message: &str) -> Vec<u8> {
        /// The bit that tells trailers from a message, which are not compressed.
        const TRAILERS: u8 = 0x80;
        let block = format!(
            "grpc-status:{code}\r\ngrpc-message:{}\r\n",
            encode_message(message)
        );
        let length = u32::try_from(block.len()).unwrap_or(u32::MAX);
        let mut frame = vec![TRAILERS];
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(block.as_bytes());
        match self {
            WebFormat::Binary => frame,
            WebFormat::Text => STANDARD.encode(frame).into_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tollgate_core::policy::ResponseHeaders;
    use tollgate_core::problem::{Kind, Problem, RenderContext};
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn codes_are_those_of_the_gateways_own_refusals() {
        for status in [400, 401, 403, 404, 410, 429, 500, 502, 503, 504] {
            let kind = Box::leak(Box::new(Kind {
                name: "any",
                status,
                registered: None,
            }));
            let context = RenderContext {
                grpc: true,
                ..RenderContext::default()
            };
            let reply = Problem::new(kind, "").render(&context, &ResponseHeaders::default());
            assert_eq!(reply.grpc_status, Some(code(status)), "{status}");
        }
        assert!((400..600).all(|status| (1..=16).contains(&code(status))));
    }

    #[test]
    fn messages_are_printable_ascii() {
        assert_eq!(encode_message("50 % für\r\n"), "50 %25 f%C3%BCr%0D%0A");
    }

    #[test]
    fn content_types_of_grpc_web_are_told_apart() {
        use WebFormat::{Binary, Text};
        for (content_type, expected) in [
            ("application/grpc-web", Some(Binary)),
            ("application/grpc-web+proto", Some(Binary)),
            ("Application/gRPC-Web+json; charset=utf-8", Some(Binary)),
            ("application/grpc-web-text", Some(Text)),
            ("application/grpc-web-text+proto", Some(Text)),
            ("application/grpc", None),
            ("application/grpc-webx", None),
            ("", None),
        ] {
            assert_eq!(
                WebFormat::of(content_type.as_bytes()),
                expected,
                "{content_type}"
            );
        }
    }

    #[test]
    fn trailers_are_one_frame() {
        let frame = WebFormat::Binary.trailers(16, "No key.");
        let block = b"grpc-status:16\r\ngrpc-message:No key.\r\n";
        assert_eq!(frame[..5], [0x80, 0, 0, 0, block.len() as u8]);
        assert_eq!(&frame[5..], block);
        let text = WebFormat::Text.trailers(16, "No key.");
        assert_eq!(STANDARD.decode(text).unwrap(), frame);
    }

    proptest! {
        #[test]
        fn a_message_round_trips(message in any::<String>()) {
            let encoded = encode_message(&message);
            prop_assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let decoded = percent_encoding::percent_decode_str(&encoded).decode_utf8().unwrap();
            prop_assert_eq!(decoded, message);
        }
    }
}
