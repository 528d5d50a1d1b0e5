//! The upstream: as cheap as it can be, 200 to everything.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::helper::listen;

pub(crate) const COMMAND: &str = "upstream";

/// What stands in the query before the number of bytes that the body shall have.
const ASK: &str = "body=";

/// The body of who asks for none.
const USUAL: u64 = 2;

/// The part of a query that asks for a body of so many bytes.
pub(crate) fn ask(bytes: u64) -> String {
    format!("{ASK}{bytes}")
}

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

async fn answer(request: Request<Incoming>) -> Result<Response<Repeated>, Infallible> {
    let left = request.uri().query().and_then(asked).unwrap_or(USUAL);
    let mut incoming = request.into_body();
    while let Some(Ok(_)) = incoming.frame().await {}
    Ok(Response::new(Repeated { left }))
}

fn asked(query: &str) -> Option<u64> {
    let mut members = query.split('&');
    members.find_map(|member| member.strip_prefix(ASK)?.parse().ok())
}

/// A body of one byte again and again, of which no more than a block is ever in memory.
struct Repeated {
    left: u64,
}

const BLOCK: usize = 1 << 20;

impl Body for Repeated {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static BYTES: [u8; BLOCK] = [b'x'; BLOCK];
        let this = self.get_mut();
        let length = usize::try_from(this.left).map_or(BLOCK, |left| left.min(BLOCK));
        this.left -= length as u64;
        Poll::Ready(match length {
            0 => None,
            _ => Some(Ok(Frame::data(Bytes::from_static(&BYTES[..length])))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
