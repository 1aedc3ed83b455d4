//! A type for each kind of id, so that one cannot stand in for another.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Parses the hyphenated form that `Display` prints.
            pub fn parse(text: &str) -> Option<Self> {
                Uuid::parse_str(text).ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Clones share the text.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a text that was checked where it came in.
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(text.as_ref().into())
            }

            /// The text of the name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }
    };
}

uuid_id! {
    /// One execution of a sync. Time-ordered (UUID version 7).
    RunId
}
uuid_id! {
    /// One backfill, over all its windows. Time-ordered (UUID version 7).
    BackfillId
}
uuid_id! {
    /// One durable plan. Time-ordered (UUID version 7).
    PlanId
}
name_id! {
    /// A sync as the user names it: lower-case letters, digits and `-`.
    SyncName
}

impl SyncName {
    /// The owner of rows whose sync was retired. No sync is called so.
    pub fn nobody() -> Self {
        Self::new("")
    }

    /// Whether this is no sync's name.
    pub fn is_nobody(&self) -> bool {
        self.0.is_empty()
    }
}

name_id! {
    /// A connection as the user names it in `config/connections.yaml`.
    ConnectionName
}
name_id! {
    /// The id that a destination gave a row. Opaque; a UUID at GTM Studio.
    RowId
}

/// Names one audience for leases, ledgers and journals: the connection and the destination's own id.
///
/// The audience's display name is not part of its identity: a renamed audience is still the same one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AudienceKey {
    pub connection: ConnectionName,
    pub audience_id: String,
}

impl fmt::Display for AudienceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.connection, self.audience_id)
    }
}
