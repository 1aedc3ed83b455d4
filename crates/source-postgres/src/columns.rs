//! The columns of a relation: learnt by preparing its statement, without running it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use convoke_core::SourceError;
use convoke_core::spec::{OutOfRange, PostgresSpec, Relation, UnsupportedTypes};
use sqlx::postgres::PgColumn;
use sqlx::postgres::types::Oid;
use sqlx::{AssertSqlSafe, Column as _, Connection as _, Executor, PgConnection, SqlSafeStr, Statement};

use crate::cells::Cells;
use crate::failure::Failures;
use crate::moment::Reach;
use crate::relation::{quoted, select_of};
use crate::scalar::Scalar;

/// More digits than this have no place in Arrow's decimals.
const MAX_PRECISION: i32 = 38;

/// The wanted types, what the domains among them are over, and what the arrays are of.
const TYPES: &str = "WITH RECURSIVE wanted(oid) AS ( \
     SELECT unnest($1::oid[]) \
     UNION \
     SELECT beneath.oid FROM wanted JOIN pg_catalog.pg_type AS above ON above.oid = wanted.oid \
     CROSS JOIN LATERAL (VALUES (above.typbasetype), (above.typelem)) AS beneath(oid) WHERE beneath.oid <> 0) \
     SELECT oid, typname::text, typtype::text, typcategory::text, typbasetype, typelem, \
     pg_catalog.format_type(oid, NULL) FROM pg_catalog.pg_type JOIN wanted USING (oid)";

/// Precision and scale of the columns of tables and views, as PostgreSQL keeps them.
const MODIFIERS: &str = "SELECT attrelid, attnum, CASE WHEN typtype = 'd' THEN typtypmod ELSE atttypmod END \
     FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_type ON pg_type.oid = atttypid \
     WHERE attrelid = ANY ($1::oid[]) AND attnum > 0";

/// How a column is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Scalar(Scalar),
    /// `numeric` with a known precision.
    Decimal {
        precision: u8,
        scale: i8,
    },
    /// As text, since nothing else holds all its values.
    Written(Scalar),
    Array(Scalar, Reach),
}

/// A column that is read.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) column_type: ColumnType,
    /// What the server makes of it first.
    pub(crate) cast: Option<&'static str>,
}

/// A column whose type cannot be read as it is.
#[derive(Clone, Debug)]
pub(crate) struct Unreadable {
    name: String,
    /// The type as a user writes it.
    written: String,
}

/// The columns of a relation, no two of the same name.
pub(crate) struct Columns {
    columns: Vec<Column>,
    /// Refused if somebody reads them.
    refused: Vec<Unreadable>,
    /// Left out, as the source is told to.
    skipped: Vec<Unreadable>,
    /// All columns that the relation has, in their order.
    is_whole: bool,
}

/// Tells which columns of a schema are read.
pub type ColumnsRead = Arc<dyn Fn(&SchemaRef) -> BTreeSet<String> + Send + Sync>;

/// A row of PostgreSQL's catalogue of types.
struct CatalogType {
    name: String,
    /// `b`ase, `d`omain, `e`num, and others.
    kind: String,
    is_array: bool,
    /// What a domain is over.
    base: Oid,
    element: Oid,
    /// As a user writes it.
    written: String,
}

type Catalog = HashMap<Oid, CatalogType>;

impl Columns {
    pub(crate) async fn describe(
        connection: &mut PgConnection,
        spec: &PostgresSpec,
        failures: &Failures,
    ) -> Result<Self, SourceError> {
        let failed = |error| failures.asking(error);
        let select = AssertSqlSafe(select_of(&spec.relation)).into_sql_str();
        let statement = connection.prepare(select).await.map_err(failed)?;
        // The driver would tell the columns of now when it is asked again later.
        connection.clear_cached_statements().await.map_err(failed)?;
        let described = statement.columns();
        let mut names = HashSet::new();
        if let Some(twice) = described.iter().find(|column| !names.insert(column.name())) {
            return Err(failures.named_twice(twice.name()));
        }
        if described.is_empty() {
            return Err(failures.without_columns());
        }
        let catalog = catalog_of(connection, described).await.map_err(failed)?;
        let modifiers = modifiers_of(connection, described).await.map_err(failed)?;
        let mut columns = Self { columns: Vec::new(), refused: Vec::new(), skipped: Vec::new(), is_whole: true };
        for column in described {
            let oid = oid_of(column);
            let modifier = origin_of(column).and_then(|origin| modifiers.get(&origin)).copied();
            let name = column.name().to_owned();
            match column_type(&catalog, oid, modifier) {
                Some(found) => columns.add(name, in_reach(found, spec.out_of_range), None),
                None => columns.add_unreadable(name, catalog.get(&oid), spec.unsupported),
            }
        }
        Ok(columns)
    }

    fn add(&mut self, name: String, column_type: ColumnType, cast: Option<&'static str>) {
        self.columns.push(Column { name, column_type, cast });
    }

    fn add_unreadable(&mut self, name: String, found: Option<&CatalogType>, policy: UnsupportedTypes) {
        let written = found.map_or("unknown", |found| found.written.as_str()).to_owned();
        match policy {
            UnsupportedTypes::Text => self.add(name, ColumnType::Scalar(Scalar::Text), Some(cast_of(found))),
            UnsupportedTypes::Error => self.refused.push(Unreadable { name, written }),
            UnsupportedTypes::Skip => self.skipped.push(Unreadable { name, written }),
        }
        self.is_whole &= policy == UnsupportedTypes::Text;
    }

    #[cfg(test)]
    pub(crate) fn of(columns: Vec<(String, ColumnType)>) -> Self {
        let columns = columns.into_iter().map(|(name, column_type)| Column { name, column_type, cast: None }).collect();
        Self { columns, refused: Vec::new(), skipped: Vec::new(), is_whole: true }
    }

    /// Those that are read, and `also`; refuses what is read and cannot be. `read` none: all are. Where it names none, the
    /// sync does not fit the relation, which others tell who need to see all there is.
    pub(crate) fn narrowed(
        &self,
        read: Option<&ColumnsRead>,
        also: Option<&str>,
        failures: &Failures,
    ) -> Result<Self, SourceError> {
        let wanted = read.map(|read| read(&self.full_schema()));
        if wanted.as_ref().is_some_and(BTreeSet::is_empty) {
            return self.chosen(|_| true, failures);
        }
        let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted.contains(name)) || also == Some(name);
        if let Some(refused) = self.refused.iter().find(|column| is_wanted(&column.name)) {
            return Err(failures.unreadable_type(&refused.name, &refused.written));
        }
        self.chosen(is_wanted, failures)
    }

    fn chosen(&self, is_wanted: impl Fn(&str) -> bool, failures: &Failures) -> Result<Self, SourceError> {
        let columns: Vec<_> = self.columns.iter().filter(|column| is_wanted(&column.name)).cloned().collect();
        if columns.is_empty() {
            return Err(failures.without_columns());
        }
        let is_whole = self.is_whole && columns.len() == self.columns.len();
        Ok(Self { columns, refused: Vec::new(), skipped: Vec::new(), is_whole })
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.fields().collect::<Vec<_>>()))
    }

    /// With what is refused if it is read, as text.
    fn full_schema(&self) -> SchemaRef {
        let refused = self.refused.iter().map(|column| Field::new(&column.name, DataType::Utf8, true));
        Arc::new(Schema::new(self.fields().chain(refused).collect::<Vec<_>>()))
    }

    fn fields(&self) -> impl Iterator<Item = Field> {
        self.columns.iter().map(|column| Field::new(&column.name, Cells::data_type(column.column_type), true))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    pub(crate) fn types(&self) -> impl Iterator<Item = ColumnType> {
        self.columns.iter().map(|column| column.column_type)
    }

    /// What a SELECT lists; none if the relation gives just that by itself.
    pub(crate) fn select_list(&self) -> Option<String> {
        let item = |column: &Column| {
            let name = quoted(&column.name);
            column.cast.map_or_else(|| name.clone(), |cast| format!("{name}::{cast} AS {name}"))
        };
        let is_plain = self.is_whole && self.columns.iter().all(|column| column.cast.is_none());
        (!is_plain).then(|| self.columns.iter().map(item).collect::<Vec<_>>().join(", "))
    }

    /// All names, as SQL lists them.
    pub(crate) fn all(&self) -> String {
        self.names().map(quoted).collect::<Vec<_>>().join(", ")
    }

    /// The place and type of a column that is there and is no array.
    pub(crate) fn find(&self, name: &str) -> Option<(usize, Scalar)> {
        self.columns.iter().enumerate().find_map(|(index, column)| match column.column_type {
            ColumnType::Scalar(scalar) | ColumnType::Written(scalar)
                if column.name == name && column.cast.is_none() =>
            {
                Some((index, scalar))
            }
            _ => None,
        })
    }

    /// A digest of the relation and of its columns, in their order: as long as it is the same, records mean the same.
    pub(crate) fn shape(&self, relation: &Relation) -> String {
        let columns = self.columns.iter().map(|column| (&column.name, column.column_type, column.cast));
        let shape = blake3::hash(format!("{relation:?} {:?}", columns.collect::<Vec<_>>()).as_bytes());
        shape.to_hex()[..32].to_owned()
    }

    /// Tells what is left out, if anything is.
    pub(crate) fn notice(&self, label: &str) -> Option<String> {
        let named = self.skipped.iter().map(|column| format!("`{}` ({})", column.name, column.written));
        let named = named.collect::<Vec<_>>().join(", ");
        (!named.is_empty()).then(|| {
            format!(
                "`{label}` is read without columns whose types cannot be read, as `unsupported: skip` says: {named}"
            )
        })
    }
}

/// The type under a policy about values that only texts can hold.
fn in_reach(column_type: ColumnType, policy: OutOfRange) -> ColumnType {
    match (policy, column_type) {
        (OutOfRange::Text, ColumnType::Scalar(scalar)) if scalar.has_far_values() => ColumnType::Written(scalar),
        (OutOfRange::Text, ColumnType::Decimal { .. }) => ColumnType::Scalar(Scalar::Numeric),
        (OutOfRange::Text, ColumnType::Array(element, _)) => ColumnType::Array(element, Reach::Far),
        (_, column_type) => column_type,
    }
}

/// How the server makes text of a type. That of `money` depends on where the server thinks it is.
fn cast_of(found: Option<&CatalogType>) -> &'static str {
    if found.is_some_and(|found| found.name == "money") { "numeric::text" } else { "text" }
}

async fn catalog_of(connection: &mut PgConnection, described: &[PgColumn]) -> Result<Catalog, sqlx::Error> {
    type Row = (Oid, String, String, String, Oid, Oid, String);
    let wanted: Vec<Oid> = described.iter().map(oid_of).collect();
    let rows: Vec<Row> = sqlx::query_as(TYPES).persistent(false).bind(wanted).fetch_all(connection).await?;
    let entry = |(oid, name, kind, category, base, element, written): Row| {
        let is_array = category == "A" && element != Oid(0);
        (oid, CatalogType { name, kind, is_array, base, element, written })
    };
    Ok(rows.into_iter().map(entry).collect())
}

/// Type modifiers by table and number of the column.
async fn modifiers_of(
    connection: &mut PgConnection,
    described: &[PgColumn],
) -> Result<HashMap<(Oid, i16), i32>, sqlx::Error> {
    let tables: Vec<Oid> = described.iter().filter_map(PgColumn::relation_id).collect();
    let rows: Vec<(Oid, i16, i32)> =
        sqlx::query_as(MODIFIERS).persistent(false).bind(tables).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(table, number, modifier)| ((table, number), modifier)).collect())
}

fn oid_of(column: &PgColumn) -> Oid {
    column.type_info().oid().unwrap_or(Oid(0))
}

/// The table and the number there of a column that is passed on as it stands.
fn origin_of(column: &PgColumn) -> Option<(Oid, i16)> {
    column.relation_id().zip(column.relation_attribute_no())
}

/// How a type is read, if it can be.
fn column_type(catalog: &Catalog, oid: Oid, modifier: Option<i32>) -> Option<ColumnType> {
    let found = catalog.get(&oid)?;
    if found.kind == "d" {
        return column_type(catalog, found.base, modifier);
    }
    if found.is_array {
        return scalar_type(catalog, found.element).map(|element| ColumnType::Array(element, Reach::Near));
    }
    let scalar = scalar_type(catalog, oid)?;
    let decimal = modifier.filter(|_| scalar == Scalar::Numeric).and_then(decimal);
    Some(decimal.unwrap_or(ColumnType::Scalar(scalar)))
}

fn scalar_type(catalog: &Catalog, oid: Oid) -> Option<Scalar> {
    let found = catalog.get(&oid)?;
    match found.kind.as_str() {
        "d" => scalar_type(catalog, found.base),
        "e" => Some(Scalar::Text),
        // An extension's type, whose number differs from database to database.
        "b" if found.name == "citext" => Some(Scalar::Text),
        "b" => Scalar::of_oid(oid.0),
        _ => None,
    }
}

/// Precision and scale out of a type modifier of `numeric`, where Arrow's decimals have room for them.
fn decimal(modifier: i32) -> Option<ColumnType> {
    // PostgreSQL adds the length of a header to every modifier; -1 is none.
    let packed = modifier.checked_sub(4).filter(|packed| *packed >= 0)?;
    let precision = packed >> 16;
    // Eleven bits with a sign: since version 15, a scale may be below zero or above the precision.
    let scale = ((packed & 0x7ff) ^ 1024) - 1024;
    let (precision, scale) = if scale < 0 { (precision - scale, 0) } else { (precision.max(scale), scale) };
    let precision = u8::try_from(precision).ok().filter(|precision| i32::from(*precision) <= MAX_PRECISION)?;
    Some(ColumnType::Decimal { precision, scale: i8::try_from(scale).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modifier(precision: i32, scale: i32) -> i32 {
        ((precision << 16) | (scale & 0x7ff)) + 4
    }

    #[test]
    fn a_numeric_that_fits_is_a_decimal() {
        let decimal_of = |precision, scale| decimal(modifier(precision, scale));
        let expected = |precision, scale| Some(ColumnType::Decimal { precision, scale });
        assert_eq!(decimal_of(12, 2), expected(12, 2));
        assert_eq!(decimal_of(38, 38), expected(38, 38));
        assert_eq!(decimal_of(2, -3), expected(5, 0), "thousands");
        assert_eq!(decimal_of(3, 5), expected(5, 5), "thousandths only");
        assert_eq!(decimal_of(39, 0), None);
        assert_eq!(decimal_of(38, -1), None);
        assert_eq!(decimal(-1), None, "without precision");
    }
}
