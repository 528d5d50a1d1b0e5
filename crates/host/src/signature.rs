//! Signatures checked by Envoy, whose cryptography is native: its foreign function
//! `verify_signature`, which takes and gives protobuf messages
//! (`source/extensions/common/wasm/ext/verify_signature.proto`).

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use tollgate_core::host::Hash;

use crate::abi;

/// Field numbers of `VerifySignatureArguments`.
const HASH_FUNCTION: u32 = 1;
const PUBLIC_KEY: u32 = 2;
const SIGNATURE: u32 = 3;
const TEXT: u32 = 4;

/// How Envoy begins to say that a signature does not fit. Anything else it says, as that it can't
/// use the key, leaves the question open.
const DOES_NOT_FIT: &[u8] = b"Failed to verify digest";

/// Checks a signature; `None` if Envoy can't.
pub(crate) fn verify(hash: Hash, key: &[u8], signature: &[u8], message: &[u8]) -> Option<bool> {
    let hash = match hash {
        Hash::Sha256 => "sha256",
        Hash::Sha384 => "sha384",
        Hash::Sha512 => "sha512",
    };
    let mut arguments = Vec::with_capacity(
        [hash.as_bytes(), key, signature, message]
            .iter()
            .map(|field| field.len().saturating_add(8))
            .sum(),
    );
    for (number, field) in [
        (HASH_FUNCTION, hash.as_bytes()),
        (PUBLIC_KEY, key),
        (SIGNATURE, signature),
        (TEXT, message),
    ] {
        encode_key(number, WireType::LengthDelimited, &mut arguments);
        encode_varint(field.len() as u64, &mut arguments);
        arguments.extend_from_slice(field);
    }
    answer(&abi::call_foreign_function("verify_signature", &arguments).ok()?)
}

/// Reads a `VerifySignatureResult`: field 1 says whether the signature fits, field 2 why not.
fn answer(mut result: &[u8]) -> Option<bool> {
    match decode_key(&mut result).ok()? {
        (1, WireType::Varint) => (decode_varint(&mut result).ok()? == 1).then_some(true),
        (2, WireType::LengthDelimited) => {
            decode_varint(&mut result).ok()?;
            result.starts_with(DOES_NOT_FIT).then_some(false)
        }
        _ => None,
    }
}
