//! The upstream: as cheap as it can be, 200 to everything.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::helper::listen;

pub(crate) const COMMAND: &str = "upstream";

/// The query that asks for a body of [`LARGE`] bytes.
pub(crate) const ASK_LARGE: &str = "body=large";

/// The query that asks for a body of [`SMALL`] bytes.
pub(crate) const ASK_SMALL: &str = "body=small";

pub(crate) const LARGE: usize = 1 << 20;
pub(crate) const SMALL: usize = 1 << 10;

pub(crate) async fn serve() -> Result<(), String> {
    let listener = listen().await?;
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Small answers must not wait for acknowledgements.
                let _ = stream.set_nodelay(true);
                tokio::task::spawn_local(async move {
                    let connection = http1::Builder::new()
                        .pipeline_flush(true)
                        .serve_connection(TokioIo::new(stream), service_fn(answer));
                    // A client that goes away is no failure.
                    let _ = connection.await;
                });
            }
        })
        .await;
    Ok(())
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    static BODY: [u8; LARGE] = [b'x'; LARGE];
    let body = match request.uri().query() {
        Some(query) if query.contains(ASK_LARGE) => &BODY[..],
        Some(query) if query.contains(ASK_SMALL) => &BODY[..SMALL],
        _ => &BODY[..2],
    };
    let mut incoming = request.into_body();
    while let Some(Ok(_)) = incoming.frame().await {}
    Ok(Response::new(Full::new(Bytes::from_static(body))))
}
