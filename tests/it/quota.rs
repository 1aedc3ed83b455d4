//! The rate budget of a credential, with the shipped binary: kept over a kill, told in the plan, waited for.

use std::collections::BTreeSet;
use std::time::Duration;

use convoke_testkit::fault_proxy::{Fault, FaultProxy, FaultScript, Rule};

use crate::audience::{assert_holds, rows};
use crate::daemon::{Daemon, eventually};
use crate::workspace::{SYNC, StoreProcess, Workspace, people, remote_connection};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A store that is reached through a counting proxy, at a rate.
struct Scene {
    store: StoreProcess,
    proxy: FaultProxy,
    workspace: Workspace,
}

impl Scene {
    async fn new(rate: &str) -> Self {
        let store = StoreProcess::start();
        let upstream = store.address().parse().expect("an address");
        let proxy = FaultProxy::start(upstream, FaultScript::none()).await.expect("the proxy starts");
        let workspace = Workspace::remote(&proxy.base_url(), &store.client);
        let scene = Self { store, proxy, workspace };
        scene.set_rate(rate);
        scene
    }

    fn set_rate(&self, rate: &str) {
        let connection = remote_connection(&self.proxy.base_url(), &self.store.client);
        assert!(connection.contains("rate: unlimited"));
        let connection = connection.replace("rate: unlimited", &format!("rate: {rate}"));
        self.workspace.write("config/connections.yaml", &connection);
    }

    /// Requests that arrived.
    fn received(&self) -> u64 {
        self.proxy.stats().received
    }

    fn newest_state(&self) -> String {
        self.workspace.newest_run()["state"].as_str().expect("a state").to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_kill_and_restarts_an_hour_never_sees_more_requests_than_it_allows() {
    let scene = Scene::new("{ per_second: 10, per_hour: 50 }").await;
    // Fifty requests carry 25,000 rows at most, and some are for other things.
    scene.workspace.drop_csv("1.csv", &people(0..25_000));
    let mut child = scene.workspace.command(&["run", SYNC]).spawn().expect("the binary runs");
    eventually("it is in the middle", LONG, async || scene.received() >= 28).await;
    child.kill().expect("it runs");
    child.wait().expect("it is dead");
    let before = scene.received();
    assert!(before < 50, "killed in the middle");

    scene.workspace.run(6).expect(6, &["waiting for quota until"]);
    let after = scene.received();
    assert!(after > before, "what the one that was killed had not drawn can be used");
    assert!(after <= 50, "{after} requests in an hour");
    scene.workspace.run(6);
    assert!(scene.received() <= 50, "{} requests in an hour", scene.received());

    let written = rows(&scene.store.base_url, &scene.store.client, "People").await;
    assert!(written.len() < 25_000, "the hour does not suffice");
    let distinct: BTreeSet<_> = written.iter().map(|row| row["Email"].to_string()).collect();
    assert_eq!(distinct.len(), written.len(), "rows stand twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_sends_nothing_while_the_quota_is_used_up_and_goes_on_by_itself_once_there_is_some() {
    let scene = Scene::new("{ per_hour: 30 }").await;
    scene.workspace.drop_csv("1.csv", &people(0..20_000));
    let planned = scene.workspace.convoke(&["plan", SYNC]);
    planned.expect(0, &["40 requests (40 create)", "the hour's quota suffices until"]);
    scene.workspace.run(6).expect(6, &["waiting for quota until"]);
    assert_eq!(scene.newest_state(), "waiting_for_quota");
    let used = scene.received();
    assert!(used <= 30, "{used} requests in an hour");

    let daemon = Daemon::start(&scene.workspace);
    let waiting = "convoke_runs_total{sync=\"people\",state=\"waiting_for_quota\"}";
    eventually("it looks and waits", LONG, async || daemon.metric(waiting).await == Some(1.0)).await;
    daemon.signal("-TERM");
    daemon.end().expect(143, &["waiting for quota", "retry_at"]);
    assert_eq!(scene.received(), used);

    scene.set_rate("{ per_hour: 1000 }");
    let daemon = Daemon::start(&scene.workspace);
    eventually("it goes on", LONG, async || scene.newest_state() == "succeeded").await;
    daemon.signal("-TERM");
    daemon.end().expect(143, &[]);
    assert_holds(&scene.store.base_url, &scene.store.client, &people(0..20_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_pause_that_the_destination_asked_for_outlasts_the_process_that_was_told() {
    let scene = Scene::new("standard").await;
    scene.workspace.drop_csv("1.csv", &people(0..3_000));
    let hour = Fault::TooManyRequests { retry_after: Duration::from_secs(3_600) };
    scene.proxy.set_script(FaultScript::rules(vec![Rule::on("POST", "bulk/upsert", hour).after(1).once()]));
    scene.workspace.run(6).expect(6, &["waiting for quota until"]);
    let told = scene.received();
    scene.workspace.run(6).expect(6, &["waiting for quota until"]);
    assert_eq!(scene.received(), told, "the next process has read of it in the store");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_gone_for_some_seconds_is_sat_out() {
    let scene = Scene::new("standard").await;
    scene.workspace.drop_csv("1.csv", &people(0..20_000));
    let slow = Rule::on("POST", "bulk/upsert", Fault::DelayAnswer { by: Duration::from_millis(100) });
    scene.proxy.set_script(FaultScript::rules(vec![slow]));
    let mut child = scene.workspace.command(&["run", SYNC]).spawn().expect("the binary runs");
    eventually("it delivers", LONG, async || scene.proxy.stats().total() >= 6).await;
    scene.proxy.refuse_connections().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    scene.proxy.accept_connections().await;
    let ended = tokio::task::spawn_blocking(move || child.wait()).await.expect("no panic").expect("it ends");
    assert_eq!(ended.code(), Some(0));
    assert_holds(&scene.store.base_url, &scene.store.client, &people(0..20_000)).await;
}
