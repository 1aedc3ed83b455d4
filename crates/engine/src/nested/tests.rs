use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Float64Type};

use super::json::texts;

fn of(column: ArrayRef) -> Vec<Option<String>> {
    texts(&column).unwrap().iter().map(|text| text.map(str::to_owned)).collect()
}

#[test]
fn wholes_are_json_without_fields_that_are_null() {
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a\"b\n"), None, Some("x")]));
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::NAN)]));
    let fields = vec![Field::new("na\"me", DataType::Utf8, true), Field::new("n", DataType::Float64, true)];
    let whole = StructArray::new(fields.into(), vec![names, numbers], Some(NullBuffer::from(vec![true, true, false])));
    let expected = [Some(r#"{"na\"me":"a\"b\n","n":1.5}"#), Some("{}"), None];
    assert_eq!(of(Arc::new(whole)), expected.map(|text| text.map(str::to_owned)));
}

#[test]
fn what_json_has_no_number_for_is_text_and_elements_that_are_null_stay() {
    let list = ListArray::from_iter_primitive::<Float64Type, _, _>(vec![
        Some(vec![Some(1.0), None, Some(f64::NAN), Some(f64::NEG_INFINITY)]),
        Some(vec![]),
        None,
    ]);
    let expected = [Some(r#"[1.0,null,"NaN","-inf"]"#), Some("[]"), None];
    assert_eq!(of(Arc::new(list)), expected.map(|text| text.map(str::to_owned)));
}

#[test]
fn a_slice_is_written_from_where_it_begins() {
    let list = ListArray::from_iter_primitive::<Float64Type, _, _>((0..5).map(|n| Some(vec![Some(f64::from(n))])));
    let whole = RecordBatch::try_from_iter([("v", Arc::new(list) as ArrayRef)]).unwrap();
    assert_eq!(of(Arc::clone(whole.slice(3, 2).column(0))), [Some("[3.0]".to_owned()), Some("[4.0]".to_owned())]);
}
