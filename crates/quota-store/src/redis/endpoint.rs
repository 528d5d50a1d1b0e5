//! Where the HTTP front is, and how it knows us.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::uri::Authority;

use super::HttpRequest;

/// The address of an HTTP front, and our credentials there. Has no `Debug`: these are secret.
#[derive(Clone)]
pub struct Endpoint {
    authority: String,
    base_path: String,
    authorization: Option<String>,
}

/// What is shown to the HTTP front. Has no `Debug`.
#[derive(Clone)]
pub enum Credentials {
    /// Nothing.
    None,
    /// `Authorization: Bearer`, RFC 6750.
    Bearer {
        /// The token.
        token: String,
    },
    /// `Authorization: Basic`, RFC 7617.
    Basic {
        /// The user's name, without a colon.
        user: String,
        /// The password.
        password: String,
    },
}

impl Endpoint {
    /// The front at this host, and port if need be, below this path; an empty one, or `/`, for none.
    ///
    /// # Errors
    ///
    /// When a request could not be made of them.
    pub fn new(
        authority: &str,
        base_path: &str,
        credentials: Credentials,
    ) -> Result<Endpoint, InvalidEndpoint> {
        Ok(Endpoint {
            authority: parse_authority(authority)?,
            base_path: parse_base_path(base_path)?,
            authorization: authorization(credentials)?,
        })
    }

    pub(super) fn post(&self, path: &str, content_type: &str, body: String) -> HttpRequest {
        let mut headers = vec![("content-type", content_type.to_owned())];
        if let Some(authorization) = &self.authorization {
            headers.push(("authorization", authorization.clone()));
        }
        HttpRequest {
            method: "POST",
            authority: self.authority.clone(),
            path: format!("{}{path}", self.base_path),
            headers,
            body,
        }
    }
}

fn parse_authority(text: &str) -> Result<String, InvalidEndpoint> {
    let invalid = || InvalidEndpoint::Authority(text.to_owned());
    let authority: Authority = text.parse().map_err(|_| invalid())?;
    let host_and_port = !authority.host().is_empty() && !text.contains('@');
    let port_is_number = text.ends_with(authority.host()) || authority.port_u16().is_some();
    match host_and_port && port_is_number {
        true => Ok(text.to_owned()),
        false => Err(invalid()),
    }
}

fn parse_base_path(text: &str) -> Result<String, InvalidEndpoint> {
    let path = text.strip_suffix('/').unwrap_or(text);
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte);
    match (path.is_empty() || path.starts_with('/')) && path.bytes().all(allowed) {
        true => Ok(path.to_owned()),
        false => Err(InvalidEndpoint::BasePath(text.to_owned())),
    }
}

fn authorization(credentials: Credentials) -> Result<Option<String>, InvalidEndpoint> {
    match credentials {
        Credentials::None => Ok(None),
        Credentials::Bearer { token } => {
            match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
                true => Ok(Some(format!("Bearer {token}"))),
                false => Err(InvalidEndpoint::Token),
            }
        }
        Credentials::Basic { user, password } => {
            if user.contains(':') || user.chars().chain(password.chars()).any(char::is_control) {
                return Err(InvalidEndpoint::UserAndPassword);
            }
            let pair = STANDARD.encode(format!("{user}:{password}"));
            Ok(Some(format!("Basic {pair}")))
        }
    }
}

/// No request could be made of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidEndpoint {
    /// The host and port.
    Authority(String),
    /// The base path.
    BasePath(String),
    /// The token.
    Token,
    /// The user's name or password.
    UserAndPassword,
}

impl fmt::Display for InvalidEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(found) => {
                write!(
                    f,
                    "found {found:?}, expected a host, with a port if need be: redis-http:7379"
                )
            }
            Self::BasePath(found) => {
                write!(
                    f,
                    "found {found:?}, expected a path that begins with \"/\", without query"
                )
            }
            Self::Token => f.write_str(
                "found a token with spaces or other characters that a header can't have, or none; \
                 expected one of visible ASCII characters",
            ),
            Self::UserAndPassword => f.write_str(
                "found a user with a colon, or control characters; expected what RFC 7617 allows",
            ),
        }
    }
}

impl std::error::Error for InvalidEndpoint {}
