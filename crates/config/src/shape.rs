//! The language of the table of keys: what a key takes, what it is for, whether it must be there.

/// One key of an object.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// What it is for; one or two sentences, shown by editors.
    pub(crate) doc: &'static str,
    pub(crate) shape: Shape,
    pub(crate) presence: Presence,
}

/// Whether a key must, may or cannot yet be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    Optional,
    /// Part of the design, not built: refused as such.
    Planned,
}

/// What stands under a key.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// Any text but an empty one.
    Text,
    /// A path; relative ones start at the directory that holds the configuration directory.
    Path,
    /// A text that is never shown.
    Secret,
    /// `http` or `https`, without credentials in it.
    Url,
    /// `s3://…`, `file:///…` or a path; what decodes it says what is wrong with it.
    ObjectUrl,
    /// An IP address and a port.
    Listen,
    Boolean,
    Duration,
    /// A duration above zero.
    Timeout,
    Size,
    /// `5%`, from 0 to 100.
    Percent,
    /// `5%`, `100`, `unlimited`.
    Limit,
    /// A whole number within these bounds.
    Count {
        min: u64,
        max: u64,
    },
    /// A field separator.
    Delimiter,
    /// Lower-case letters, digits and `-`.
    Name,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A block with these keys and no others.
    Object(&'static [Key]),
    /// A block with exactly one of these keys.
    OneOf(&'static [Key]),
    /// A block whose keys the user chooses.
    Map {
        key: MapKey,
        value: &'static Shape,
    },
    /// One value or a list of them, at least one.
    OneOrMany(&'static Shape),
    /// A single value of one shape, or a block with these keys.
    ScalarOrObject {
        scalar: &'static Shape,
        object: &'static [Key],
    },
    /// `{ sql: … }` or a rule.
    Filter(&'static [Key]),
}

/// What the keys of a map name.
#[derive(Clone, Copy)]
pub(crate) enum MapKey {
    /// Names of connections: lower-case letters, digits and `-`.
    Connection,
    /// Any text but an empty one.
    Text,
}

impl Key {
    pub(crate) const fn required(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { name, doc, shape, presence: Presence::Required }
    }

    pub(crate) const fn optional(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { name, doc, shape, presence: Presence::Optional }
    }

    pub(crate) const fn planned(name: &'static str, doc: &'static str) -> Self {
        Self { name, doc, shape: Shape::Text, presence: Presence::Planned }
    }

    pub(crate) fn is_planned(&self) -> bool {
        self.presence == Presence::Planned
    }
}

impl Shape {
    /// What is expected, for messages.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Text => "a text".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Secret => "a secret: `${env:NAME}` or `${file:path}`".to_owned(),
            Self::Url => "a URL such as `https://api.example.com/v1`, without credentials in it".to_owned(),
            Self::ObjectUrl => "a URL such as `s3://bucket/folder` or `file:///folder`, or a path".to_owned(),
            Self::Listen => "an IP address and a port such as `127.0.0.1:8080` or `0.0.0.0:8080`".to_owned(),
            Self::Boolean => "`true` or `false`".to_owned(),
            Self::Duration => "a duration such as `30s`, `5m`, `2h` or `7d`".to_owned(),
            Self::Timeout => "a duration above zero such as `30s` or `5m`".to_owned(),
            Self::Size => "a size such as `512MB` or `2GiB`".to_owned(),
            Self::Percent => "a share from `0%` to `100%`".to_owned(),
            Self::Limit => "a share such as `5%`, a number of records such as `100`, or `unlimited`".to_owned(),
            Self::Count { min, max: u64::MAX } => format!("a whole number, {min} or more"),
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Delimiter => "one punctuation character, `tab` or `auto`".to_owned(),
            Self::Name => "a name of lower-case letters, digits and `-`, at most 64".to_owned(),
            Self::Choice(words) => format!("one of {}", quoted(words.iter().copied())),
            Self::Object(_) | Self::OneOf(_) => "a block of keys".to_owned(),
            Self::Map { .. } => "a block of names, each with its value".to_owned(),
            Self::OneOrMany(shape) => format!("{}, or a list of such", shape.expected()),
            Self::ScalarOrObject { scalar, object } => {
                format!("{}, or a block with {}", scalar.expected(), quoted(built(object).map(|key| key.name)))
            }
            Self::Filter(_) => "a rule, or `{ sql: … }`".to_owned(),
        }
    }
}

/// The keys that are not merely planned.
pub(crate) fn built(keys: &'static [Key]) -> impl Iterator<Item = &'static Key> + Clone {
    keys.iter().filter(|key| !key.is_planned())
}

/// Lists names for a message: `` `a`, `b` ``.
pub(crate) fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
