//! Answers that break off, in every place and way that a network knows.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{HttpAnswer, Release};

/// How much of an answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Nothing,
    HalfHead,
    Head,
    HalfBody,
    All,
}

/// What follows.
#[derive(Clone, Debug)]
pub enum End {
    /// The connection is closed in good order.
    Close,
    /// The connection is reset. What was sent before may be lost with it.
    Reset,
    /// Nothing more happens until this lets go.
    Stall(Arc<Release>),
    /// The body is sent again and again until the client hangs up.
    Endless,
}

pub(super) async fn play(stream: &mut TcpStream, answer: &HttpAnswer, sent: Sent, end: End) -> std::io::Result<()> {
    let whole = answer.encode(answer.body.len());
    let head = whole.len() - answer.body.len();
    let length = match sent {
        Sent::Nothing => 0,
        Sent::HalfHead => head / 2,
        Sent::Head => head,
        Sent::HalfBody => head + answer.body.len() / 2,
        Sent::All => whole.len(),
    };
    stream.write_all(&whole[..length]).await?;
    match end {
        End::Close => stream.shutdown().await,
        // Takes effect when the stream is dropped.
        End::Reset => stream.set_zero_linger(),
        End::Stall(release) => {
            release.wait().await;
            Ok(())
        }
        End::Endless => loop {
            stream.write_all(&answer.body).await?;
        },
    }
}
