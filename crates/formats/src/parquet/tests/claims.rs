//! Footers that claim what cannot be: none of them may end the process, or take memory for what is not there.

use parquet::file::metadata::ParquetMetaDataReader;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::parquet::footer_fields;

/// A number in Thrift's compact form.
fn number(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push((number & 0x7f | 0x80) as u8);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn signed(value: i64) -> Vec<u8> {
    number(((value << 1) ^ (value >> 63)).cast_unsigned())
}

/// The head of a list of structs.
fn list(count: u64) -> Vec<u8> {
    [&[0xfc], number(count).as_slice()].concat()
}

/// A list of structs that has none.
const NO_GROUPS: &[u8] = &[0x0c];

/// An element of a schema: a group, or without children a number.
fn element(name: &str, children: i64) -> Vec<u8> {
    let kind: &[u8] = if children == 0 { &[0x15, 0x02, 0x25, 0x00, 0x18] } else { &[0x35, 0x00, 0x18] };
    let name = [number(name.len() as u64).as_slice(), name.as_bytes()].concat();
    let children = if children == 0 { Vec::new() } else { [&[0x15], signed(children).as_slice()].concat() };
    [kind, &name, &children, &[0]].concat()
}

/// A footer of this schema and these row groups, each with their head.
fn footer(schema: &[Vec<u8>], groups: &[u8]) -> Vec<u8> {
    let schema = [list(schema.len() as u64), schema.concat()].concat();
    [&[0x15, 0x02, 0x19], schema.as_slice(), &[0x16, 0x00, 0x19], groups, &[0]].concat()
}

fn flat() -> Vec<Vec<u8>> {
    vec![element("root", 1), element("id", 0)]
}

fn nested(groups: usize) -> Vec<u8> {
    let mut schema: Vec<_> = (0..groups).map(|_| element("g", 1)).collect();
    schema.push(element("id", 0));
    footer(&schema, NO_GROUPS)
}

/// Why it is refused, by who reads the schema alone and by who reads all.
async fn refused(footer: &[u8]) -> [Option<String>; 2] {
    let length = (footer.len() as u32).to_le_bytes();
    let file = MemoryFile::of([b"PAR1", footer, &length, b"PAR1"].concat());
    let opened = ParquetFile::open(file as Arc<dyn PinnedFile>).await.unwrap();
    [footer_fields(footer).err(), opened.err()]
}

#[tokio::test]
async fn a_footer_that_was_put_together_by_hand_is_read() {
    assert_eq!(refused(&footer(&flat(), NO_GROUPS)).await, [None, None]);
    assert_eq!(refused(&nested(60)).await, [None, None]);
    assert_eq!(footer_fields(&nested(2)).unwrap()[0].name(), "g");
}

#[tokio::test]
async fn groups_within_groups_without_end_are_refused() {
    for groups in [65, 50_000] {
        for reason in refused(&nested(groups)).await {
            assert_eq!(reason.unwrap(), "its schema has groups within groups, more than 64 deep");
        }
    }
}

#[tokio::test]
async fn more_than_there_can_be_is_refused_before_memory_is_taken_for_it() {
    let many_groups = footer(&flat(), &list(i32::MAX as u64));
    let [_, reason] = refused(&many_groups).await;
    assert!(reason.unwrap().contains("more entries than the footer has bytes"));
    for children in [3, i64::from(i32::MAX), -1, (1 << 32) + 1] {
        for reason in refused(&footer(&[element("root", children), element("id", 0)], NO_GROUPS)).await {
            assert!(reason.unwrap().contains("claims to have more columns than there are"), "{children}");
        }
    }
    let many_elements = [&[0x15, 0x02, 0x19][..], &list(200_000), &[0; 200_000]].concat();
    for reason in refused(&many_elements).await {
        assert!(reason.unwrap().contains("more than 131072 entries"));
    }
}

#[tokio::test]
async fn a_long_name_of_a_group_is_not_repeated_for_each_of_its_columns_without_end() {
    let columns = 5_000;
    let mut schema = vec![element("root", 1), element(&"n".repeat(20_000), columns)];
    schema.extend((0..columns).map(|column| element(&column.to_string(), 0)));
    for reason in refused(&footer(&schema, NO_GROUPS)).await {
        assert_eq!(reason.unwrap(), "the names of its columns take more than 64 MB");
    }
}

/// The reader takes a field for what its number says; who believes its type would see another footer.
#[tokio::test]
async fn a_known_field_of_another_type_is_refused() {
    let groups = list(i32::MAX as u64);
    // A text, to who goes by types, in which the row groups are hidden.
    let hidden = [&[0xff], number(i32::MAX as u64).as_slice()].concat();
    let schema = [list(2), flat().concat()].concat();
    let head = [&[0x15, 0x02, 0x19], schema.as_slice(), &[0x16, 0x00]].concat();
    for rest in [[&[0x18], groups.as_slice()].concat(), [&[0x18], hidden.as_slice()].concat(), vec![0x1b, 0x00]] {
        let padded = [head.as_slice(), &rest, &[0; 1_000]].concat();
        let [_, reason] = refused(&padded).await;
        assert_eq!(reason.unwrap(), "its footer is not made as those of Parquet files are");
    }
}

/// Structs that nobody knows, within one another.
#[tokio::test]
async fn fields_that_nobody_knows_are_passed_over_unless_they_have_no_end() {
    let of = |depth: usize| {
        let whole = footer(&flat(), NO_GROUPS);
        let known = &whole[..whole.len() - 1];
        [known, &[0x0c], &signed(20), &vec![0x1c; depth], &vec![0; depth], &[0, 0]].concat()
    };
    assert_eq!(refused(&of(5)).await, [None, None]);
    for depth in [100, 100_000] {
        let [_, reason] = refused(&of(depth)).await;
        assert_eq!(reason.unwrap(), "its footer is not made as those of Parquet files are");
    }
}

#[tokio::test]
async fn more_records_than_can_be_ordered_are_a_broken_file() {
    let ids: ArrayRef = Arc::new(arrow::array::Int32Array::from_iter_values(0..3));
    let whole = written(&batch_of(vec![("id", ids)]), WriterProperties::default());
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&Bytes::from(whole.clone())).unwrap();
    let group = metadata.row_group(0);
    let claims = |claimed: &[i64]| {
        let groups = claimed.iter().enumerate().map(|(ordinal, rows)| {
            group.clone().into_builder().set_num_rows(*rows).set_ordinal(ordinal as i16).build().unwrap()
        });
        let mut contents = Vec::from(&whole[..]);
        let metadata = parquet::file::metadata::ParquetMetaDataBuilder::new(metadata.file_metadata().clone())
            .set_row_groups(groups.collect())
            .build();
        parquet::file::metadata::ParquetMetaDataWriter::new(&mut contents, &metadata).finish().unwrap();
        contents
    };
    for (claimed, is_whole) in [
        (vec![3, 3], true),
        (vec![1 << 36], false),
        (vec![1 << 35, 1 << 35], false),
        (vec![i64::MAX - 3, 3], false),
        (vec![-1], false),
    ] {
        let opened = ParquetFile::open(MemoryFile::of(claims(&claimed)) as Arc<dyn PinnedFile>).await.unwrap();
        let Err(reason) = opened else {
            assert!(is_whole, "{claimed:?}");
            continue;
        };
        assert!(!is_whole && reason.contains("more than can be"), "{claimed:?}: {reason}");
    }
}

#[tokio::test]
async fn however_a_footer_is_changed_the_process_goes_on() {
    let declared = "message m { optional group a (LIST) { repeated group list { optional int64 element (TIMESTAMP_MILLIS); } } \
                    optional group b (MAP) { repeated group key_value { required binary key (UTF8); optional int32 value (UINT_8); } } \
                    optional fixed_len_byte_array(5) c (DECIMAL(9, 2)); optional binary d (UTF8); }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(declared).unwrap());
    let mut whole = Vec::new();
    let writer = parquet::file::writer::SerializedFileWriter::new(&mut whole, schema, Arc::default()).unwrap();
    writer.close().unwrap();
    let length = u32::from_le_bytes(whole[whole.len() - 8..whole.len() - 4].try_into().unwrap()) as usize;
    let nested = whole[whole.len() - 8 - length..whole.len() - 8].to_vec();
    assert!(footer_fields(&nested).is_ok());
    let texts: ArrayRef = Arc::new(arrow::array::StringArray::from_iter_values(["a", "b"]));
    let whole = written(&batch_of(vec![("text", texts)]), WriterProperties::default());
    let length = u32::from_le_bytes(whole[whole.len() - 8..whole.len() - 4].try_into().unwrap()) as usize;
    let grouped = whole[whole.len() - 8 - length..whole.len() - 8].to_vec();
    let mut random = StdRng::seed_from_u64(17);
    let mut understood = 0;
    for footer in [nested, grouped] {
        for _ in 0..4_000 {
            let mut changed = footer.clone();
            for _ in 0..random.random_range(1..6) {
                let at = random.random_range(0..changed.len());
                match random.random_range(0..3) {
                    0 => changed[at] = random.random(),
                    1 => changed.insert(at, [0xff, 0x19, 0xfc, 0x15, 0x1c][random.random_range(0..5)]),
                    _ => drop(changed.remove(at)),
                }
            }
            understood += usize::from(refused(&changed).await[0].is_none());
        }
    }
    assert!(understood > 100, "{understood}");
}
