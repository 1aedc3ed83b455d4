//! `digest`: the scalar function that turns a mapped record into hashes.
//!
//! It is the narrow half of "hash narrow, fetch wide": from the mapped expressions come the key's hash, a rank that
//! holds order value, content hash and position, and whether a suppression list names the record. A record that is
//! deleted needs no more than its key. One that is
//! invalid gets a key of its own, its position, so that it is a group of its own, and in the place of
//! its content the key it would have; why it is invalid is found again in the wide pass.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanBuilder, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Int64Type};
use arrow::row::Rows;
use convoke_core::hash::{ContentHasher, encode_part, is_null_part};
use convoke_core::{ContentHash, DataType as ColumnType, HashKey, KeyHash};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::cell::{CellRefusal, canonical_cell};
use crate::key_number::{KEY_TYPE, column_of, number_of, number_of_invalid};
use crate::mapping::ActiveColumns;
use crate::rank::{Rank, Ranking};
use crate::suppression::Suppressed;
use crate::text_column::{as_text, text_at};

static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![
        Field::new("key", KEY_TYPE, false),
        Field::new("rank", DataType::Binary, false),
        Field::new("suppressed", DataType::Boolean, false),
    ])
});

/// The functions that take a digest apart: `digest_key`, `digest_rank`, `digest_suppressed`.
///
/// The stock `get_field` would not do: the optimizer moves it below the projection that makes the digest, and each
/// record would be digested once per field.
pub(crate) fn parts() -> impl Iterator<Item = ScalarUDF> {
    ["digest_key", "digest_rank", "digest_suppressed"].into_iter().enumerate().map(|(field, name)| {
        let signature = Signature::any(1, Volatility::Immutable);
        ScalarUDF::from(DigestPart { name, field, signature })
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DigestPart {
    name: &'static str,
    field: usize,
    signature: Signature,
}

impl ScalarUDFImpl for DigestPart {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(FIELDS[self.field].data_type().clone())
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let digest = args.args.swap_remove(0).into_array(args.number_rows)?;
        Ok(ColumnarValue::Array(Arc::clone(digest.as_struct().column(self.field))))
    }
}

/// The function. Arguments: position, whether the record is deleted, the active mapped columns, the criteria of
/// `dedupe.by`.
#[derive(Debug)]
pub(crate) struct DigestFunction {
    recipe: Arc<Recipe>,
    signature: Signature,
}

/// What hashes are made of.
#[derive(Debug)]
pub(crate) struct Recipe {
    types: Vec<ColumnType>,
    /// Indices of the key's columns among the active ones, in the key's order.
    key: Vec<usize>,
    hash_key: HashKey,
    contents: ContentHasher,
    ranking: Ranking,
    suppressed: Vec<Suppressed>,
}

impl Recipe {
    pub(crate) fn new(
        active: &ActiveColumns,
        hash_key: &HashKey,
        ranking: Ranking,
        suppressed: Vec<Suppressed>,
    ) -> Self {
        let types = active.columns.iter().map(|column| column.data_type).collect();
        let contents = hash_key.contents_of(active.columns.iter().map(|column| column.name.as_str()));
        Self { types, key: active.key.clone(), hash_key: hash_key.clone(), contents, ranking, suppressed }
    }
}

impl Recipe {
    /// Digests a batch: for each record key, rank, and whether a list names it. `cells` are the active columns.
    pub(crate) fn digest(
        &self,
        positions: &[i64],
        deleted: &dyn Fn(usize) -> bool,
        cells: &[StringArray],
        criteria: &[ArrayRef],
    ) -> Result<ArrayRef> {
        let order = self.ranking.order_values(criteria)?;
        let mut digester = Digester::new(self, positions.len());
        for (row, position) in positions.iter().enumerate() {
            let place = Place { row, position: position.unsigned_abs(), is_deleted: deleted(row) };
            digester.push(cells, order.as_ref(), place);
        }
        Ok(digester.finish())
    }

    fn canonical<'c>(
        &self,
        cells: &'c [StringArray],
        column: usize,
        row: usize,
    ) -> Result<Option<Cow<'c, str>>, CellRefusal> {
        text_at(&cells[column], row).map_or(Ok(None), |text| canonical_cell(self.types[column], text))
    }
}

impl DigestFunction {
    pub(crate) fn new(recipe: Recipe) -> Self {
        Self { recipe: Arc::new(recipe), signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl PartialEq for DigestFunction {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.recipe, &other.recipe)
    }
}

impl Eq for DigestFunction {}

impl Hash for DigestFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.recipe).hash(state);
    }
}

impl ScalarUDFImpl for DigestFunction {
    fn name(&self) -> &str {
        "digest_record"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(FIELDS.clone()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let columns = args.args.into_iter().map(|argument| argument.into_array(rows)).collect::<Result<Vec<_>>>()?;
        let (position, rest) = columns.split_first().expect("the position is always given");
        let (deleted, rest) = rest.split_first().expect("whether a record is deleted is always given");
        let deleted = deleted.as_boolean();
        let is_deleted = |row: usize| deleted.is_valid(row) && deleted.value(row);
        let (cells, criteria) = rest.split_at(self.recipe.types.len());
        let cells = cells.iter().map(as_text).collect::<Result<Vec<_>, _>>()?;
        let positions = position.as_primitive::<Int64Type>().values();
        Ok(ColumnarValue::Array(self.recipe.digest(positions, &is_deleted, &cells, criteria)?))
    }
}

/// A record of a batch.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    position: u64,
    is_deleted: bool,
}

/// Digests one batch; its buffers are used again for each row.
struct Digester<'a> {
    recipe: &'a Recipe,
    content: Vec<u8>,
    /// Where each column's cell lies in `content`.
    parts: Vec<Range<usize>>,
    key: Vec<u8>,
    rank: Vec<u8>,
    keys: Vec<i128>,
    ranks: BinaryBuilder,
    suppressed: BooleanBuilder,
}

impl<'a> Digester<'a> {
    fn new(recipe: &'a Recipe, rows: usize) -> Self {
        Self {
            recipe,
            content: Vec::new(),
            parts: vec![0..0; recipe.types.len()],
            key: Vec::new(),
            rank: Vec::new(),
            keys: Vec::with_capacity(rows),
            ranks: BinaryBuilder::with_capacity(rows, rows * 32),
            suppressed: BooleanBuilder::with_capacity(rows),
        }
    }

    fn push(&mut self, cells: &[StringArray], order: Option<&Rows>, place: Place) {
        let Place { row, position, is_deleted } = place;
        if is_deleted && self.push_deleted(cells, order, place) {
            return;
        }
        let is_valid = self.encode_cells(cells, row) && self.encode_key();
        let content = if is_valid { self.recipe.contents.hash(&self.content) } else { self.held_key(cells, row) };
        let order_row = order.map(|rows| rows.row(row));
        let order = order_row.as_ref().map_or(&[][..], AsRef::as_ref);
        self.push_rank(Rank { order, content, position, is_deleted });
        if is_valid {
            self.keys.push(number_of(self.recipe.hash_key.hash_key(&self.key)));
            self.suppressed.append_value(self.is_suppressed());
        } else {
            self.keys.push(number_of_invalid(position));
            self.suppressed.append_value(false);
        }
    }

    fn push_rank(&mut self, rank: Rank<'_>) {
        self.rank.clear();
        self.recipe.ranking.encode(rank, &mut self.rank);
        self.ranks.append_value(&self.rank);
    }

    /// Of a record that is deleted the key is enough: its other cells may have been erased. False if it has none.
    fn push_deleted(&mut self, cells: &[StringArray], order: Option<&Rows>, place: Place) -> bool {
        let Place { row, position, is_deleted } = place;
        let held = self.held_key(cells, row);
        if held == ContentHash::UNKNOWN {
            return false;
        }
        let is_whole = self.encode_cells(cells, row);
        let content = if is_whole { self.recipe.contents.hash(&self.content) } else { ContentHash::UNKNOWN };
        let order_row = order.map(|rows| rows.row(row));
        let order = order_row.as_ref().map_or(&[][..], AsRef::as_ref);
        self.push_rank(Rank { order, content, position, is_deleted });
        self.keys.push(number_of(KeyHash(held.0)));
        self.suppressed.append_value(is_whole && self.is_suppressed());
        true
    }

    /// Encodes the canonical cells; false if one is no value of its type.
    fn encode_cells(&mut self, cells: &[StringArray], row: usize) -> bool {
        self.content.clear();
        for index in self.recipe.contents.order() {
            let start = self.content.len();
            match self.recipe.canonical(cells, *index, row) {
                Ok(cell) => encode_part(&mut self.content, cell.as_deref()),
                Err(_) => return false,
            }
            self.parts[*index] = start..self.content.len();
        }
        true
    }

    /// Encodes the key; false if a part of it is NULL.
    fn encode_key(&mut self) -> bool {
        self.key.clear();
        for column in &self.recipe.key {
            let part = &self.content[self.parts[*column].clone()];
            if is_null_part(part) {
                return false;
            }
            self.key.extend_from_slice(part);
        }
        true
    }

    /// What stands in the place of an invalid record's content: the hash of its key, if it has one.
    ///
    /// The record is there, if not fit to be sent: the row with this key must not be deleted for want of a record.
    fn held_key(&mut self, cells: &[StringArray], row: usize) -> ContentHash {
        self.key.clear();
        for column in &self.recipe.key {
            match self.recipe.canonical(cells, *column, row) {
                Ok(Some(cell)) => encode_part(&mut self.key, Some(&cell)),
                Ok(None) | Err(_) => return ContentHash::UNKNOWN,
            }
        }
        ContentHash(self.recipe.hash_key.hash_key(&self.key).0)
    }

    fn is_suppressed(&self) -> bool {
        self.recipe.suppressed.iter().any(|list| {
            let part = &self.content[self.parts[list.column].clone()];
            list.names_part(part, &self.recipe.hash_key)
        })
    }

    fn finish(mut self) -> ArrayRef {
        let columns: Vec<ArrayRef> =
            vec![column_of(self.keys), Arc::new(self.ranks.finish()), Arc::new(self.suppressed.finish())];
        let records = StructArray::new(FIELDS.clone(), columns, None);
        debug_assert_eq!(records.null_count(), 0);
        Arc::new(records)
    }
}
