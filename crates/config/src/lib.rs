//! Turns a configuration directory into validated specs; the only reader of environment, files and secrets.
//!
//! A configuration directory holds `convoke.yaml` (the process), `connections.yaml` (destinations, object
//! stores and databases) and `syncs/*.yaml` (one
//! file per sync). [`load()`] reads all of it and either returns values that cannot be invalid, or every problem at once,
//! each with file, line and key path. Relative paths in these files are resolved against the directory that holds the
//! configuration directory, so that `--config config` at the root of a project means paths from that root.
//!
//! One table of shapes (`shape`, `keys`) says which keys exist, what they take and what they are for. It drives the
//! checks, the messages and the JSON Schema. Whether a destination can be reached is not asked here.

mod environment;
mod folder;
mod load;

mod check;
mod defaults;
mod field;
mod interpolate;
mod keys;
mod object_url;
mod scalar;
mod shape;
mod yaml;

mod connection;
mod settings;
mod sync;

mod hash;
mod problem;
mod report;
mod schema;

pub use defaults::DEFAULTS;
pub use environment::{Environment, System};
pub use hash::config_hash;
pub use load::{Config, LoadedSync, load};
pub use problem::{Problem, Problems};
pub use scalar::{duration, is_name};
pub use schema::json_schema;
pub use settings::{
    LedgerLocation, LogFormat, LogLevel, LogSettings, Retention, ServeSettings, Settings, StateSettings,
};
