//! The schema of a container file, and what it is to Arrow.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde_json::{Map, Value};

use crate::csv::may_be_value;
use crate::outlet::Stop;

/// Types that are named twice count twice: a small schema can stand for very many columns.
const MOST_FIELDS: usize = 1 << 16;
/// The same for their names.
const MOST_NAME_BYTES: usize = 16 << 20;
const DEEPEST: usize = 64;
/// The digits that 128 bits hold.
const MOST_DIGITS: u64 = 38;

/// How a value is encoded.
#[derive(Debug, PartialEq)]
pub(super) enum Kind {
    Null,
    Boolean,
    /// `int`, as which dates and times are also written.
    Int(DataType),
    /// `long`, as which times are also written.
    Long(DataType),
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    /// Its symbols, which all references to one type share.
    Enum(Arc<[String]>),
    /// Sixteen bytes.
    Uuid,
    /// Months, days and milliseconds.
    Duration,
    /// Its size, if that is fixed.
    Decimal {
        precision: u8,
        scale: i8,
        size: Option<usize>,
    },
    Record(Record),
    Array(Box<Kind>),
    Map(Box<Kind>),
    /// All but `null` are the same to Arrow.
    Union(Vec<Kind>),
}

#[derive(Debug, PartialEq)]
pub(super) struct Record {
    pub(super) fields: Vec<RecordField>,
}

#[derive(Debug, PartialEq)]
pub(super) struct RecordField {
    pub(super) name: String,
    pub(super) kind: Kind,
}

impl Record {
    pub(super) fn to_arrow(&self) -> Fields {
        self.fields.iter().map(|field| Field::new(&field.name, field.kind.to_arrow(), true)).collect()
    }
}

impl Kind {
    pub(super) fn to_arrow(&self) -> DataType {
        match self {
            Self::Null => DataType::Null,
            Self::Boolean => DataType::Boolean,
            Self::Int(data_type) | Self::Long(data_type) => data_type.clone(),
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Bytes | Self::Fixed(_) => DataType::Binary,
            Self::Text | Self::Enum(_) | Self::Uuid | Self::Duration => DataType::Utf8,
            Self::Decimal { precision, scale, .. } => DataType::Decimal128(*precision, *scale),
            Self::Record(record) => DataType::Struct(record.to_arrow()),
            Self::Array(item) => DataType::List(Arc::new(Field::new_list_field(item.to_arrow(), true))),
            Self::Map(value) => DataType::Map(Arc::new(entries(value.to_arrow())), false),
            Self::Union(kinds) => {
                kinds.iter().map(Self::to_arrow).find(|kind| *kind != DataType::Null).unwrap_or(DataType::Null)
            }
        }
    }

    /// Whether its values take no bytes.
    fn takes_nothing(&self) -> bool {
        match self {
            Self::Null | Self::Fixed(0) | Self::Decimal { size: Some(0), .. } => true,
            Self::Record(record) => record.fields.iter().all(|field| field.kind.takes_nothing()),
            _ => false,
        }
    }
}

/// What a map consists of.
pub(super) fn entries(value: DataType) -> Field {
    let fields = vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)];
    Field::new("entries", DataType::Struct(fields.into()), false)
}

/// The records of a file with this schema.
pub(super) fn record_of(schema: &Value) -> Result<Record, Stop> {
    let mut parser = Parser { named: HashMap::new(), fields: 0, name_bytes: 0, depth: 0 };
    let broken = |reason: String| Stop::Broken(format!("the schema in the head of the file {reason}"));
    match parser.kind(schema, "").map_err(broken)? {
        Kind::Record(record) => Ok(record),
        _ => Err(broken("is not that of records".to_owned())),
    }
}

/// A type that has a name.
#[derive(Clone)]
struct Named<'a> {
    object: &'a Map<String, Value>,
    /// That it stands in.
    namespace: String,
    /// Of an enum.
    symbols: Option<Arc<[String]>>,
}

struct Parser<'a> {
    /// Types by their full names; none while one is being parsed.
    named: HashMap<String, Option<Named<'a>>>,
    fields: usize,
    name_bytes: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn kind(&mut self, schema: &'a Value, namespace: &str) -> Result<Kind, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!("has types within types, more than {DEEPEST} deep"));
        }
        let kind = match schema {
            Value::String(name) => self.reference(name, namespace),
            Value::Array(kinds) => self.union(kinds, namespace),
            Value::Object(object) => self.object(object, namespace),
            _ => Err("holds what is no type".to_owned()),
        };
        self.depth -= 1;
        kind
    }

    fn reference(&mut self, name: &str, namespace: &str) -> Result<Kind, String> {
        if let Some(kind) = primitive(name) {
            return Ok(kind);
        }
        let full = full_name(name, namespace);
        match self.named.get(&full) {
            Some(Some(Named { symbols: Some(symbols), .. })) => Ok(Kind::Enum(Arc::clone(symbols))),
            Some(Some(Named { object, namespace, .. })) => {
                let (object, namespace) = (*object, namespace.clone());
                self.named_type(object, full, &namespace)
            }
            Some(None) => Err("has a type that contains itself, which a table cannot hold".to_owned()),
            None => Err("names a type that it does not define".to_owned()),
        }
    }

    fn union(&mut self, schemas: &'a [Value], namespace: &str) -> Result<Kind, String> {
        let kinds = schemas.iter().map(|schema| self.kind(schema, namespace)).collect::<Result<Vec<_>, _>>()?;
        let mut types = kinds.iter().map(Kind::to_arrow).filter(|kind| *kind != DataType::Null);
        let first = types.next();
        if types.any(|other| first.as_ref() != Some(&other)) {
            return Err("has a union of several types, which a column cannot hold; write it as one of them".to_owned());
        }
        Ok(Kind::Union(kinds))
    }

    fn object(&mut self, object: &'a Map<String, Value>, namespace: &str) -> Result<Kind, String> {
        let kind = object.get("type").ok_or("has a type without a `type`")?;
        let logical = object.get("logicalType").and_then(Value::as_str).unwrap_or_default();
        match kind.as_str() {
            Some("array") => {
                let items = object.get("items").ok_or("has an array without `items`")?;
                let item = self.kind(items, namespace)?;
                if item.takes_nothing() {
                    return Err("has an array of what takes no bytes, so that nothing bounds it".to_owned());
                }
                Ok(Kind::Array(Box::new(item)))
            }
            Some("map") => {
                let values = object.get("values").ok_or("has a map without `values`")?;
                Ok(Kind::Map(Box::new(self.kind(values, namespace)?)))
            }
            Some("record" | "error" | "enum" | "fixed") => {
                let name = object.get("name").and_then(Value::as_str).ok_or("has a named type without a name")?;
                let own = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
                let full = full_name(name, own);
                let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
                self.named_type(object, full, &namespace)
            }
            Some("bytes") if logical == "decimal" => decimal(object, None),
            Some(name) => match logical_kind(name, logical) {
                Some(kind) => Ok(kind),
                None => self.reference(name, namespace),
            },
            None => self.kind(kind, namespace),
        }
    }

    fn named_type(&mut self, object: &'a Map<String, Value>, full: String, namespace: &str) -> Result<Kind, String> {
        self.named.insert(full.clone(), None);
        let kind = match object.get("type").and_then(Value::as_str) {
            Some("enum") => symbols(object).map(Kind::Enum),
            Some("fixed") => fixed(object),
            _ => self.record(object, namespace),
        }?;
        let symbols = if let Kind::Enum(symbols) = &kind { Some(Arc::clone(symbols)) } else { None };
        self.named.insert(full, Some(Named { object, namespace: namespace.to_owned(), symbols }));
        Ok(kind)
    }

    fn record(&mut self, object: &'a Map<String, Value>, namespace: &str) -> Result<Kind, String> {
        let fields = object.get("fields").and_then(Value::as_array).ok_or("has a record without `fields`")?;
        self.fields += fields.len();
        if self.fields > MOST_FIELDS {
            return Err(format!("has more than {MOST_FIELDS} fields"));
        }
        let mut parsed: Vec<RecordField> = Vec::with_capacity(fields.len());
        let mut names = HashSet::with_capacity(fields.len());
        for field in fields {
            let name = field.get("name").and_then(Value::as_str).ok_or("has a field without a name")?;
            // Fields are found by name, so one would be taken for the other.
            if !names.insert(name) {
                return Err("has a record with two fields of the same name".to_owned());
            }
            self.name_bytes += name.len();
            if self.name_bytes > MOST_NAME_BYTES {
                return Err(format!("has fields whose names take more than {} MB", MOST_NAME_BYTES >> 20));
            }
            let schema = field.get("type").ok_or("has a field without a type")?;
            let is_named = self.depth == 1 && !may_be_value(name);
            let kind = self.kind(schema, namespace).map_err(|reason| match is_named {
                true => format!("{reason} (in `{name}`)"),
                false => reason,
            })?;
            parsed.push(RecordField { name: name.to_owned(), kind });
        }
        Ok(Kind::Record(Record { fields: parsed }))
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn primitive(name: &str) -> Option<Kind> {
    Some(match name {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "int" => Kind::Int(DataType::Int32),
        "long" => Kind::Long(DataType::Int64),
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "string" => Kind::Text,
        _ => return None,
    })
}

/// The meaning that a primitive type is given; none that is known means the type itself.
fn logical_kind(name: &str, logical: &str) -> Option<Kind> {
    let instant = |unit| Kind::Long(DataType::Timestamp(unit, Some("+00:00".into())));
    let local = |unit| Kind::Long(DataType::Timestamp(unit, None));
    Some(match (name, logical) {
        ("int", "date") => Kind::Int(DataType::Date32),
        ("int", "time-millis") => Kind::Int(DataType::Time32(TimeUnit::Millisecond)),
        ("long", "time-micros") => Kind::Long(DataType::Time64(TimeUnit::Microsecond)),
        ("long", "timestamp-millis") => instant(TimeUnit::Millisecond),
        ("long", "timestamp-micros") => instant(TimeUnit::Microsecond),
        ("long", "timestamp-nanos") => instant(TimeUnit::Nanosecond),
        ("long", "local-timestamp-millis") => local(TimeUnit::Millisecond),
        ("long", "local-timestamp-micros") => local(TimeUnit::Microsecond),
        ("long", "local-timestamp-nanos") => local(TimeUnit::Nanosecond),
        _ => return None,
    })
}

fn symbols(object: &Map<String, Value>) -> Result<Arc<[String]>, String> {
    let symbols = object.get("symbols").and_then(Value::as_array).ok_or("has an enum without `symbols`")?;
    let texts = symbols.iter().map(|symbol| symbol.as_str().map(str::to_owned));
    texts.collect::<Option<_>>().ok_or_else(|| "has an enum whose symbols are not all text".to_owned())
}

fn fixed(object: &Map<String, Value>) -> Result<Kind, String> {
    let size = object.get("size").and_then(Value::as_u64).ok_or("has a `fixed` without a size")?;
    let size = usize::try_from(size).map_err(|_| "has a `fixed` that is too large")?;
    match (object.get("logicalType").and_then(Value::as_str), size) {
        (Some("decimal"), _) => decimal(object, Some(size)),
        (Some("duration"), 12) => Ok(Kind::Duration),
        (Some("uuid"), 16) => Ok(Kind::Uuid),
        _ => Ok(Kind::Fixed(size)),
    }
}

fn decimal(object: &Map<String, Value>, size: Option<usize>) -> Result<Kind, String> {
    let precision = object.get("precision").and_then(Value::as_u64).unwrap_or(0);
    let scale = object.get("scale").map_or(Some(0), Value::as_u64);
    match scale {
        Some(scale) if (1..=MOST_DIGITS).contains(&precision) && scale <= precision => {
            Ok(Kind::Decimal { precision: precision as u8, scale: scale as i8, size })
        }
        _ => Err(format!("has a decimal that does not have 1 to {MOST_DIGITS} digits")),
    }
}
