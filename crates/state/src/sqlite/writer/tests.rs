//! Operations share a commit and fail alone.

use convoke_core::StateError;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::*;

async fn connect(folder: &std::path::Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(folder.join("state.db")).create_if_missing(true);
    options.connect().await.unwrap()
}

async fn numbers_seen(connection: &mut SqliteConnection) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM numbers").fetch_one(connection).await.unwrap()
}

fn add(number: i64) -> (Box<dyn Queued>, oneshot::Receiver<Result<(), Fault>>) {
    queued(move |transaction: &mut Transaction| {
        Box::pin(async move {
            sqlx::query("INSERT INTO numbers VALUES (?)").bind(number).execute(&mut transaction.connection).await?;
            Ok(())
        })
    })
}

fn add_and_fail(number: i64) -> (Box<dyn Queued>, oneshot::Receiver<Result<(), Fault>>) {
    queued(move |transaction: &mut Transaction| {
        Box::pin(async move {
            sqlx::query("INSERT INTO numbers VALUES (?)").bind(number).execute(&mut transaction.connection).await?;
            Err(Fault::State(StateError::Conflict { what: "it".to_owned() }))
        })
    })
}

#[tokio::test]
async fn operations_that_wait_together_share_one_commit() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = connect(folder.path()).await;
    sqlx::raw_sql("PRAGMA journal_mode = WAL; CREATE TABLE numbers (number INTEGER)")
        .execute(&mut connection)
        .await
        .unwrap();
    let mut other = connect(folder.path()).await;
    let (queue, waiting) = mpsc::channel(QUEUE);
    let mut answers = Vec::new();
    for number in 0..50 {
        let (operation, answer) = add(number);
        queue.send(operation).await.unwrap();
        answers.push(answer);
    }
    let (last, seen_by_others) = queued(move |transaction: &mut Transaction| {
        Box::pin(async move { Ok((numbers_seen(&mut transaction.connection).await, numbers_seen(&mut other).await)) })
    });
    queue.send(last).await.unwrap();
    drop(queue);
    work(connection, DatabaseClock::default(), waiting).await;
    assert_eq!(seen_by_others.await.unwrap().unwrap(), (50, 0), "nothing was committed before the last of the group");
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    let mut reader = connect(folder.path()).await;
    assert_eq!(numbers_seen(&mut reader).await, 50);
    reader.close().await.unwrap();
}

#[tokio::test]
async fn a_failed_operation_is_undone_without_the_others_of_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = connect(folder.path()).await;
    sqlx::raw_sql("CREATE TABLE numbers (number INTEGER)").execute(&mut connection).await.unwrap();
    let mut transaction = Transaction { connection, now: Timestamp::default(), held: None };
    let (first, first_answer) = add(1);
    let (failing, failing_answer) = add_and_fail(2);
    let (last, last_answer) = add(3);
    let mut group = vec![first, failing, last];
    commit_group(&mut transaction, &DatabaseClock::default(), &mut group).await.unwrap();
    group.drain(..).for_each(|operation| operation.answer(None));
    first_answer.await.unwrap().unwrap();
    assert!(matches!(failing_answer.await.unwrap(), Err(Fault::State(StateError::Conflict { .. }))));
    last_answer.await.unwrap().unwrap();
    let kept: Vec<i64> =
        sqlx::query_scalar("SELECT number FROM numbers").fetch_all(&mut transaction.connection).await.unwrap();
    assert_eq!(kept, [1, 3]);
}

#[tokio::test]
async fn a_failed_commit_is_told_to_every_caller_and_the_next_group_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = connect(folder.path()).await;
    // The constraint is checked at the commit only.
    sqlx::raw_sql(
        "PRAGMA foreign_keys = ON; CREATE TABLE parents (id INTEGER PRIMARY KEY);
         CREATE TABLE numbers (number INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
         INSERT INTO parents VALUES (7)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let writer = Writer::start(connection, DatabaseClock::default());
    let orphan = writer.write(|transaction| insert(transaction, 1)).await;
    assert!(matches!(orphan, Ok(Err(Fault::Sql(_)))), "{orphan:?}");
    writer.write(|transaction| insert(transaction, 7)).await.unwrap().unwrap();
    writer.finish().await;
    let mut reader = connect(folder.path()).await;
    assert_eq!(numbers_seen(&mut reader).await, 1);
}

fn insert(transaction: &mut Transaction, number: i64) -> BoxFuture<'_, Result<(), Fault>> {
    Box::pin(async move {
        sqlx::query("INSERT INTO numbers VALUES (?)").bind(number).execute(&mut transaction.connection).await?;
        Ok(())
    })
}
