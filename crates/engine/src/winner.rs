//! `winner`: the aggregate that finds, of the records with one key, the one with the greatest rank.
//!
//! Also how many records there are, and whether any is suppressed. The stock aggregates would do the same, but keep
//! each group's rank in an allocation of its own; here ranks lie one after the other.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Int64Array, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type};
use datafusion::common::{exec_err, not_impl_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};

static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![
        Field::new("rank", DataType::Binary, false),
        Field::new("records", DataType::Int64, false),
        Field::new("suppressed", DataType::Boolean, false),
    ])
});

/// Bytes that are allocated at once for ranks.
const CHUNK_BYTES: usize = 1 << 20;

/// The function. Arguments: rank, suppressed; its value has the fields `rank`, `records`, `suppressed`.
pub(crate) fn winner() -> AggregateUDF {
    AggregateUDF::from(WinnerFunction {
        signature: Signature::exact(vec![DataType::Binary, DataType::Boolean], Volatility::Immutable),
    })
}

/// What [`winner`] found, column by column.
pub(crate) struct WinnerColumns<'a> {
    whole: &'a StructArray,
    pub(crate) ranks: &'a BinaryArray,
    pub(crate) records: &'a Int64Array,
    pub(crate) suppressed: &'a BooleanArray,
}

impl<'a> WinnerColumns<'a> {
    pub(crate) fn new(column: &'a ArrayRef) -> Self {
        let whole = column.as_struct();
        Self {
            whole,
            ranks: whole.column(0).as_binary(),
            records: whole.column(1).as_primitive::<Int64Type>(),
            suppressed: whole.column(2).as_boolean(),
        }
    }

    /// Whether there is a record.
    pub(crate) fn is_some(&self, row: usize) -> bool {
        self.whole.is_valid(row)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct WinnerFunction {
    signature: Signature,
}

impl Hash for WinnerFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl AggregateUDFImpl for WinnerFunction {
    fn name(&self) -> &str {
        "winner"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(FIELDS.clone()))
    }

    fn state_fields(&self, _args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(FIELDS.iter().cloned().collect())
    }

    fn accumulator(&self, _args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("`winner` without GROUP BY")
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Winners::default()))
    }
}

/// The winners of all groups so far.
#[derive(Default)]
struct Winners {
    ranks: Ranks,
    /// Where each group's rank lies; of length 0 while there is none.
    places: Vec<Place>,
    records: Vec<i64>,
    suppressed: Vec<bool>,
}

impl Winners {
    fn add(&mut self, group: usize, rank: &[u8], records: i64, is_suppressed: bool) {
        self.records[group] += records;
        self.suppressed[group] |= is_suppressed;
        let place = &mut self.places[group];
        let known = self.ranks.at(*place);
        if known < rank {
            *place = self.ranks.replace(*place, rank);
        }
    }

    fn grow(&mut self, groups: usize) {
        self.places.resize(groups, Place::default());
        self.records.resize(groups, 0);
        self.suppressed.resize(groups, false);
    }

    fn take(&mut self, emit_to: EmitTo) -> Vec<ArrayRef> {
        let places = emit_to.take_needed(&mut self.places);
        let bytes = places.iter().map(|place| usize::from(place.length)).sum();
        let mut ranks = BinaryBuilder::with_capacity(places.len(), bytes);
        for place in &places {
            ranks.append_value(self.ranks.at(*place));
        }
        self.ranks.keep(&mut self.places);
        let suppressed = emit_to.take_needed(&mut self.suppressed);
        vec![
            Arc::new(ranks.finish()),
            Arc::new(Int64Array::from(emit_to.take_needed(&mut self.records))),
            Arc::new(BooleanArray::from(suppressed)),
        ]
    }
}

impl GroupsAccumulator for Winners {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        refuse_filter(opt_filter)?;
        self.grow(total_num_groups);
        let (ranks, suppressed) = (values[0].as_binary::<i32>(), values[1].as_boolean());
        for (row, group) in group_indices.iter().enumerate() {
            self.add(*group, ranks.value(row), 1, suppressed.value(row));
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(Arc::new(StructArray::new(FIELDS.clone(), self.take(emit_to), None)))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(self.take(emit_to))
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.grow(total_num_groups);
        let (ranks, suppressed) = (values[0].as_binary::<i32>(), values[2].as_boolean());
        let records = values[1].as_primitive::<Int64Type>();
        for (row, group) in group_indices.iter().enumerate() {
            self.add(*group, ranks.value(row), records.value(row), suppressed.value(row));
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        refuse_filter(opt_filter)?;
        let ones = Int64Array::from_value(1, values[0].len());
        Ok(vec![Arc::clone(&values[0]), Arc::new(ones), Arc::clone(&values[1])])
    }

    fn size(&self) -> usize {
        self.ranks.allocated
            + self.places.capacity() * size_of::<Place>()
            + self.records.capacity() * size_of::<i64>()
            + self.suppressed.capacity()
    }
}

fn refuse_filter(filter: Option<&BooleanArray>) -> Result<()> {
    if filter.is_some() { exec_err!("`winner` takes no FILTER") } else { Ok(()) }
}

/// Ranks, one after the other in chunks that never move.
#[derive(Default)]
struct Ranks {
    chunks: Vec<Vec<u8>>,
    allocated: usize,
}

#[derive(Clone, Copy, Default)]
struct Place {
    chunk: u32,
    start: u32,
    length: u16,
    /// Bytes that a later rank may take here.
    room: u16,
}

impl Ranks {
    fn at(&self, place: Place) -> &[u8] {
        let start = place.start as usize;
        match self.chunks.get(place.chunk as usize) {
            Some(chunk) => &chunk[start..start + usize::from(place.length)],
            None => &[],
        }
    }

    /// Puts a rank where another was, or behind all others if there is no room for it.
    fn replace(&mut self, place: Place, rank: &[u8]) -> Place {
        if usize::from(place.room) < rank.len() {
            return self.push(rank);
        }
        let start = place.start as usize;
        self.chunks[place.chunk as usize][start..start + rank.len()].copy_from_slice(rank);
        Place { length: rank.len() as u16, ..place }
    }

    fn push(&mut self, rank: &[u8]) -> Place {
        let fits = self.chunks.last().is_some_and(|chunk| chunk.len() + rank.len() <= chunk.capacity());
        if !fits {
            let capacity = CHUNK_BYTES.max(rank.len());
            self.chunks.push(Vec::with_capacity(capacity));
            self.allocated += capacity;
        }
        let chunk = self.chunks.len() - 1;
        let last = &mut self.chunks[chunk];
        let length = rank.len() as u16;
        let place = Place { chunk: chunk as u32, start: last.len() as u32, length, room: length };
        last.extend_from_slice(rank);
        place
    }

    /// Forgets all ranks but these, and moves them together.
    fn keep(&mut self, places: &mut [Place]) {
        let old = std::mem::take(self);
        for place in places {
            *place = self.push(old.at(*place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks(texts: &[&str]) -> ArrayRef {
        Arc::new(BinaryArray::from_iter_values(texts))
    }

    fn flags(flags: &[bool]) -> ArrayRef {
        Arc::new(BooleanArray::from(flags.to_vec()))
    }

    fn rows(columns: &[ArrayRef]) -> Vec<(String, i64, bool)> {
        let (ranks, records) = (columns[0].as_binary::<i32>(), columns[1].as_primitive::<Int64Type>());
        let text = |row| String::from_utf8(ranks.value(row).to_vec()).expect("the test wrote text");
        (0..ranks.len()).map(|row| (text(row), records.value(row), columns[2].as_boolean().value(row))).collect()
    }

    #[test]
    fn the_greatest_rank_of_each_group_wins_whatever_its_length() {
        let mut winners = Winners::default();
        let first = [ranks(&["b", "mm", "a"]), flags(&[false, true, false])];
        winners.update_batch(&first, &[0, 1, 0], None, 2).expect("two groups");
        let second = [ranks(&["ccc", "z", "y"]), flags(&[false, false, false])];
        winners.update_batch(&second, &[0, 1, 2], None, 3).expect("three groups");
        let found = winners.state(EmitTo::All).expect("nothing can fail");
        assert_eq!(rows(&found), [("ccc".into(), 3, false), ("z".into(), 2, true), ("y".into(), 1, false)]);
        assert!(winners.places.is_empty());
        assert_eq!(winners.ranks.allocated, 0);
    }

    #[test]
    fn rising_ranks_of_changing_length_take_the_same_place() {
        let mut winners = Winners::default();
        for number in 0..CHUNK_BYTES / 4 {
            let rank = format!("{number:07}{}", if number % 2 == 0 { "x" } else { "" });
            winners.update_batch(&[ranks(&[&rank]), flags(&[false])], &[0], None, 1).expect("one group");
        }
        assert_eq!(winners.ranks.allocated, CHUNK_BYTES);
    }

    #[test]
    fn states_merge_to_what_one_pass_would_have_found() {
        let input = [ranks(&["a", "c", "b"]), flags(&[true, false, false])];
        let mut winners = Winners::default();
        let state = winners.convert_to_state(&input, None).expect("no filter");
        winners.merge_batch(&state, &[0, 1, 0], 2).expect("two groups");
        assert_eq!(rows(&winners.state(EmitTo::First(1)).expect("nothing can fail")), [("b".into(), 2, true)]);
        // What was second is first now.
        winners.update_batch(&[ranks(&["d"]), flags(&[false])], &[0], None, 1).expect("one group");
        let found = winners.evaluate(EmitTo::All).expect("nothing can fail");
        assert_eq!(rows(found.as_struct().columns()), [("d".into(), 2, false)]);
    }
}
