//! `store`: the audience store alone, and its clients.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use convoke_store::Store;
use convoke_store_api::{ServeSettings, serve};
use serde_json::json;
use tokio::net::TcpListener;

use crate::cli::{Global, StoreClient, StoreCommand};
use crate::clock::SystemClock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::signals::Signals;

pub(crate) async fn store(
    global: &Global,
    data: &Path,
    listen: SocketAddr,
    command: Option<StoreCommand>,
) -> Result<Exit, Failure> {
    let Some(StoreCommand::Client(command)) = command else {
        return serve_until_signal(global, data, listen).await;
    };
    // A store begins with its first client; anything else about a store that is not there is a slip of the pen.
    if !matches!(command, StoreClient::Add { .. }) && !data.exists() {
        return Err(Failure::usage(format!("there is no store `{}`; name its file with `--data`", data.display())));
    }
    clients(global, &open(data).await?, command).await
}

async fn open(data: &Path) -> Result<Store, Failure> {
    let opened = Store::open(data, Arc::new(SystemClock)).await;
    opened.map_err(|error| Failure::caused(&format!("the store `{}` could not be opened", data.display()), &error))
}

async fn serve_until_signal(global: &Global, data: &Path, listen: SocketAddr) -> Result<Exit, Failure> {
    let signals = Signals::watch()?;
    let failed = |error: std::io::Error| Failure::caused(&format!("serving on {listen}"), &error);
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let store = open(data).await?;
    let address = listener.local_addr().map_err(failed)?;
    // Scripts read the address from this line, so it goes to standard output.
    let base_url = format!("http://{address}/gtm/studio/v1");
    if global.json {
        output::json(&json!({ "data": data, "base_url": base_url }));
    } else {
        output::line(format!("audience store {} at {base_url}", data.display()));
    }
    serve(store, listener, ServeSettings::default(), signals.cancel()).await.map_err(failed)?;
    // Being told to stop is how a server ends well.
    Ok(Exit::Success)
}

async fn clients(global: &Global, store: &Store, command: StoreClient) -> Result<Exit, Failure> {
    let failed = |error: convoke_store::Error| Failure::caused("the store's clients", &error);
    match command {
        StoreClient::Add { name } => {
            let client = store.add_client(&name).await.map_err(failed)?;
            if global.json {
                output::json(&json!({ "client_id": client.client_id, "client_secret": client.secret }));
            } else {
                output::line(format!("client_id      {}", client.client_id));
                output::line(format!("client_secret  {}   (shown this once)", client.secret));
            }
        }
        StoreClient::List => list_clients(global, store).await.map_err(failed)?,
        StoreClient::Revoke { client_id } => {
            store.revoke_client(&client_id).await.map_err(failed)?;
            if global.json {
                output::json(&json!({ "client_id": client_id, "revoked": true }));
            } else {
                output::line(format!("revoked {client_id}; its audiences stay"));
            }
        }
    }
    Ok(Exit::Success)
}

async fn list_clients(global: &Global, store: &Store) -> Result<(), convoke_store::Error> {
    let clients = store.clients().await?;
    if global.json {
        let facts: Vec<_> = clients
            .iter()
            .map(|client| {
                json!({
                    "client_id": client.client_id,
                    "name": client.name,
                    "created_at": client.created_at.to_string(),
                    "revoked_at": client.revoked_at.map(|at| at.to_string()),
                })
            })
            .collect();
        output::json(&facts);
        return Ok(());
    }
    let rows: Vec<_> = clients
        .iter()
        .map(|client| {
            let revoked = client.revoked_at.map_or_else(|| "-".to_owned(), |at| at.to_string());
            vec![client.client_id.clone(), client.name.clone(), client.created_at.to_string(), revoked]
        })
        .collect();
    output::table(&["client_id", "name", "created", "revoked"], &rows);
    Ok(())
}
