//! Where a drill takes place: a temporary folder, a scratch store that this process serves, and the proxy before it.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use convoke_core::Clock;
use convoke_fault_proxy::{FaultProxy, FaultScript};
use convoke_store::audience::{AudienceOrder, AudienceQuery};
use convoke_store::{Page, RowSearch, Sort, Store, Tenant, TokenGrant};
use convoke_store_api::{ServeSettings, serve};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::judge::Cells;
use super::rehearsal::{Access, Scratch};
use crate::failure::Failure;

/// Rows read at once.
const PAGE_ROWS: u32 = 500;

/// Everything here ends, and the folder goes, when this is closed or dropped.
pub(super) struct Stage {
    pub(super) scratch: Scratch,
    pub(super) proxy: FaultProxy,
    tenant: Tenant,
    shutdown: CancellationToken,
    server: JoinHandle<io::Result<()>>,
    /// Last, because the others use it.
    folder: TempDir,
}

impl Stage {
    pub(super) async fn set(clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::caused("the place for the drill could not be set up", &error);
        let folder = tempfile::Builder::new().prefix("convoke-drill-").tempdir().map_err(failed)?;
        let scratch = Scratch::new(folder.path());
        DirBuilder::new().mode(0o700).create(scratch.source()).map_err(failed)?;
        let store_failed = |error: convoke_store::Error| Failure::caused("the scratch store", &error);
        let store = Store::open(&scratch.store(), clock).await.map_err(store_failed)?;
        let client = store.add_client("drill").await.map_err(store_failed)?;
        let tenant = tenant(&store, &client).await.map_err(store_failed)?;
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.map_err(failed)?;
        let upstream = listener.local_addr().map_err(failed)?;
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(store, listener, ServeSettings::default(), shutdown.clone()));
        let proxy = FaultProxy::start(upstream, FaultScript::none()).await.map_err(failed)?;
        let (client_id, client_secret) = (client.client_id, client.secret);
        scratch.write_access(&Access { base_url: proxy.base_url(), client_id, client_secret })?;
        Ok(Self { scratch, proxy, tenant, shutdown, server, folder })
    }

    /// Every row of the scratch audience, read from the store itself.
    pub(super) async fn rows(&self) -> Result<Vec<Cells>, Failure> {
        let failed = |error: convoke_store::Error| Failure::caused("the scratch audience could not be read", &error);
        let query = AudienceQuery {
            kind: None,
            search_text: None,
            sort: Sort { key: AudienceOrder::CreatedAt, descending: false },
            page: Page { number: 1, size: 2 },
        };
        let audiences = self.tenant.audiences(&query).await.map_err(failed)?.items;
        let [audience] = audiences.as_slice() else {
            return Err(Failure::failed(format!("the drill made {} audiences instead of one", audiences.len())));
        };
        let mut rows = Vec::new();
        for number in 1.. {
            let page = Page { number, size: PAGE_ROWS };
            let search = RowSearch { filter: None, ids: None, sort: None, page };
            let (set, total) = self.tenant.search_rows(&audience.id, &search).await.map_err(failed)?;
            let has_ended = set.rows.is_empty();
            for row in &set.rows {
                let cells = row.cells().map_err(failed)?;
                let texts = set.columns.iter().map(|column| {
                    let text =
                        cells.value(column).and_then(|value| serde_json::from_str(value.get()).ok()).map(text_of);
                    (column.name.clone(), text)
                });
                rows.push(texts.collect::<BTreeMap<_, _>>());
            }
            if has_ended || rows.len() as u64 >= total {
                break;
            }
        }
        Ok(rows)
    }

    /// Ends what is served and removes the folder.
    pub(super) async fn strike(self) -> Result<(), Failure> {
        self.proxy.stop().await;
        self.shutdown.cancel();
        // What the server was still doing is of no use to anybody.
        self.server.abort();
        let place = self.folder.path().display().to_string();
        self.folder.close().map_err(|error| Failure::caused(&format!("`{place}` could not be removed"), &error))
    }
}

/// The client's view of the store, which the judge reads through: not over HTTP, and with no code of the sink.
async fn tenant(store: &Store, client: &convoke_store::NewClient) -> convoke_store::Result<Tenant> {
    let grant = TokenGrant { scope: String::new(), lifetime: Duration::from_secs(60) };
    let token = store.issue_token(&client.client_id, &client.secret, &grant).await?;
    let caller = store.caller(&token.unwrap_or_default()).await?;
    Ok(store.tenant(&caller.expect("the client was added just now, and its token is a minute good")))
}

/// A text as it is, and everything else as JSON spells it.
fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
