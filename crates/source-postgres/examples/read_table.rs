//! Reads a table to its end as a run would, keeps nothing, and prints how many records it had:
//! `read_table HOST PORT DATABASE USER TABLE SESSIONS`. The host may be the folder of a Unix socket. A password, where one is needed,
//! comes from the password file. The benchmark in `tests/bench` compares this with `psql`.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::time::Duration;

use convoke_core::ConnectionName;
use convoke_core::source::{Discover, Source, Split, SplitContent, SplitItem};
use convoke_core::spec::{PostgresConnection, PostgresSpec, Relation, TlsMode};
use convoke_source_postgres::PostgresSource;
use futures::{StreamExt, TryStreamExt, stream};

/// The allocator of `convoke`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const USAGE: &str = "usage: read_table HOST PORT DATABASE USER TABLE SESSIONS";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// More than any table of the benchmark takes.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(3600);

/// On one thread, as `convoke run` takes the records.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [host, port, database, user, table, parallel] = <[String; 6]>::try_from(arguments).map_err(|_| USAGE)?;
    let connection = PostgresConnection {
        host,
        port: port.parse()?,
        database,
        user,
        password: None,
        tls: TlsMode::Disable,
        ca_file: None,
        connect_timeout: CONNECT_TIMEOUT,
        statement_timeout: STATEMENT_TIMEOUT,
    };
    let relation = Relation::Table { schema: None, name: table };
    let parallel = parallel.parse()?;
    let spec = PostgresSpec { parallel, ..PostgresSpec::whole(ConnectionName::new("database"), relation) };
    let source = PostgresSource::open(spec, connection, None)?;

    let discovery = source.discover(Discover { stored: None, reread: false }).await?;
    let reads = stream::iter(&discovery.splits).map(|split| drain(&source, split)).buffered(parallel.get());
    let count: usize = reads.try_fold(0, async |sum, records| Ok(sum + records)).await?;
    source.still_holds(&discovery.splits).await?;
    writeln!(io::stdout(), "{count}")?;
    Ok(())
}

/// Reads a split to its end; tells how many records it had.
async fn drain(source: &PostgresSource, split: &Split) -> Result<usize, Box<dyn Error>> {
    let SplitContent::Stream(mut items) = source.read(split).await? else {
        return Err("a database gives its records as a stream".into());
    };
    let mut count = 0;
    while let Some(item) = items.next().await {
        match item? {
            SplitItem::Records(batch) => count += batch.records.num_rows(),
            SplitItem::End { .. } => return Ok(count),
            SplitItem::Malformed(record) => return Err(record.reason.into()),
            SplitItem::Broken { reason } => return Err(reason.into()),
        }
    }
    Err("the stream ended before the split did".into())
}
