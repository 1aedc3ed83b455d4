//! The data types of audience columns, as GTM Studio names them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a cell's canonical text stands in a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonShape {
    /// A JSON string, escaped.
    Text,
    /// A JSON number; the canonical text is the number itself.
    Number,
    /// `true` or `false`; the canonical text is the literal itself.
    Boolean,
    /// A JSON array; the canonical text is the array itself.
    Array,
}

macro_rules! data_types {
    ($($(#[$doc:meta])* $name:ident = $wire:literal, $shape:ident, $custom:literal;)+) => {
        /// Data type of an audience column (`ColumnDataType` of the GTM Studio API).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum DataType {
            $($(#[$doc])* #[serde(rename = $wire)] $name,)+
        }

        impl DataType {
            /// Every data type the API names, in its order.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name the API uses.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $wire,)+ }
            }

            /// How a value of this type stands in a request body.
            pub fn json_shape(self) -> JsonShape {
                match self { $(Self::$name => JsonShape::$shape,)+ }
            }

            /// Whether a column that Convoke creates and fills may have this type.
            pub fn is_custom(self) -> bool {
                match self { $(Self::$name => $custom,)+ }
            }
        }
    };
}

data_types! {
    /// Fewer than 2,000 characters.
    Text = "TEXT", Text, true;
    Boolean = "BOOLEAN", Boolean, true;
    /// A calendar day, `YYYY-MM-DD`, no time part.
    Date = "DATE", Text, true;
    StringList = "STRING_LIST", Array, true;
    NumberList = "NUMBER_LIST", Array, true;
    EmailList = "EMAIL_LIST", Array, true;
    PhoneList = "PHONE_LIST", Array, true;
    Phone = "PHONE", Text, true;
    Email = "EMAIL", Text, true;
    /// Text of any length.
    LargeText = "LARGE_TEXT", Text, true;
    Integer = "INTEGER", Number, true;
    Decimal = "DECIMAL", Number, true;
    /// A JSON document, carried as a string.
    Object = "OBJECT", Text, true;
    Url = "URL", Text, true;
    UrlList = "URL_LIST", Array, true;
    Checkbox = "CHECKBOX", Boolean, true;
    Percent = "PERCENT", Number, true;
    OpaqueIdentifier = "OPAQUE_IDENTIFIER", Text, false;
    OrdinalIdentifier = "ORDINAL_IDENTIFIER", Number, false;
    Reference = "REFERENCE", Text, false;
    Picklist = "PICKLIST", Text, false;
    Multipicklist = "MULTIPICKLIST", Array, false;
    Currency = "CURRENCY", Number, true;
    ZiContactId = "ZI_CONTACT_ID", Text, false;
    ZiCompanyId = "ZI_COMPANY_ID", Text, false;
    Markup = "MARKUP", Text, false;
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DataType {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|data_type| data_type.as_str() == text).ok_or(())
    }
}
