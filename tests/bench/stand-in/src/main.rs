//! A fast destination that a benchmark can stand on.
//!
//! Speaks the part of the GTM Studio API that Convoke uses: token, folders, audiences, columns, filter metadata, bulk
//! upsert and delete, jobs, row search. Every body is parsed and every row checked, but only hashes are kept, in
//! memory. `GET /stats` tells per audience what arrived; `POST /reset` forgets everything.
//!
//! Usage: `stand-in [--port N] [--ids-only]`. An upsert is answered with whole rows, as the vendor does; with
//! `--ids-only` with row ids and key cells alone, which costs both sides less.

mod api;
mod audience;

use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::api::{Answer, Api};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Enough to keep up with any client, and no more: further threads would compete with the client that is measured.
const THREADS: usize = 2;
const MAX_BODY_BYTES: usize = 16 << 20;

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Error> {
    let (port, ids_only) = arguments()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_io().build()?;
    runtime.block_on(serve(port, Arc::new(Api::new(!ids_only))))
}

fn arguments() -> Result<(u16, bool), Error> {
    let (mut port, mut ids_only) = (0, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--port" => port = words.next().ok_or("`--port` needs a number")?.parse()?,
            "--ids-only" => ids_only = true,
            _ => return Err(format!("unknown argument `{word}`; usage: stand-in [--port N] [--ids-only]").into()),
        }
    }
    Ok((port, ids_only))
}

async fn serve(port: u16, api: Arc<Api>) -> Result<(), Error> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    // The driver reads the address from here.
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let api = Arc::clone(&api);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&api), request));
            // A client that breaks its connection is the client's affair.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(api: Arc<Api>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::http::Error> {
    let (head, body) = request.into_parts();
    let answer = match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(body) => {
            let authorized = head.headers.contains_key(header::AUTHORIZATION);
            api.answer(head.method.as_str(), head.uri.path(), authorized, &body.to_bytes())
        }
        Err(_) => Answer::error(413, "the body is too large"),
    };
    Response::builder()
        .status(answer.status)
        .header(header::CONTENT_TYPE, "application/vnd.api+json")
        .body(Full::new(Bytes::from(answer.body)))
}
