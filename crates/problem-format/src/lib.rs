//! How a gateway's problems (RFC 9457) are written, and how an operator words them.
//!
//! A [`Document`] is one problem; [`choose`] finds the [`MediaType`] that the client understands
//! best, and [`Document::render`] writes it. [`Settings`] are what an operator has set: other
//! types, titles, statuses, members and headers by kind. A gRPC call gets a status code and a
//! message instead ([`grpc`]). What Envoy refuses or fails at by itself becomes a kind by
//! [`from_details`].
//!
//! ```
//! use tollgate_core::problem::CREDENTIALS_MISSING;
//! use tollgate_problem_format::{Document, choose};
//!
//! let accept = ["text/html;q=0.1, application/json"];
//! let media = choose(accept.iter().map(|value| value.as_bytes()));
//! let document = Document::new(&CREDENTIALS_MISSING, "This API needs an API key.");
//! assert_eq!(media.content_type(), "application/json");
//! assert!(document.render(media, "en").starts_with(br#"{"type":"about:blank","title":"#));
//! ```

mod accept;
mod cors;
mod document;
mod envoy;
mod escape;
pub mod grpc;
mod html;
pub mod kinds;
mod origin;
mod section;
mod settings;
mod status;
#[cfg(test)]
mod testing;
mod text;
mod values;
mod xml;

pub use accept::{MediaType, choose};
pub use cors::{Cors, CorsConfig};
pub use document::Document;
pub use envoy::{EnvoyReply, from_call_details, from_details};
pub use html::CONTENT_SECURITY_POLICY;
pub use origin::{AllowedOrigin, InvalidOrigin};
pub use section::{Override, Section, Wrap};
pub use settings::Settings;
pub use values::{
    ErrorStatus, HeaderText, InvalidHeaderText, InvalidLanguage, InvalidLine, InvalidMemberName,
    InvalidOverrideHeader, InvalidTypeBase, InvalidTypeUri, Language, Line, MemberName,
    OverrideHeader, TypeBase, TypeUri,
};
