//! Finds PostgreSQL's programs, and runs them as a user they accept.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where Debian and its relatives keep the programs of each version, which are not on the path there.
const VERSIONS: &str = "/usr/lib/postgresql";

const MISSING: &str =
    "PostgreSQL is not installed, and this test needs it; install it with `apt-get install -y postgresql`";

const NO_USER: &str = "PostgreSQL does not run as root, and there is no user `postgres`; make one with \
                       `useradd --system --user-group postgres`, or run the tests as another user";

/// PostgreSQL's programs.
pub(super) struct Programs {
    /// Empty: they are on the path.
    folder: PathBuf,
    /// User and group to run as, if that is another one.
    owner: Option<(u32, u32)>,
}

impl Programs {
    /// Finds those on the path, else the newest version.
    ///
    /// # Panics
    /// If there are none, or no user to run them as; the message says what to do.
    pub(super) fn find() -> Self {
        let folders = std::iter::once(PathBuf::new()).chain(installed_versions());
        let folder = folders.into_iter().find(|folder| is_complete(folder)).expect(MISSING);
        let owner = rustix::process::geteuid().is_root().then(|| (id_of("-u"), id_of("-g")));
        Self { folder, owner }
    }

    pub(super) fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }

    /// A program in its working folder.
    pub(super) fn command(&self, program: &str, working_folder: &Path) -> Command {
        self.as_user(Command::new(self.path(program)), working_folder)
    }

    pub(super) fn as_user(&self, mut command: Command, working_folder: &Path) -> Command {
        command.current_dir(working_folder).stdin(Stdio::null());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    /// Makes a file or folder the server's own.
    pub(super) fn give(&self, path: &Path) {
        if let Some((user, group)) = self.owner {
            std::os::unix::fs::chown(path, Some(user), Some(group)).expect("root can give a file away");
        }
    }
}

/// Runs a program to its end.
///
/// # Panics
/// If it fails, with what it said.
pub(super) fn run(command: &mut Command) {
    if let Err(complaint) = try_run(command) {
        panic!("{complaint}");
    }
}

/// Runs a program to its end; the error is what it said.
pub(super) fn try_run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?} does not start: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{command:?} failed with {}: {}", output.status, String::from_utf8_lossy(&said)))
}

/// The program folders of the versions that are installed, newest first.
fn installed_versions() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(VERSIONS) else { return Vec::new() };
    let number = |name: &str| name.parse::<u32>().ok();
    let mut versions: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str().and_then(number)).collect();
    versions.sort_unstable_by(|left, right| right.cmp(left));
    versions.into_iter().map(|version| Path::new(VERSIONS).join(version.to_string()).join("bin")).collect()
}

fn is_complete(folder: &Path) -> bool {
    ["initdb", "pg_ctl"].iter().all(|program| try_run(Command::new(folder.join(program)).arg("--version")).is_ok())
}

fn id_of(which: &str) -> u32 {
    let output = Command::new("id").args([which, "postgres"]).output().expect(NO_USER);
    String::from_utf8_lossy(&output.stdout).trim().parse().expect(NO_USER)
}
