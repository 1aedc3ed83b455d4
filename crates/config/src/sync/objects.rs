//! Decodes `s3_parquet`.

use convoke_core::spec::{ObjectsMode, ObjectsSpec};

use super::Surroundings;
use crate::connection;
use crate::field::Field;
use crate::object_url::{self, Names};
use crate::report::Report;

const MODES: &[(&str, ObjectsMode)] = &[("snapshot", ObjectsMode::Snapshot), ("append", ObjectsMode::Append)];

pub(super) fn decode(block: &Field<'_>, surroundings: &Surroundings<'_>, report: &mut Report) -> Option<ObjectsSpec> {
    let url = object_url::decode(&block.field("url"), Names::Objects, surroundings.base_dir, report);
    let named = block.field("connection");
    let connection = connection::object_store(&named, url.as_ref(), surroundings.connections, report);
    Some(ObjectsSpec {
        url: url?.text,
        mode: block.field("mode").choice(MODES)?,
        hive_partitions: block.field("hive_partitions").boolean()?,
        connection: connection?,
    })
}
