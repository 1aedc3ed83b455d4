//! `json_get` and `json_text`: what a JSON text holds at a place.
//!
//! What is no JSON has nothing anywhere. Numbers keep their spelling.

use std::fmt;
use std::sync::Arc;

use arrow::array::StringBuilder;
use arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, exec_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::whole_number;
use crate::text_column::{as_text, text_at};

/// `->`: the part as JSON.
pub(super) fn json_get() -> ScalarUDF {
    ScalarUDF::from(JsonPart { name: "json_get", signature: Signature::any(2, Volatility::Immutable) })
}

/// `->>`: the part as text.
pub(super) fn json_text() -> ScalarUDF {
    ScalarUDF::from(JsonPart { name: "json_text", signature: Signature::any(2, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonPart {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for JsonPart {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let texts = as_text(&args.args[0].to_array(args.number_rows)?)?;
        let ColumnarValue::Scalar(place) = &args.args[1] else {
            return exec_err!("the place in the JSON text must be written out, as in `payload->>'name'`");
        };
        let Some(steps) = steps_of(place) else {
            return exec_err!("a place in JSON text is a name, a number from 0, or a path such as `$.user.name`");
        };
        let mut parts = StringBuilder::with_capacity(args.number_rows, args.number_rows * 16);
        for row in 0..args.number_rows {
            let found = text_at(&texts, row).and_then(|text| part_at(text, &steps));
            match found {
                Some(part) if self.name == "json_text" => parts.append_option(text_of(part)),
                other => parts.append_option(other),
            }
        }
        Ok(ColumnarValue::Array(Arc::new(parts.finish())))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Element(usize),
}

/// A name or a number is one step; a text that begins with `$` is a path.
fn steps_of(place: &ScalarValue) -> Option<Vec<Step>> {
    if let Some(number) = whole_number(place) {
        return Some(vec![Step::Element(usize::try_from(number).ok()?)]);
    }
    let text = place.try_as_str()??;
    let Some(mut rest) = text.strip_prefix('$') else { return Some(vec![Step::Name(text.to_owned())]) };
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(named) = rest.strip_prefix('.') {
            let end = named.find(['.', '[']).unwrap_or(named.len());
            if end == 0 {
                return None;
            }
            steps.push(Step::Name(named[..end].to_owned()));
            rest = &named[end..];
        } else {
            let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
            steps.push(Step::Element(index.parse().ok()?));
            rest = after;
        }
    }
    Some(steps)
}

/// The part of a JSON text, as it is spelled there.
fn part_at<'t>(text: &'t str, steps: &[Step]) -> Option<&'t str> {
    let mut part = text;
    for step in steps {
        let mut reader = serde_json::Deserializer::from_str(part);
        part = reader.deserialize_any(Find(step)).ok()??;
        reader.end().ok()?;
    }
    if steps.is_empty() {
        serde_json::from_str::<IgnoredAny>(part).ok()?;
    }
    Some(part.trim())
}

/// A part as text: strings without their quotes, `null` as nothing.
fn text_of(part: &str) -> Option<String> {
    match part.as_bytes().first()? {
        b'"' => serde_json::from_str(part).ok(),
        _ if part == "null" => None,
        _ => Some(part.to_owned()),
    }
}

/// Finds one step's part, and passes over the others.
struct Find<'s>(&'s Step);

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> std::result::Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = members.next_key::<String>()? {
            match self.0 {
                Step::Name(wanted) if *wanted == name => found = Some(members.next_value::<&RawValue>()?.get()),
                _ => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> std::result::Result<Self::Value, A::Error> {
        let (mut found, mut index) = (None, 0);
        while let Some(element) = elements.next_element::<&RawValue>()? {
            if *self.0 == Step::Element(index) {
                found = Some(element.get());
            }
            index += 1;
        }
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &str, place: &str) -> Option<String> {
        part_at(text, &steps_of(&ScalarValue::from(place)).unwrap()).map(str::to_owned)
    }

    #[test]
    fn parts_are_found_as_they_are_spelled() {
        let text = r#" {"a": {"b": [1, 2.50, {"c": "ü\n"}]}, "a.b": 12345678901234567890123, "n": null} "#;
        assert_eq!(part(text, "$.a.b[1]").as_deref(), Some("2.50"));
        assert_eq!(part(text, "a.b").as_deref(), Some("12345678901234567890123"), "a name may have a dot");
        assert_eq!(part(text, "$.a.b[2].c").as_deref().and_then(text_of).as_deref(), Some("ü\n"));
        assert_eq!(part(text, "n").as_deref().and_then(text_of), None);
        for missing in ["b", "$.a.c", "$.a.b[3]", "$.a.b.c", "$.n.x"] {
            assert_eq!(part(text, missing), None, "{missing}");
        }
        assert_eq!(part("[1, 2] rest", "$[0]"), None, "what is no JSON has nothing anywhere");
        assert_eq!(part("plain", "$"), None);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for wrong in ["$a", "$.", "$.a..b", "$[x]", "$[1"] {
            assert_eq!(steps_of(&ScalarValue::from(wrong)), None, "{wrong}");
        }
        assert_eq!(steps_of(&ScalarValue::Int64(Some(-1))), None);
    }
}
