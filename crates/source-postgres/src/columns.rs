//! The columns of a relation: learnt by preparing its statement, without running it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use convoke_core::SourceError;
use convoke_core::spec::Relation;
use sqlx::postgres::PgColumn;
use sqlx::postgres::types::Oid;
use sqlx::{AssertSqlSafe, Column as _, Executor, PgConnection, SqlSafeStr, Statement};

use crate::cells::Cells;
use crate::failure::Failures;
use crate::relation::select_of;
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
    Array(Scalar),
}

/// The columns of a relation; at least one, no two of the same name.
pub(crate) struct Columns {
    columns: Vec<(String, ColumnType)>,
}

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
        relation: &Relation,
        failures: &Failures,
    ) -> Result<Self, SourceError> {
        let failed = |error| failures.asking(error);
        let select = AssertSqlSafe(select_of(relation)).into_sql_str();
        let statement = connection.prepare(select).await.map_err(failed)?;
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
        let columns = described.iter().map(|column| {
            let oid = oid_of(column);
            let modifier = origin_of(column).and_then(|origin| modifiers.get(&origin)).copied();
            match column_type(&catalog, oid, modifier) {
                Some(column_type) => Ok((column.name().to_owned(), column_type)),
                None => {
                    let written = catalog.get(&oid).map_or("unknown", |found| found.written.as_str());
                    Err(failures.unreadable_type(column.name(), written))
                }
            }
        });
        Ok(Self { columns: columns.collect::<Result<_, _>>()? })
    }

    #[cfg(test)]
    pub(crate) fn of(columns: Vec<(String, ColumnType)>) -> Self {
        Self { columns }
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        let field = |(name, column_type): &(String, ColumnType)| Field::new(name, Cells::data_type(*column_type), true);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    pub(crate) fn types(&self) -> impl Iterator<Item = ColumnType> {
        self.columns.iter().map(|(_, column_type)| *column_type)
    }

    /// The type of a column that is there and is no array.
    pub(crate) fn scalar(&self, name: &str) -> Option<Scalar> {
        self.columns.iter().find_map(|(known, column_type)| match column_type {
            ColumnType::Scalar(scalar) if known == name => Some(*scalar),
            _ => None,
        })
    }

    /// A digest of the relation and of its columns, in their order: as long as it is the same, records mean the same.
    pub(crate) fn shape(&self, relation: &Relation) -> String {
        let shape = blake3::hash(format!("{relation:?} {:?}", self.columns).as_bytes());
        shape.to_hex()[..32].to_owned()
    }
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
        return scalar_type(catalog, found.element).map(ColumnType::Array);
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
