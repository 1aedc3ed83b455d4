//! The server as its users see it.

use std::net::TcpStream;

use super::PostgresServer;

#[tokio::test]
async fn databases_of_a_shared_server_do_not_see_each_other() {
    let server = PostgresServer::shared();
    let (one, two) = (server.create_database("same").await, server.create_database("same").await);
    one.execute("CREATE TABLE here (id int); INSERT INTO here VALUES (1), (2)").await;
    assert_eq!(one.value("SELECT count(*) FROM here").await, "2");
    assert_eq!(two.value("SELECT count(*) FROM pg_tables WHERE tablename = 'here'").await, "0");
}

#[tokio::test]
async fn a_crashed_server_comes_back_with_what_was_committed() {
    let server = PostgresServer::start();
    let database = server.create_database("kept").await;
    database.execute("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)").await;
    server.restart_immediately();
    assert_eq!(database.value("SELECT count(*) FROM kept").await, "1");
}

#[test]
fn a_dropped_server_leaves_neither_process_nor_folder() {
    let server = PostgresServer::start();
    let (folder, port) = (server.socket_folder().to_owned(), server.connection().port);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    drop(server);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(!folder.exists());
}

#[tokio::test]
async fn backends_are_cut() {
    let database = PostgresServer::shared().create_database("cut").await;
    let mut held = database.connect().await;
    assert_eq!(database.terminate_backends().await, 1);
    assert!(sqlx::raw_sql("SELECT 1").execute(&mut held).await.is_err());
}

#[tokio::test]
async fn a_server_with_tls_serves_over_it() {
    let server = PostgresServer::start_with_tls();
    let database = server.create_database("sealed").await;
    assert_eq!(database.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await, "t");
}
