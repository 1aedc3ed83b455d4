//! From a directory to a [`Config`].

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use convoke_core::spec::{GtmConnection, ObjectStoreConnection, PostgresConnection, SyncSpec};
use convoke_core::{ConnectionName, SyncName};

use crate::check::check;
use crate::connection::{Connection, Connections};
use crate::environment::Environment;
use crate::field::Field;
use crate::interpolate::Interpolation;
use crate::problem::{Problem, Problems};
use crate::report::Report;
use crate::settings::Settings;
use crate::shape::Shape;
use crate::yaml::Node;
use crate::{connection, defaults, folder, keys, settings, sync, yaml};

/// A whole configuration, checked as far as it can be without reaching out.
#[derive(Clone, Debug)]
pub struct Config {
    pub settings: Settings,
    /// Where audiences are.
    pub connections: BTreeMap<ConnectionName, GtmConnection>,
    pub object_stores: BTreeMap<ConnectionName, ObjectStoreConnection>,
    pub databases: BTreeMap<ConnectionName, PostgresConnection>,
    pub syncs: BTreeMap<SyncName, LoadedSync>,
    /// What is allowed but unwise in `convoke.yaml` and `connections.yaml`: a secret in plain text, for example.
    pub warnings: Vec<Problem>,
    /// The directory against which relative paths were resolved: the parent of the configuration directory.
    pub base_dir: PathBuf,
}

/// A sync with the file it came from.
#[derive(Clone, Debug)]
pub struct LoadedSync {
    pub spec: SyncSpec,
    pub file: PathBuf,
    pub warnings: Vec<Problem>,
}

/// Reads the configuration directory `dir`, or tells everything that is wrong with it.
///
/// `convoke.yaml` and `connections.yaml` may be missing: then defaults hold and there are no connections.
pub fn load(dir: &Path, environment: &dyn Environment) -> Result<Config, Problems> {
    let base_dir = base_dir(dir, environment);
    let mut loader = Loader { environment, base_dir: &base_dir, problems: Vec::new() };
    let files = folder::survey(dir, environment, &mut loader.problems);
    let (connections, report) = loader.connections(files.connections);
    let (settings, mut warnings) = loader.settings(files.convoke, &connections);
    let all_decoded = connections.values().all(|entry| entry.connection.is_some());
    warnings.append(&mut loader.close(report, all_decoded));
    let syncs = loader.syncs(files.syncs, &connections);
    if let Some(problems) = Problems::new(loader.problems) {
        return Err(problems);
    }
    let mut config = Config {
        settings: settings.expect("`close` reports a problem for a file that was not decoded"),
        connections: BTreeMap::new(),
        object_stores: BTreeMap::new(),
        databases: BTreeMap::new(),
        syncs,
        warnings,
        base_dir,
    };
    for (name, entry) in connections {
        config.add(name, entry.connection.expect("`close` reports a problem for a connection that was not decoded"));
    }
    Ok(config)
}

impl Config {
    fn add(&mut self, name: ConnectionName, connection: Connection) {
        match connection {
            Connection::Destination(destination) => {
                self.connections.insert(name, destination);
            }
            Connection::ObjectStore(store) => {
                self.object_stores.insert(name, store);
            }
            Connection::Database(database) => {
                self.databases.insert(name, database);
            }
        }
    }
}

/// The directory that holds the configuration directory, as seen from the root.
fn base_dir(dir: &Path, environment: &dyn Environment) -> PathBuf {
    let absolute = environment.absolute(dir).unwrap_or_else(|_| dir.to_owned());
    absolute.parent().map_or_else(|| absolute.clone(), Path::to_owned)
}

struct Loader<'a> {
    environment: &'a dyn Environment,
    base_dir: &'a Path,
    problems: Vec<Problem>,
}

impl Loader<'_> {
    /// Reads, parses, resolves and checks one file; gives its tree unless it is not YAML.
    fn read(&self, file: &Path, shape: &Shape, report: &mut Report) -> Option<Node> {
        let bytes = match self.environment.read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                report.file_problem("the file does not exist");
                return None;
            }
            Err(error) => {
                report.file_problem(format!("the file cannot be read: {error}"));
                return None;
            }
        };
        let mut root = match yaml::parse(&bytes) {
            Ok(root) => root,
            Err(problems) => {
                problems.into_iter().for_each(|problem| report.yaml_problem(problem));
                return None;
            }
        };
        let interpolation = Interpolation { environment: self.environment, base_dir: self.base_dir };
        interpolation.resolve(&mut root, "", report);
        check(&root, shape, "", report);
        Some(root)
    }

    /// Moves a file's problems over, in the order of their lines, and returns its warnings.
    fn close(&mut self, mut report: Report, is_decoded: bool) -> Vec<Problem> {
        if !is_decoded && report.problems.is_empty() {
            report.file_problem("could not be decoded, which is an error in Convoke; please report it with this file");
        }
        report.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems.append(&mut report.problems);
        report.warnings
    }

    fn settings(&mut self, file: Option<PathBuf>, connections: &Connections) -> (Option<Settings>, Vec<Problem>) {
        let default = defaults::section("convoke");
        let mut report = Report::new(file.clone().unwrap_or_default());
        let root = match &file {
            Some(file) => self.read(file, &keys::CONVOKE, &mut report),
            None => Some(yaml::empty()),
        };
        let decoded = root
            .and_then(|root| settings::decode(&Field::root(&root, default), self.base_dir, connections, &mut report));
        let warnings = self.close(report, decoded.is_some());
        (decoded, warnings)
    }

    /// The connections, with the report on their file: other files refer to them before it is closed.
    fn connections(&self, file: Option<PathBuf>) -> (Connections, Report) {
        let mut connections = Connections::new();
        let mut report = Report::new(file.clone().unwrap_or_default());
        let Some(file) = file else { return (connections, report) };
        if let Some(root) = self.read(&file, &keys::CONNECTIONS, &mut report) {
            for (name, field) in Field::root(&root, defaults::section("connections")).entries() {
                let entry = connection::decode(name, &field, self.base_dir, self.environment, &mut report);
                connections.insert(ConnectionName::new(name), entry);
            }
        }
        (connections, report)
    }

    fn syncs(&mut self, files: Vec<PathBuf>, connections: &Connections) -> BTreeMap<SyncName, LoadedSync> {
        let mut drafts = sync::Drafts::new();
        for file in files {
            let mut report = Report::new(file.clone());
            let root = self.read(&file, &keys::SYNC, &mut report);
            let surroundings = sync::Surroundings { file: &file, base_dir: self.base_dir, connections };
            let draft = root.and_then(|root| {
                sync::decode(&Field::root(&root, defaults::section("sync")), &surroundings, &mut report)
            });
            drafts.push((file, draft, report));
        }
        sync::check_sharing(&mut drafts);
        sync::check_drop_folders(&mut drafts);
        let mut syncs = BTreeMap::new();
        for (file, draft, report) in drafts {
            let warnings = self.close(report, draft.is_some());
            if let Some(draft) = draft {
                syncs.insert(draft.spec.name.clone(), LoadedSync { spec: draft.spec, file, warnings });
            }
        }
        syncs
    }
}
