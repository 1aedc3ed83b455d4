//! Which of several records with one key wins, as bytes that compare like the answer.
//!
//! With criteria: order value, then content hash, then position, so that the outcome does not depend on the order of
//! reading. Without: position, then content hash. The order value is cut to [`ORDER_BYTES`]; beyond that the content
//! hash decides.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::{SortOptions, cast};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use convoke_core::ContentHash;
use convoke_core::spec::{Dedupe, Keep};

use crate::order_value::comparable_type;

/// Longest order value kept; far below what the journal can pack, and far beyond any time or number.
pub(crate) const ORDER_BYTES: usize = 256;

const POSITION_BYTES: usize = 8;
const CONTENT_BYTES: usize = 16;

/// How ranks of a sync are made.
#[derive(Clone, Debug)]
pub(crate) struct Ranking {
    keep: Keep,
    options: Vec<SortOptions>,
}

/// What a rank holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rank<'a> {
    pub(crate) order: &'a [u8],
    pub(crate) content: ContentHash,
    pub(crate) position: u64,
    /// Whether the record says that it is deleted. Decides nothing: it stands behind the position, which is unique.
    pub(crate) is_deleted: bool,
}

impl Ranking {
    pub(crate) fn new(dedupe: &Dedupe) -> Self {
        // The greatest rank wins, so that "first" is the inverted order; NULL is the least either way, and loses.
        let option = |descending: bool| SortOptions {
            descending: descending != (dedupe.keep == Keep::First),
            nulls_first: true,
        };
        Self { keep: dedupe.keep, options: dedupe.by.iter().map(|criterion| option(criterion.descending)).collect() }
    }

    /// Encodes the criteria of a batch; none if there are no criteria.
    pub(crate) fn order_values(&self, criteria: &[ArrayRef]) -> Result<Option<Rows>, ArrowError> {
        if criteria.is_empty() {
            return Ok(None);
        }
        let comparable = |column: &ArrayRef| match comparable_type(column.data_type()) {
            data_type if data_type == *column.data_type() => Ok(Arc::clone(column)),
            data_type => cast(column, &data_type),
        };
        let criteria = criteria.iter().map(comparable).collect::<Result<Vec<_>, _>>()?;
        let field = |(column, options): (&ArrayRef, &SortOptions)| {
            SortField::new_with_options(column.data_type().clone(), *options)
        };
        let converter = RowConverter::new(criteria.iter().zip(&self.options).map(field).collect())?;
        converter.convert_columns(&criteria).map(Some)
    }

    /// Appends a rank.
    pub(crate) fn encode(&self, rank: Rank<'_>, buffer: &mut Vec<u8>) {
        self.encode_what_decides(rank, buffer);
        buffer.push(u8::from(rank.is_deleted));
    }

    fn encode_what_decides(&self, rank: Rank<'_>, buffer: &mut Vec<u8>) {
        let position = match self.keep {
            Keep::Latest => rank.position,
            Keep::First => !rank.position,
        };
        if self.options.is_empty() {
            buffer.extend_from_slice(&position.to_be_bytes());
            buffer.extend_from_slice(&rank.content.0);
            return;
        }
        buffer.extend_from_slice(&rank.order[..rank.order.len().min(ORDER_BYTES)]);
        buffer.extend_from_slice(&rank.content.0);
        buffer.extend_from_slice(&position.to_be_bytes());
    }

    /// Takes a rank apart; none if it is none of ours.
    pub(crate) fn decode<'a>(&self, encoded: &'a [u8]) -> Option<Rank<'a>> {
        let (is_deleted, encoded) = encoded.split_last()?;
        let (order, tail) = encoded.split_at_checked(encoded.len().checked_sub(CONTENT_BYTES + POSITION_BYTES)?)?;
        let (position, content) = if self.options.is_empty() {
            tail.split_at(POSITION_BYTES)
        } else {
            let (content, position) = tail.split_at(CONTENT_BYTES);
            (position, content)
        };
        let stored = u64::from_be_bytes(position.try_into().ok()?);
        let position = match self.keep {
            Keep::Latest => stored,
            Keep::First => !stored,
        };
        Some(Rank { order, content: ContentHash(content.try_into().ok()?), position, is_deleted: *is_deleted != 0 })
    }
}
