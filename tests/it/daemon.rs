//! `serve` as a process, and what it tells about itself.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::workspace::{Ended, Workspace};

/// A daemon. Dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    base_url: String,
}

impl Daemon {
    /// Starts a daemon on a free port; returns once it says where.
    pub(crate) fn start(workspace: &Workspace) -> Self {
        let mut child = workspace
            .command(&["serve", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let base_url = line.split_whitespace().last().unwrap_or_default().to_owned();
        if !base_url.starts_with("http://127.0.0.1:") {
            let ended = Ended::of(child.wait_with_output().expect("it ends"));
            panic!("{line}{}", ended.text());
        }
        Self { child, base_url }
    }

    /// Status and body of what is at a path.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = client().get(format!("{}{path}", self.base_url)).send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.text().await.expect("text"))
    }

    /// The value of the metric's first line that begins so.
    pub(crate) async fn metric(&self, line_start: &str) -> Option<f64> {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        let line = text.lines().find(|line| line.starts_with(line_start))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        let stderr = self.child.stderr.take().expect("piped");
        let status = self.child.wait().expect("it ends");
        let stderr = std::io::read_to_string(stderr).expect("UTF-8");
        Ended { code: status.code(), stdout: String::new(), stderr }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client() -> reqwest::Client {
    // Fails if another test was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// Waits until something holds; panics with `what` after a time that nothing here needs.
pub(crate) async fn eventually(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(tokio::time::timeout(limit, waiting).await.is_ok(), "not within {limit:?}: {what}");
}
