//! One problem, as it is written.

use std::borrow::Cow;

use serde::Serializer;
use serde_json::Value;
use tollgate_core::problem::Kind;

use crate::accept::MediaType;
use crate::{html, status, text, xml};

/// The type that says no more than the status does (RFC 9457 section 4.2.1).
pub(crate) const ABOUT_BLANK: &str = "about:blank";

/// The members that every problem may have, which no extension may be named after.
pub(crate) const OWN_MEMBERS: [&str; 6] = ["type", "title", "status", "detail", "instance", "kind"];

/// A problem (RFC 9457 section 3.1), ready to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Document<'a> {
    /// The problem type, a URI.
    pub type_uri: Cow<'a, str>,
    /// What the type is about, the same for every occurrence.
    pub title: Cow<'a, str>,
    /// The HTTP status.
    pub status: u16,
    /// What is particular to this occurrence, for people.
    pub detail: Cow<'a, str>,
    /// A URI that names this occurrence.
    pub instance: Option<Cow<'a, str>>,
    /// The kind's name, for programs.
    pub kind: &'a str,
    extensions: Vec<(Cow<'a, str>, Cow<'a, Value>)>,
}

impl<'a> Document<'a> {
    /// A problem with the type, title and status of its kind.
    pub fn new(kind: &'a Kind, detail: impl Into<Cow<'a, str>>) -> Self {
        let (type_uri, title) = match &kind.registered {
            Some(registered) => (registered.uri, registered.title),
            None => (ABOUT_BLANK, status::phrase(kind.status)),
        };
        Document {
            type_uri: type_uri.into(),
            title: title.into(),
            status: kind.status,
            detail: detail.into(),
            instance: None,
            kind: kind.name,
            extensions: Vec::new(),
        }
    }

    /// Sets an extension member (RFC 9457 section 3.2), in place of one with that name. The
    /// members that are fields here can't be set so: such a name is passed over.
    pub fn extend(&mut self, name: impl Into<Cow<'a, str>>, value: Cow<'a, Value>) {
        let name = name.into();
        if OWN_MEMBERS.contains(&&*name) {
            return;
        }
        match self.extensions.iter_mut().find(|(own, _)| *own == name) {
            Some((_, own)) => *own = value,
            None => self.extensions.push((name, value)),
        }
    }

    /// The extension members in the order in which they were first set.
    pub fn extensions(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.extensions
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// Writes it, in UTF-8. `language` is that of the title and the detail, as a tag (RFC 5646).
    pub fn render(&self, media: MediaType, language: &str) -> Vec<u8> {
        match media {
            MediaType::ProblemJson | MediaType::Json => self.json(),
            MediaType::ProblemXml => xml::write(self, language).into_bytes(),
            MediaType::Text => text::write(self).into_bytes(),
            MediaType::Html => html::write(self, language).into_bytes(),
        }
    }

    /// The members in the order in which RFC 9457 presents them, ours behind.
    fn json(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(512);
        let mut serializer = serde_json::Serializer::new(&mut body);
        // Names are text and the values are JSON already, so nothing can fail.
        let _ = serializer.collect_map(self.members());
        body
    }

    fn members(&self) -> impl Iterator<Item = (&str, Member<'_>)> {
        let instance = self.instance.as_deref();
        [
            ("type", Member::Text(&self.type_uri)),
            ("title", Member::Text(&self.title)),
            ("status", Member::Status(self.status)),
            ("detail", Member::Text(&self.detail)),
        ]
        .into_iter()
        .chain(instance.map(|uri| ("instance", Member::Text(uri))))
        .chain([("kind", Member::Text(self.kind))])
        .chain(
            self.extensions()
                .map(|(name, value)| (name, Member::Json(value))),
        )
    }
}

/// The value of a member.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum Member<'a> {
    Text(&'a str),
    Status(u16),
    Json(&'a Value),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use tollgate_core::policy::ResponseHeaders;
    use tollgate_core::problem::{
        CREDENTIALS_MISSING, GATEWAY_FAULT, Problem, QUOTA_EXCEEDED_TYPE, REQUEST_AMBIGUOUS,
        RenderContext,
    };
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::testing::any_document;

    #[test]
    fn json_has_the_members_in_the_order_of_the_rfc() {
        let kind = Kind {
            name: "throttled",
            status: 429,
            registered: Some(QUOTA_EXCEEDED_TYPE),
        };
        let mut document = Document::new(&kind, "Slow \"down\".");
        document.instance = Some("urn:uuid:1".into());
        document.extend("violated-policies", Cow::Owned(json!(["day"])));
        let json = document.render(MediaType::ProblemJson, "en");
        let expected = format!(
            r#"{{"type":"{}","title":"{}","status":429,"detail":"Slow \"down\".","instance":"urn:uuid:1","kind":"throttled","violated-policies":["day"]}}"#,
            QUOTA_EXCEEDED_TYPE.uri, QUOTA_EXCEEDED_TYPE.title,
        );
        assert_eq!(String::from_utf8(json).unwrap(), expected);
    }

    #[test]
    fn json_is_what_a_problem_is_without_any_settings() {
        for kind in [&CREDENTIALS_MISSING, &GATEWAY_FAULT, &REQUEST_AMBIGUOUS] {
            let problem = Problem::new(kind, "So it is.").with("limit", json!([1]));
            let reply = problem.render(&RenderContext::default(), &ResponseHeaders::default());
            let mut document = Document::new(kind, "So it is.");
            document.extend("limit", Cow::Owned(json!([1])));
            assert_eq!(document.render(MediaType::ProblemJson, "en"), reply.body);
        }
    }

    #[test]
    fn a_member_is_there_once() {
        let mut document = Document::new(&CREDENTIALS_MISSING, "No key.");
        document.extend("support", Cow::Owned(json!("a")));
        document.extend("status", Cow::Owned(json!(200)));
        document.extend("support", Cow::Owned(json!("b")));
        let json = String::from_utf8(document.render(MediaType::Json, "en")).unwrap();
        assert_eq!(
            json,
            r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"No key.","kind":"credentials-missing","support":"b"}"#
        );
    }

    proptest! {
        #[test]
        fn json_round_trips(document in any_document()) {
            let read: Value = serde_json::from_slice(&document.render(MediaType::ProblemJson, "en")).unwrap();
            let mut expected = json!({
                "type": document.type_uri,
                "title": document.title,
                "status": document.status,
                "detail": document.detail,
                "kind": document.kind,
            });
            if let Some(uri) = &document.instance {
                expected["instance"] = json!(uri);
            }
            for (name, value) in document.extensions() {
                expected[name] = value.clone();
            }
            prop_assert_eq!(read, expected);
        }
    }
}
