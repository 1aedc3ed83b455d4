//! What a rule needs to know of the columns it is used on.

use arrow::datatypes::{DataType as ArrowType, Schema};
use convoke_core::DataType;

use crate::parse::nearest;

/// How the cells of a column are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnKind {
    /// Text without a declared type, as in CSV: operator and literal decide.
    Untyped,
    Text,
    /// Text that is compared as a whole only.
    Identifier,
    Number,
    /// `YYYY-MM-DD`, with or without a time behind it.
    Date,
    Boolean,
    /// One of a set of texts.
    Picklist,
    /// A JSON array of texts.
    TextList,
    /// A JSON array of numbers.
    NumberList,
    /// No operator fits.
    Unfilterable,
}

impl ColumnKind {
    /// Tells how cells of an audience column are compared.
    pub fn of(data_type: DataType) -> Self {
        use DataType as T;
        match data_type {
            T::Text | T::LargeText | T::Email | T::Phone | T::Url | T::Markup | T::OpaqueIdentifier | T::Reference => {
                Self::Text
            }
            T::Integer | T::Decimal | T::Percent | T::Currency | T::OrdinalIdentifier => Self::Number,
            T::Date => Self::Date,
            T::Boolean | T::Checkbox => Self::Boolean,
            T::Picklist => Self::Picklist,
            T::StringList | T::EmailList | T::PhoneList | T::UrlList | T::Multipicklist => Self::TextList,
            T::NumberList => Self::NumberList,
            T::ZiContactId | T::ZiCompanyId => Self::Identifier,
            T::Object => Self::Unfilterable,
        }
    }

    /// Tells how cells of a source column are compared. Lists and nested values need `sql:`.
    pub(crate) fn of_source(arrow_type: &ArrowType) -> Self {
        match arrow_type {
            ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => Self::Untyped,
            ArrowType::Boolean => Self::Boolean,
            ArrowType::Date32 | ArrowType::Date64 | ArrowType::Timestamp(_, _) => Self::Date,
            numeric if numeric.is_numeric() => Self::Number,
            _ => Self::Unfilterable,
        }
    }

    /// How the kind is called in messages.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Untyped | Self::Text => "text",
            Self::Identifier => "an identifier",
            Self::Number => "a number",
            Self::Date => "a date",
            Self::Boolean => "a boolean",
            Self::Picklist => "a pick-list",
            Self::TextList => "a list of texts",
            Self::NumberList => "a list of numbers",
            Self::Unfilterable => "of a type that rules cannot compare",
        }
    }
}

/// The columns a rule may name.
pub trait Columns {
    fn kind(&self, column: &str) -> Option<ColumnKind>;

    /// The known name that is most like `column`, for messages.
    fn nearest(&self, column: &str) -> Option<String> {
        let _ = column;
        None
    }
}

/// Source columns.
impl Columns for Schema {
    fn kind(&self, column: &str) -> Option<ColumnKind> {
        self.field_with_name(column).ok().map(|field| ColumnKind::of_source(field.data_type()))
    }

    fn nearest(&self, column: &str) -> Option<String> {
        nearest(column, self.fields().iter().map(|field| field.name().as_str())).map(str::to_owned)
    }
}

/// Audience columns by name or id, with their data types.
impl Columns for Vec<(String, DataType)> {
    fn kind(&self, column: &str) -> Option<ColumnKind> {
        self.iter().find(|(name, _)| name == column).map(|(_, data_type)| ColumnKind::of(*data_type))
    }

    fn nearest(&self, column: &str) -> Option<String> {
        nearest(column, self.iter().map(|(name, _)| name.as_str())).map(str::to_owned)
    }
}
