//! Which client a request is of.

use std::borrow::Cow;
use std::net::IpAddr;

use tollgate_claims::key_text;
use tollgate_core::headers::Headers;
use tollgate_core::host::Host;
use tollgate_core::lookup::{cookie_values, query_values};
use tollgate_core::policy::Exchange;
use tollgate_rate_table::{ClientHash, Seed};

use crate::config::KeyPart;

/// What makes one client of a limit.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    parts: Vec<KeyPart>,
}

impl Key {
    pub(crate) fn new(parts: Vec<KeyPart>) -> Self {
        Key { parts }
    }

    /// Whether only names from the configuration tell the clients apart, so that their number is
    /// known and each can have a record of its own.
    pub(crate) fn is_bounded(&self) -> bool {
        self.parts.iter().all(|part| match part {
            KeyPart::Consumer | KeyPart::Plan | KeyPart::Api | KeyPart::Global => true,
            KeyPart::Route
            | KeyPart::ClientAddress { .. }
            | KeyPart::Header(_)
            | KeyPart::Query(_)
            | KeyPart::Cookie(_)
            | KeyPart::Claim(_) => false,
        })
    }

    /// Whether it needs to be known who calls.
    pub(crate) fn needs_identity(&self) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, KeyPart::Consumer | KeyPart::Plan))
    }

    /// Whether it looks at the caller's token.
    pub(crate) fn needs_token(&self) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, KeyPart::Claim(_)))
    }

    /// Whether it needs to be known which API the request is for.
    pub(crate) fn needs_api(&self) -> bool {
        self.parts.contains(&KeyPart::Api)
    }

    /// How many things tell clients apart: the more, the more specific the limit.
    pub(crate) fn len(&self) -> usize {
        self.parts
            .iter()
            .filter(|part| **part != KeyPart::Global)
            .count()
    }

    /// The client, under the limit's name. What a request lacks counts as empty: all requests
    /// without a header are one client's, so leaving it out is no way around a limit.
    pub(crate) fn client<H: Host>(
        &self,
        seed: &Seed,
        limit: &str,
        x: &Exchange<'_, H>,
    ) -> ClientHash {
        let values = self.parts.iter().map(|part| value(part, x));
        seed.client(std::iter::once(limit.as_bytes().to_vec()).chain(values))
    }

    /// The names that make up the client of a bounded key, behind one another; no name has a space.
    pub(crate) fn names<H>(&self, x: &Exchange<'_, H>, key: &mut String) {
        for part in &self.parts {
            let name = match part {
                KeyPart::Consumer => x.facts.consumer.as_ref().map(|consumer| &*consumer.id),
                KeyPart::Plan => x.facts.plan.as_ref().map(|plan| &*plan.name),
                KeyPart::Api => Some(x.api_name()),
                _ => None,
            };
            key.push(' ');
            key.push_str(name.unwrap_or_default());
        }
    }
}

fn value<H: Host>(part: &KeyPart, x: &Exchange<'_, H>) -> Vec<u8> {
    match part {
        KeyPart::ClientAddress {
            ipv4_prefix,
            ipv6_prefix,
        } => x
            .client_address()
            .map_or_else(Vec::new, |address| match address {
                IpAddr::V4(address) => {
                    let kept = u32::MAX.checked_shl(32_u32.saturating_sub((*ipv4_prefix).into()));
                    (address.to_bits() & kept.unwrap_or_default())
                        .to_be_bytes()
                        .to_vec()
                }
                IpAddr::V6(address) => {
                    let kept = u128::MAX.checked_shl(128_u32.saturating_sub((*ipv6_prefix).into()));
                    (address.to_bits() & kept.unwrap_or_default())
                        .to_be_bytes()
                        .to_vec()
                }
            }),
        KeyPart::Consumer => x
            .facts
            .consumer
            .as_ref()
            .map(|consumer| consumer.id.as_bytes().to_vec())
            .unwrap_or_default(),
        KeyPart::Plan => x
            .facts
            .plan
            .as_ref()
            .map(|plan| plan.name.as_bytes().to_vec())
            .unwrap_or_default(),
        KeyPart::Api => x.api_name().as_bytes().to_vec(),
        KeyPart::Route => x.host.route_name().unwrap_or_default().into_bytes(),
        KeyPart::Global => Vec::new(),
        // A claim that is no text, number or truth value is like one that is not there.
        KeyPart::Claim(claim) => x
            .facts
            .token
            .as_ref()
            .and_then(|token| claim.find(&token.claims))
            .and_then(key_text)
            .map(Cow::into_owned)
            .unwrap_or_default(),
        KeyPart::Header(name) => first(x.request, name.as_str()),
        KeyPart::Query(name) => {
            let path = x.request.get(":path").unwrap_or_default();
            query_values(path, name)
                .next()
                .map(|value| value.into_owned())
                .unwrap_or_default()
        }
        KeyPart::Cookie(name) => cookie_values(x.request, name)
            .next()
            .map(<[u8]>::to_vec)
            .unwrap_or_default(),
    }
}

fn first(request: &Headers, name: &str) -> Vec<u8> {
    request.get(name).map(<[u8]>::to_vec).unwrap_or_default()
}
