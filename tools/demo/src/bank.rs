//! The two services behind the gateway. They say what they were asked and by whom.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::net::TcpListener;

/// Starts a service at this address, and says where; it runs as long as the program.
pub(crate) async fn start(service: &str, address: SocketAddr) -> Result<SocketAddr, String> {
    let failed = |error| format!("cannot start the service {service}: {error}");
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let service: Arc<str> = service.into();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let service = service.clone();
            let respond = service_fn(move |request| {
                let response = respond(&service, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            tokio::spawn(async move {
                // A client that goes away in the middle is its own business.
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(connection), respond)
                    .await;
            });
        }
    });
    Ok(address)
}

fn respond(service: &str, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let body = json!({
        "service": service,
        "path": request.uri().path_and_query().map(|path| path.as_str()),
        "consumer": header("x-consumer-id"),
        "plan": header("x-consumer-plan"),
        "subject": header("x-subject"),
        "api_key": header("x-api-key"),
        "authorization": header("authorization"),
        "request_id": header("x-request-id"),
    });
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
