//! The command line: what each command takes. What it does stands in [`crate::commands`].

use std::net::SocketAddr;
use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, NaiveTime};
use clap::{Args, Parser, Subcommand, ValueEnum};
use convoke_core::Timestamp;
use convoke_core::backfill::WindowSize;
use convoke_pipeline::SHORTEST_APPROVAL;

/// Keeps audiences in step with your data: a run is a plan, applied, and never creates a row twice.
#[derive(Debug, Parser)]
#[command(name = "convoke", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the configuration is, unless somebody says otherwise.
pub(crate) const DEFAULT_CONFIG: &str = "config";

#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Folder with convoke.yaml, connections.yaml and syncs/
    #[arg(long, global = true, default_value = DEFAULT_CONFIG, value_name = "DIR")]
    pub(crate) config: PathBuf,
    /// Print facts as JSON, for machines
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Show what happens in more detail on standard error, each request included
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the whole product on a small messy drop folder, in a temporary place
    Demo {
        /// Keep the folder, in this place, with its configuration, state and store
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
    },
    /// Write a configuration for a CSV drop folder, from the header of its newest file
    Init {
        /// Name of the new sync: lower-case letters, digits and `-`
        sync: String,
        /// The drop folder
        #[arg(long, value_name = "DIR")]
        drop: PathBuf,
        /// Field separator; left out: the one that the header tells
        #[arg(long, value_name = "CHARACTER")]
        delimiter: Option<char>,
    },
    /// Check the configuration and print every problem with its file and line
    Check {
        /// Also reach the sources and destinations
        #[arg(long)]
        connect: bool,
    },
    /// Show how source records are mapped, or why they are refused; touches nothing
    Preview {
        sync: String,
        /// How many records
        #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
        count: usize,
    },
    /// Compute what a run would change, and keep it for `apply`; sends nothing
    Plan {
        sync: String,
        #[command(flatten)]
        extent: Extent,
    },
    /// Apply a plan that was computed before
    Apply {
        /// The plan's id, as `plan` printed it
        plan: String,
        /// Approve the plan although it passes a guard's limit: its hash, or the hash's first 8 digits or more
        #[arg(long, value_name = "HASH", value_parser = parse_approval)]
        approve: Option<String>,
    },
    /// Plan and apply; first finishes what an interrupted run left
    Run {
        sync: String,
        #[command(flatten)]
        extent: Extent,
    },
    /// Bring back what was missed, beside the live position; older values never overwrite newer ones
    ///
    /// Nor does it bring back whom a later record has deleted, where `deleted` and `dedupe.by` tell that.
    ///
    /// A backfill is cut into windows. Each is planned, held against the guards, delivered and noted as settled before the
    /// next begins, and live runs that wait for the audience go between two of them. Stopped in whatever way, it goes on
    /// with the next window by `--resume`, or by the same command again; `convoke serve` does not go on with it by itself.
    /// One command at a time goes through the windows of a sync.
    Backfill {
        sync: String,
        #[command(flatten)]
        selection: Selection,
        /// Size of a window: a number of files or objects; of a table a time, such as `1d`. Left out: chosen by what there is
        #[arg(long, value_name = "SIZE", value_parser = parse_window, conflicts_with_all = ["resume", "list", "cancel"])]
        window: Option<WindowSize>,
    },
    /// Run syncs on their schedules, and answer health checks and metrics, until told to stop
    Serve {
        /// Address for /healthz, /readyz and /metrics; left out: the one in convoke.yaml
        #[arg(long)]
        listen: Option<SocketAddr>,
    },
    /// Look at schedules
    #[command(subcommand)]
    Schedule(Schedule),
    /// List runs, newest first
    Runs {
        sync: Option<String>,
        #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
        count: u32,
    },
    /// Show one run: its plan, its balances, and what it said
    Show {
        /// A run's or plan's id, or its first digits
        id: String,
    },
    /// Tell why one record is in the audience or is not: source, rejects, ledger, audience
    ///
    /// Reads the whole source, as `run --full` does, and changes nothing. Tells of each record with the key whether it is
    /// filtered out, invalid, superseded by another one, suppressed (and by which list) or to be sent, or that the source has
    /// none; then what was refused before, and what the ledger and the audience hold.
    Explain {
        sync: String,
        /// The record's key, one value per key column
        #[arg(required = true)]
        key: Vec<String>,
        /// Leave the source unread, where that takes too long
        #[arg(long)]
        no_source: bool,
    },
    /// Look at records that were refused, and send them again
    #[command(subcommand)]
    Rejects(Rejects),
    /// Take over rows that the audience already holds, by their key
    Adopt { sync: String },
    /// Hold the audience against the ledger and the source; exit code 3 if rows are missing, drifted, doubled or extra
    Verify {
        sync: String,
        /// Tell the ledger what the audience holds, and make the plan that mends the rest, for `apply`
        #[arg(long)]
        repair: bool,
        /// How many rows of each finding to name
        #[arg(short = 'n', long, default_value_t = 5, value_name = "COUNT")]
        samples: usize,
    },
    /// Give a sync another name, or bring it to its end
    #[command(subcommand)]
    Sync(SyncCommand),
    /// Rehearse kills and lost answers on a copy of a sync's records, and count the rows
    #[command(long_about = DRILL_HELP)]
    Drill(Drill),
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Serve the audience store alone
    Store {
        /// Where the store keeps its data
        #[arg(long, global = true, value_name = "FILE", default_value = "store/store.sqlite")]
        data: PathBuf,
        /// Address to listen on
        #[arg(long, default_value = "127.0.0.1:7070")]
        listen: SocketAddr,
        #[command(subcommand)]
        command: Option<StoreCommand>,
    },
}

const DRILL_HELP: &str = "\
Rehearse kills and lost answers on a copy of a sync's records, and count the rows.

Takes the first records that the sync's source holds, copies them into a temporary folder, and
keeps a scratch audience in step with the copy there, with the sync's own mapping, filter, key,
dedupe and suppression lists. Each round changes the copy, kills the process at a boundary of the
run, and lets requests or answers get lost, come late or come in part; or it loses the plan. Then
the sync runs again, and every row of the scratch audience is compared with the mapped records:
each key must stand there once, with its cells.

The scratch audience is in an embedded store of the drill's own, whatever connection the sync
names. No request leaves this machine but those that read the source; nothing of the real
audience, ledger, checkpoint or files changes, and no quota is spent. The mode is `mirror` and no
guard holds a plan up, so that rows are created, updated and deleted. A sync with `mode:
delete_list` cannot be drilled.

The copy is personal data. It lies in the system's folder for temporary files (TMPDIR), readable
by this user alone, and goes with everything else when the drill ends, also on Ctrl-C.

Ends with 0 if every round ended well, and with 1 after the first that did not; the same --seed
over the same records repeats the rounds.";

#[derive(Debug, Args)]
pub(crate) struct Drill {
    pub(crate) sync: String,
    /// How many records of the source to rehearse with, at most
    #[arg(long, default_value_t = 2_000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
    /// How many rounds; 16 kill at every boundary
    #[arg(long, default_value_t = 16, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rounds: u32,
    /// Which rounds; left out: any, and the drill tells which
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
    /// One run of a drill that is under way in this folder; the drill starts these itself
    #[arg(long, hide = true, value_name = "DIR")]
    pub(crate) within: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Extent {
    /// Read everything again, also what has not changed
    #[arg(long)]
    pub(crate) full: bool,
    /// A canary: make at most this many changes and no deletes; the source's checkpoint stays
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

/// What a backfill reads.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Selection {
    /// Everything that the source still has; a table in windows if the source names a `time_column`, else in one
    #[arg(long, conflicts_with_all = ["objects", "from", "to"])]
    pub(crate) all: bool,
    /// Files or objects with names that match: `*` stands for anything but `/`, `**` for anything
    #[arg(long, value_name = "GLOB", conflicts_with_all = ["from", "to"])]
    pub(crate) objects: Option<String>,
    /// What was written from this time on: `2026-03-01` or `2026-03-01T12:00:00Z`; not rows of a table without a time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) from: Option<Timestamp>,
    /// What was written before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) to: Option<Timestamp>,
    /// Go on with the backfill that is under way
    #[arg(long, conflicts_with_all = ["all", "objects", "from", "to"])]
    pub(crate) resume: bool,
    /// List the backfills of the sync, newest first
    #[arg(long, conflicts_with_all = ["all", "objects", "from", "to", "resume"])]
    pub(crate) list: bool,
    /// End the backfill that is under way; what is settled of it stays
    #[arg(long, conflicts_with_all = ["all", "objects", "from", "to", "resume", "list"])]
    pub(crate) cancel: bool,
}

/// A number of files, or a time with its unit.
fn parse_window(text: &str) -> Result<WindowSize, String> {
    let count = text.parse().ok().filter(|count| *count > 0).map(WindowSize::Splits);
    let time = || convoke_config::duration(text).filter(|time| !time.is_zero()).map(WindowSize::Time);
    count.or_else(time).ok_or_else(|| "write a number of files as `500`, or a time as `1d` or `6h`".to_owned())
}

/// A time with its zone, or a day, which begins at midnight UTC.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(Timestamp(time.timestamp_millis()));
    }
    match text.parse::<NaiveDate>() {
        Ok(day) => Ok(Timestamp(day.and_time(NaiveTime::MIN).and_utc().timestamp_millis())),
        Err(_) => Err("write a day as `2026-03-01` or a time with its zone as `2026-03-01T12:00:00Z`".to_owned()),
    }
}

/// A plan's hash, or enough of it to mean that plan.
fn parse_approval(text: &str) -> Result<String, String> {
    if !text.chars().all(|digit| digit.is_ascii_hexdigit()) {
        return Err("a plan's hash has the digits 0 to 9 and a to f; `plan` prints it".to_owned());
    }
    match text.len() {
        0..SHORTEST_APPROVAL => Err(format!("at least {SHORTEST_APPROVAL} digits of the plan's hash are needed")),
        _ => Ok(text.to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum SyncCommand {
    /// Give everything of a sync to its new name, once the configuration has that; sends nothing
    Rename {
        /// The name until now
        old: String,
        /// The name in the configuration
        new: String,
    },
    /// End a sync that was taken out of the configuration; runs and rejects stay until their retention
    Retire {
        sync: String,
        #[command(flatten)]
        rows: RetiredRows,
        /// Approve the plan that deletes the rows: its hash, or the hash's first 8 digits or more
        #[arg(long, value_name = "HASH", value_parser = parse_approval, requires = "delete_rows")]
        approve: Option<String>,
    },
}

/// What becomes of a retired sync's rows.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct RetiredRows {
    /// Leave its rows in the audience; another sync can take them over with `adopt`
    #[arg(long)]
    pub(crate) keep_rows: bool,
    /// Delete its rows, by a plan that has to be approved
    #[arg(long)]
    pub(crate) delete_rows: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Schedule {
    /// Show when syncs run next, and where daylight saving moves a run
    Next {
        /// This sync only
        sync: Option<String>,
        /// How many times for each sync
        #[arg(short = 'n', long, default_value_t = 10, value_name = "COUNT")]
        count: usize,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Rejects {
    /// List refused records with reason and origin, without their values
    ///
    /// Shows what is open: sent again by each run, or held back once it is older than `rejects.resend_for`. What was accepted
    /// since, changed, or left the source is closed, and stands in the list of its run only.
    List {
        sync: String,
        /// What this run noted, also what is closed by now
        #[arg(long)]
        run: Option<String>,
        #[arg(short = 'n', long, default_value_t = 50, value_name = "COUNT")]
        count: u32,
    },
    /// Write refused records with their values to a file (personal data; mode 0600)
    ///
    /// Columns of all forms: `origin` (file and line), `stage` (`invalid`: refused while planning; `refused`: by the destination),
    /// `state` (`open`, `held_back`, `repeated` by a later run, `closed`), `attempts`, `first_at` and `at` (first and last refused),
    /// `column`, `code`, `reason`, `run`, `plan`, `key` and `content` (hashes), `cells`.
    ///
    /// csv: times as RFC 3339, `cells` as one JSON object; a field that would begin a formula (= + - @, tab, carriage return)
    /// begins with an apostrophe. ndjson: as `rejects list --json`, with `cells` as object. avro and parquet: times in
    /// milliseconds UTC, `cells` as map of text to text.
    #[command(verbatim_doc_comment)]
    Export {
        sync: String,
        /// What this run noted, also what is closed by now
        #[arg(long)]
        run: Option<String>,
        /// The file; left out, or `-`: standard output (not for avro and parquet)
        #[arg(short, long, alias = "to", value_name = "FILE")]
        output: Option<PathBuf>,
        #[arg(long, value_enum, default_value_t = ExportFormat::Csv)]
        format: ExportFormat,
        /// Replace the file if it is there
        #[arg(long)]
        force: bool,
    },
    /// Send refused records again whatever their age: a full run in which they are not held back
    Resend {
        sync: String,
        /// Those that this run was refused
        #[arg(long)]
        run: Option<String>,
        /// Those with these keys: as typed if the key has one column, or the hash that `rejects list --json` tells
        #[arg(long = "key", value_name = "KEY", num_args = 1..)]
        keys: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ExportFormat {
    Avro,
    Csv,
    Ndjson,
    Parquet,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Make, list and revoke the clients that may use the store
    #[command(subcommand)]
    Client(StoreClient),
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreClient {
    /// Make a client; its secret is shown once
    Add { name: String },
    /// List clients, without secrets
    List,
    /// Take a client's access away
    Revoke { client_id: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_day_in_utc_or_has_its_zone() {
        assert_eq!(parse_time("2026-03-01"), Ok(Timestamp(1_772_323_200_000)));
        assert_eq!(parse_time("2026-03-01T01:00:00+01:00"), Ok(Timestamp(1_772_323_200_000)));
        assert!(parse_time("2026-03-01 12:00").is_err(), "no zone");
        assert!(parse_time("2026-02-30").is_err());
    }

    #[test]
    fn an_approval_gives_enough_digits_of_a_hash() {
        assert_eq!(parse_approval("0123abCD"), Ok("0123abCD".to_owned()));
        assert!(parse_approval("0123abc").unwrap_err().contains("at least 8 digits"));
        assert!(parse_approval("").unwrap_err().contains("at least 8 digits"));
        assert!(parse_approval("latest plan").unwrap_err().contains("`plan` prints it"));
        for command in [&["apply", "x"][..], &["sync", "retire", "x", "--delete-rows"]] {
            let parse =
                |hash| Cli::try_parse_from(["convoke"].iter().chain(command).chain(&["--approve", hash])).map(drop);
            assert!(parse("0123abcd").is_ok() && parse("0123abc").is_err(), "{command:?}");
        }
    }

    #[test]
    fn the_file_of_a_store_is_named_before_or_after_what_is_done_with_its_clients() {
        for line in ["store --data d client add joe", "store client --data d add joe", "store client add joe --data d"]
        {
            let cli = Cli::try_parse_from(["convoke"].into_iter().chain(line.split(' '))).unwrap();
            let Command::Store { data, .. } = cli.command else { panic!("{line}") };
            assert_eq!(data, PathBuf::from("d"), "{line}");
        }
    }

    #[test]
    fn a_backfill_names_what_it_reads_in_one_way() {
        let parse = |arguments: &[&str]| {
            Cli::try_parse_from(["convoke", "backfill", "people"].iter().chain(arguments)).map(drop)
        };
        assert!(parse(&["--all"]).is_ok());
        assert!(parse(&["--objects", "2026/*.parquet"]).is_ok());
        assert!(parse(&["--from", "2026-01-01", "--to", "2026-02-01"]).is_ok());
        assert!(parse(&["--to", "2026-02-01"]).is_ok());
        assert!(parse(&[]).is_err());
        assert!(parse(&["--all", "--from", "2026-01-01"]).is_err());
        assert!(parse(&["--objects", "*", "--to", "2026-01-01"]).is_err());
        assert!(parse(&["--resume"]).is_ok() && parse(&["--list"]).is_ok() && parse(&["--cancel"]).is_ok());
        assert!(parse(&["--resume", "--all"]).is_err() && parse(&["--list", "--cancel"]).is_err());
        assert!(parse(&["--all", "--window", "500"]).is_ok());
        assert!(parse(&["--from", "2026-01-01", "--window", "1d"]).is_ok());
        assert!(parse(&["--all", "--window", "0"]).is_err() && parse(&["--all", "--window", "many"]).is_err());
        assert!(parse(&["--window", "500"]).is_err() && parse(&["--resume", "--window", "500"]).is_err());
    }
}
