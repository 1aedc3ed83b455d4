//! Reads an audience page after page.
//!
//! A long audience takes thousands of requests, so one that fails does not end the reading: the destination that a pipeline
//! holds asks for a page again. A scan that was broken off begins anew, because what was read so far may have changed since.

use convoke_core::SinkError;
use convoke_core::sink::{AudienceBinding, ScannedRow};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::Pipeline;

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
            let page = self.sync.destination.scan(binding, cursor.as_deref()).await?;
            let following = page.next.map_or(Next::End, |cursor| Next::Page(Some(cursor)));
            Ok::<_, SinkError>(Some((stream::iter(page.rows.into_iter().map(Ok)), following)))
        });
        pages.try_flatten().boxed()
    }
}
