//! The `traceparent` header of W3C Trace Context.

use tollgate_core::headers::Headers;
use tollgate_core::host::Host;
use uuid::Uuid;

pub(crate) const TRACEPARENT: &str = "traceparent";
pub(crate) const TRACESTATE: &str = "tracestate";

/// 16 bytes, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceId(u128);

impl TraceId {
    /// The bits of a UUID, which are never all zero: it has a version.
    pub(crate) fn from_uuid(uuid: Uuid) -> Self {
        TraceId(uuid.as_u128())
    }

    /// 32 lower-case hexadecimal digits.
    pub(crate) fn to_text(self) -> String {
        let mut digits = [0; 32];
        self.encode(&mut digits).to_owned()
    }

    fn encode(self, digits: &mut [u8; 32]) -> &str {
        Uuid::from_u128(self.0).simple().encode_lower(digits)
    }
}

/// A trace, and the span that is the parent of what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traceparent {
    pub(crate) trace_id: TraceId,
    parent_id: u64,
}

/// The length of version 00: `00-` trace id `-` parent id `-` flags.
const LENGTH: usize = 55;

impl Traceparent {
    /// The request's trace context, if it has exactly one and that is valid.
    pub(crate) fn read(request: &Headers) -> Option<Self> {
        let mut values = request.get_all(TRACEPARENT);
        let (first, second) = (values.next(), values.next());
        std::str::from_utf8(first?)
            .ok()
            .filter(|_| second.is_none())
            .and_then(Self::parse)
    }

    /// Version 00 has exactly its four fields; of a later version the same four are read, and more
    /// may follow behind another hyphen (section 4.3).
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.get(..LENGTH)?.split('-');
        let version = hex(fields.next()?, 2)?;
        let trace_id = hex(fields.next()?, 32).filter(|id| *id != 0)?;
        let parent_id = hex(fields.next()?, 16).filter(|id| *id != 0)?;
        hex(fields.next()?, 2)?;
        let complete = match version {
            0x00 => text.len() == LENGTH,
            0xff => false,
            _ => matches!(text.as_bytes().get(LENGTH), None | Some(b'-')),
        };
        let parent_id = u64::try_from(parent_id).ok()?;
        complete.then_some(Traceparent {
            trace_id: TraceId(trace_id),
            parent_id,
        })
    }

    /// The first span of a new trace. Whether it is recorded is left to whoever comes next, so it
    /// is not marked as sampled.
    pub(crate) fn start<H: Host>(trace_id: TraceId, host: &H) -> Self {
        let mut random = [0; 8];
        host.fill_random(&mut random);
        Traceparent {
            trace_id,
            parent_id: u64::from_be_bytes(random).max(1),
        }
    }

    /// The header's value, in version 00. Written out, for it is done for most requests, and a
    /// formatter costs ten times as much.
    pub(crate) fn to_text(self) -> String {
        let mut digits = [0; 32];
        let mut text = String::with_capacity(LENGTH);
        text.push_str("00-");
        text.push_str(self.trace_id.encode(&mut digits));
        text.push('-');
        let parent = Uuid::from_u128(self.parent_id.into());
        let parent = parent.simple().encode_lower(&mut digits);
        text.push_str(parent.get(16..).unwrap_or_default());
        text.push_str("-00");
        text
    }
}

/// Lower-case hexadecimal digits, exactly so many: upper-case ones are invalid (section 3.2).
fn hex(digits: &str, length: usize) -> Option<u128> {
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.len() != length || !digits.bytes().all(lower) {
        return None;
    }
    u128::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_valid_contexts_are_read() {
        assert_eq!(
            Traceparent::parse(GOOD).unwrap().trace_id.to_text(),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        let later = GOOD.replacen("00", "cc", 1);
        assert!(Traceparent::parse(&later).is_some());
        assert!(Traceparent::parse(&format!("{later}-more")).is_some());
        for bad in [
            "",
            &GOOD.replace("-01", "-0"),
            &format!("{GOOD}-more"),
            &format!("{later}.more"),
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GOOD.replace('-', "_"),
            &GOOD.replace("01", "+1"),
            "00-4bf92f3577b34da6a3ce929d0e0e473ü-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Traceparent::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(trace in 1_u128.., parent in 1_u64..) {
            let started = Traceparent { trace_id: TraceId(trace), parent_id: parent };
            let text = started.to_text();
            prop_assert_eq!(&text, &format!("00-{trace:032x}-{parent:016x}-00"));
            prop_assert_eq!(Traceparent::parse(&text), Some(started));
            prop_assert_eq!(started.trace_id.to_text(), format!("{trace:032x}"));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}") {
            let _ = Traceparent::parse(&text);
        }
    }
}
