//! A network between a store and its server that can be cut on one side.

use std::sync::Arc;

use convoke_core::spec::PostgresConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Passes bytes on, until it is cut: then the store sees its connections end, and the server sees nothing of it.
pub(super) struct Proxy {
    port: u16,
    cut: Arc<Notify>,
}

impl Proxy {
    pub(super) async fn to(connection: &PostgresConnection) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(Notify::new());
        let (server, notice) = ((connection.host.clone(), connection.port), Arc::clone(&cut));
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(server.clone()).await.unwrap();
                tokio::spawn(pass_on(client, server, Arc::clone(&notice)));
            }
        });
        Self { port, cut }
    }

    pub(super) fn connection(&self, connection: &PostgresConnection) -> PostgresConnection {
        PostgresConnection { host: "127.0.0.1".to_owned(), port: self.port, ..connection.clone() }
    }

    /// Cuts the connections that there are; new ones pass.
    pub(super) fn cut(&self) {
        self.cut.notify_waiters();
    }
}

async fn pass_on(mut client: TcpStream, server: TcpStream, cut: Arc<Notify>) {
    let (mut answers, mut requests) = server.into_split();
    let is_cut = {
        let (mut from_client, mut to_client) = client.split();
        tokio::select! {
            () = cut.notified() => true,
            _ = copy(&mut from_client, &mut requests) => false,
            _ = copy(&mut answers, &mut to_client) => false,
        }
    };
    drop(client);
    if is_cut {
        // The server goes on as if somebody listened.
        let mut unheard = [0; 4096];
        while answers.read(&mut unheard).await.is_ok_and(|read| read > 0) {}
        drop(requests);
    }
}

async fn copy(from: &mut (impl AsyncReadExt + Unpin), to: &mut (impl AsyncWriteExt + Unpin)) -> std::io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        match from.read(&mut bytes).await? {
            0 => return Ok(()),
            read => to.write_all(&bytes[..read]).await?,
        }
    }
}
