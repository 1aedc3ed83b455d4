//! Reads an audience: page after page, and rows by their ids.
//!
//! A long audience takes thousands of requests, so one that fails does not end the reading: a page is asked for again
//! from where it begins. A scan that was broken off begins anew, because what was read so far may have changed since.

use std::time::Duration;

use convoke_core::SinkError;
use convoke_core::sink::{AudienceBinding, ScannedRow};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::Pipeline;

/// Attempts at one page while the destination is unavailable.
const ATTEMPTS: u32 = 5;
/// The first wait before another attempt; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);

impl Pipeline {
    /// All rows of the audience, in the order in which the destination gives them.
    pub(crate) fn scanned_rows<'a>(
        &'a self,
        binding: &'a AudienceBinding,
    ) -> BoxStream<'a, Result<ScannedRow, SinkError>> {
        /// Where a scan goes on.
        enum Next {
            Page(Option<String>),
            End,
        }
        let pages = stream::try_unfold(Next::Page(None), move |next| async move {
            let Next::Page(cursor) = next else { return Ok(None) };
            let page = self.read_again(|| self.sync.destination.scan(binding, cursor.as_deref())).await?;
            let following = page.next.map_or(Next::End, |cursor| Next::Page(Some(cursor)));
            Ok::<_, SinkError>(Some((stream::iter(page.rows.into_iter().map(Ok)), following)))
        });
        pages.try_flatten().boxed()
    }

    /// Reads something of the destination, again if it could not be reached.
    pub(crate) async fn read_again<'f, Output>(
        &self,
        read: impl Fn() -> BoxFuture<'f, Result<Output, SinkError>>,
    ) -> Result<Output, SinkError> {
        let mut wait = FIRST_WAIT;
        for _ in 1..ATTEMPTS {
            match read().await {
                Err(SinkError::Unavailable { retry_after, .. }) => {
                    self.services.clock.sleep(retry_after.unwrap_or_default().max(wait)).await;
                    wait *= 2;
                }
                outcome => return outcome,
            }
        }
        read().await
    }
}
