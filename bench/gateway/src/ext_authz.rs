//! An external authorisation service, as small as one can be: a lookup of the API key.
//!
//! It speaks what Envoy's `ext_authz` filter asks over gRPC (`envoy.service.auth.v3`), of which only
//! the fields that are used are written down.

use std::collections::HashMap;
use std::convert::Infallible;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tollgate_instructions::document::API_KEY;

use crate::helper::listen;

pub(crate) const COMMAND: &str = "ext-authz";

/// gRPC's code for a caller that may not.
const PERMISSION_DENIED: i32 = 7;

#[derive(Clone, PartialEq, Message)]
struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    attributes: Option<AttributeContext>,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeContext {
    #[prost(message, optional, tag = "4")]
    request: Option<AttributeRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeRequest {
    #[prost(message, optional, tag = "2")]
    http: Option<HttpRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct HttpRequest {
    #[prost(map = "string, string", tag = "3")]
    headers: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct CheckResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
}

pub(crate) async fn serve() -> Result<(), String> {
    let listener = listen().await?;
    while let Ok((stream, _)) = listener.accept().await {
        // Small answers must not wait for acknowledgements.
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let connection = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            // A client that goes away is no failure.
            let _ = connection.await;
        });
    }
    Ok(())
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let body = request.into_body().collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    // A message has a byte for whether it is compressed and four for its length before it.
    let check = CheckRequest::decode(body.get(5..).unwrap_or_default()).unwrap_or_default();
    let code = match check.key() {
        Some(API_KEY) => 0,
        _ => PERMISSION_DENIED,
    };
    let response = CheckResponse {
        status: Some(Status { code }),
    };
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(u32::try_from(response.encoded_len()).unwrap_or(u32::MAX));
    response
        .encode(&mut message)
        .expect("a buffer that grows has room");
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let body = Full::new(message.freeze()).with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(body);
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    Ok(response)
}

impl CheckRequest {
    fn key(&self) -> Option<&str> {
        let http = self.attributes.as_ref()?.request.as_ref()?.http.as_ref()?;
        http.headers.get("x-api-key").map(String::as_str)
    }
}
