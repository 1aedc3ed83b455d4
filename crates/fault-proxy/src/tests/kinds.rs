//! Kinds of trouble that know rows, tokens and rates.

use std::collections::BTreeSet;

use super::*;

const SEARCH: &str = "/audiences/a1/rows/actions/search?page[size]=500";
/// Longer than any of these tests takes.
const LONG: Duration = Duration::from_secs(600);

/// The request for these rows; `None`: a row to be made.
fn rows_document(ids: &[Option<&str>]) -> String {
    let rows: Vec<_> =
        ids.iter().map(|id| json!({ "type": "Row", "id": id, "attributes": { "values": [] } })).collect();
    json!({ "data": rows }).to_string()
}

fn request(path: &str, token: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nauthorization: {token}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// An upstream that answers each request with the rows `row-0`, `row-1`, … and their total.
async fn with_total(count: u32) -> Upstream {
    let rows: Vec<_> = (0..count).map(|id| json!({ "type": "Row", "id": format!("row-{id}") })).collect();
    let body = json!({ "data": rows, "meta": { "total": count } }).to_string();
    Upstream::start(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await
}

fn total(answer: &Message) -> u64 {
    let document: Value = serde_json::from_slice(answer.body.as_deref().unwrap()).unwrap();
    document["meta"]["total"].as_u64().unwrap()
}

fn on_search(fault: Fault) -> FaultScript {
    FaultScript::rules(vec![Rule::on("POST", "actions/search", fault)])
}

/// What rows the upstream was sent, request by request.
fn names_seen(upstream: &Upstream) -> Vec<Vec<String>> {
    let names = |body: &String| {
        let document: Value = serde_json::from_str(body).unwrap();
        document["data"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    };
    upstream.seen().iter().map(names).collect()
}

fn named_rows(names: &[&str]) -> String {
    json!({ "data": names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>() }).to_string()
}

#[tokio::test]
async fn a_refusal_of_rows_reaches_nobody_but_the_client() {
    let upstream = Upstream::with_rows(1).await;
    let proxy = proxy_with(&upstream, on_upsert(Fault::RefuseRows { status: 422 })).await;

    let answer = Client::connect(&proxy).await.post("bad").await.unwrap();

    assert_eq!(answer.status().unwrap(), 422);
    assert!(upstream.seen().is_empty());
    assert_eq!(proxy.stats().count("refuse_rows"), 1);
}

#[tokio::test]
async fn a_refusal_in_part_commits_the_first_half_of_what_is_not_marked() {
    let upstream = Upstream::with_rows(1).await;
    let fault = Fault::RefuseInPart { status: 400, mark: Some("bad".to_owned()) };
    let proxy = proxy_with(&upstream, FaultScript::from_fn(move |_| Some(fault.clone()))).await;
    let mut client = Client::connect(&proxy).await;

    let refused = client.post(&named_rows(&["a", "bad", "b", "c"])).await.unwrap();
    let marked = client.post(&named_rows(&["bad"])).await.unwrap();
    let single = client.post(&named_rows(&["d"])).await.unwrap();

    assert_eq!([refused, marked, single].map(|answer| answer.status().unwrap()), [400, 400, 200]);
    assert_eq!(names_seen(&upstream), [vec!["a", "b"], vec!["d"]]);
    assert_eq!((proxy.stats().count("refuse_in_part"), proxy.stats().not_applicable), (2, 1));
}

#[tokio::test]
async fn a_request_delivered_twice_is_answered_once() {
    let upstream = Upstream::with_rows(1).await;
    let proxy = proxy_with(&upstream, on_upsert(Fault::DeliverTwice)).await;
    let mut client = Client::connect(&proxy).await;

    let answer = client.post("again").await.unwrap();
    client.post("next").await.unwrap();

    assert_eq!(answer.status().unwrap(), 200);
    assert_eq!(upstream.seen(), ["again", "again", "next"]);
    assert_eq!(proxy.stats().committed, 3);
}

#[tokio::test]
async fn a_request_delivered_twice_unseen_commits_at_once_and_once_more_later() {
    let upstream = Upstream::with_rows(1).await;
    let proxy = proxy_with(&upstream, on_upsert(Fault::DeliverTwiceUnseen { again_after: HELD_FOR })).await;

    let error = Client::connect(&proxy).await.post("twice").await.unwrap_err();
    Client::connect(&proxy).await.post("between").await.unwrap();
    proxy.late_commits_done().await;

    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(upstream.seen(), ["twice", "between", "twice"]);
}

#[tokio::test]
async fn a_delayed_request_commits_after_the_client_has_given_up() {
    let upstream = Upstream::with_rows(1).await;
    let proxy = proxy_with(&upstream, on_upsert(Fault::DelayRequest { by: HELD_FOR })).await;
    let mut impatient = Client::connect(&proxy).await;

    let given_up = tokio::time::timeout(HELD_FOR / 10, impatient.post("late")).await;
    drop(impatient);
    Client::connect(&proxy).await.post("punctual").await.unwrap();
    proxy.late_commits_done().await;

    assert!(given_up.is_err(), "it was answered before its time");
    assert_eq!(upstream.seen(), ["punctual", "late"]);
}

#[tokio::test]
async fn a_slow_body_comes_in_parts_and_whole() {
    let over = Duration::from_millis(50);
    let upstream = Upstream::with_rows(9).await;
    let proxy = proxy_with(&upstream, on_upsert(Fault::SlowBody { over })).await;
    let asked_at = Instant::now();

    let answer = Client::connect(&proxy).await.post("x").await.unwrap();

    assert!(asked_at.elapsed() >= over * 9 / 10);
    assert_eq!(row_ids(&answer).len(), 9);
}

#[tokio::test]
async fn a_lagging_search_does_not_show_young_rows_and_tells_no_total_of_them() {
    let upstream = with_total(3).await;
    let proxy = proxy_with(&upstream, on_search(Fault::LagSearch { by: LONG })).await;
    let mut client = Client::connect(&proxy).await;

    let before = client.raw(&request(SEARCH, "t", "{}")).await.unwrap();
    // Of the three rows in the answer the request names one: the other two are new.
    client.raw(&request(UPSERT, "t", &rows_document(&[Some("row-1"), None, None]))).await.unwrap();
    let after = client.raw(&request(SEARCH, "t", "{}")).await.unwrap();

    assert_eq!((row_ids(&before).len(), total(&before)), (3, 3), "what was there before is not young");
    assert_eq!((row_ids(&after), total(&after)), (vec!["row-1".to_owned()], 1));
    assert_eq!((proxy.stats().count("lag_search"), proxy.stats().not_applicable), (1, 1));
}

#[tokio::test]
async fn a_lagging_search_shows_rows_once_they_are_old_enough() {
    let upstream = with_total(2).await;
    let proxy = proxy_with(&upstream, on_search(Fault::LagSearch { by: Duration::ZERO })).await;
    let mut client = Client::connect(&proxy).await;

    client.raw(&request(UPSERT, "t", &rows_document(&[None, None]))).await.unwrap();
    let answer = client.raw(&request(SEARCH, "t", "{}")).await.unwrap();

    assert_eq!(row_ids(&answer).len(), 2);
}

#[tokio::test]
async fn a_search_shows_a_subset_of_the_young_rows_and_all_others() {
    let upstream = with_total(5).await;
    let proxy = proxy_with(&upstream, on_search(Fault::SearchSubset { every: 2, within: LONG })).await;
    let mut client = Client::connect(&proxy).await;

    client.raw(&request(UPSERT, "t", &rows_document(&[Some("row-0"), None]))).await.unwrap();
    let answer = client.raw(&request(SEARCH, "t", "{}")).await.unwrap();

    assert_eq!((row_ids(&answer), total(&answer)), (["row-0", "row-1", "row-3"].map(str::to_owned).to_vec(), 3));
}

#[tokio::test]
async fn an_expired_token_is_refused_until_another_one_comes() {
    let upstream = Upstream::with_rows(1).await;
    let proxy = proxy_with(&upstream, on_upsert(Fault::ExpireToken)).await;
    let mut client = Client::connect(&proxy).await;

    let mut statuses = Vec::new();
    for token in ["old", "old", "new", "old"] {
        statuses.push(client.raw(&request(UPSERT, token, token)).await.unwrap().status().unwrap());
    }

    assert_eq!(statuses, [401, 401, 200, 401]);
    assert_eq!(upstream.seen(), ["new"]);
    assert_eq!(proxy.stats().count("expire_token"), 1);
}

#[tokio::test]
async fn a_strict_throttle_lets_so_many_through_in_any_second_and_says_what_is_left() {
    let upstream = Upstream::with_rows(1).await;
    let proxy = proxy_with(&upstream, FaultScript::none()).await;
    proxy.throttle(Some(3));
    let mut client = Client::connect(&proxy).await;

    let started_at = Instant::now();
    let mut left = Vec::new();
    while let Some(remaining) = passed(&client.post("x").await.unwrap()) {
        left.push(remaining);
    }
    let refused = client.post("x").await.unwrap();
    let mut waited = 0_u64;
    while passed(&client.post("x").await.unwrap()).is_none() {
        waited += 1;
        tokio::task::yield_now().await;
    }

    assert_eq!(left, ["2", "1", "0"]);
    assert_eq!(refused.status().unwrap(), 429);
    assert_eq!(
        (refused.header("retry-after"), refused.header("x-ratelimit-rejected-bucket")),
        (Some("1"), Some("second"))
    );
    assert!(started_at.elapsed() >= Duration::from_secs(1), "the window slid too early");
    assert_eq!(proxy.stats().count("throttled"), waited + 2);
    proxy.throttle(None);
    assert_eq!(client.post("x").await.unwrap().header("x-ratelimit-limit-second"), None);
}

/// What an answer that was let through says is left.
fn passed(answer: &Message) -> Option<String> {
    let left = answer.header("x-ratelimit-remaining-second").map(str::to_owned);
    (answer.status().unwrap() == 200).then(|| left.unwrap())
}

#[tokio::test]
async fn a_script_sees_whether_rows_are_created_and_whether_a_mark_is_among_them() {
    let upstream = Upstream::with_rows(1).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let script = FaultScript::from_fn(move |request| {
        noted.lock().unwrap().push((request.creates_rows(), request.holds("row-7")));
        None
    });
    let proxy = proxy_with(&upstream, script).await;
    let mut client = Client::connect(&proxy).await;

    for ids in [vec![Some("row-7")], vec![None], vec![Some("row-7"), None]] {
        client.raw(&request(UPSERT, "t", &rows_document(&ids))).await.unwrap();
    }
    client.raw(&request(SEARCH, "t", &rows_document(&[None]))).await.unwrap();

    assert_eq!(*seen.lock().unwrap(), [(false, true), (true, false), (true, true), (false, false)]);
}

#[test]
fn every_kind_has_a_name_of_its_own() {
    let zero = Duration::ZERO;
    let kinds = [
        Fault::Refuse { lasting: zero },
        Fault::DropRequest,
        Fault::DropAnswer,
        Fault::FailAfterCommit { status: 500 },
        Fault::DelayAnswer { by: zero },
        Fault::DelayRequest { by: zero },
        Fault::CommitLate { after: zero },
        Fault::DeliverTwice,
        Fault::DeliverTwiceUnseen { again_after: zero },
        Fault::TruncateAnswer,
        Fault::SlowBody { over: zero },
        Fault::LeaveOutRows { every: 1 },
        Fault::ShuffleRows,
        Fault::FailCells { mark: String::new() },
        Fault::LagSearch { by: zero },
        Fault::SearchSubset { every: 1, within: zero },
        Fault::RefuseRows { status: 400 },
        Fault::RefuseInPart { status: 400, mark: None },
        Fault::TooManyRequests { retry_after: zero },
        Fault::Unauthorized,
        Fault::ExpireToken,
    ];
    let names: BTreeSet<_> = kinds.iter().map(Fault::name).collect();
    assert_eq!(names.len(), kinds.len());
}
