//! What stands in an answer, how long it takes, and how large it may be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use convoke_core::SinkError;
use convoke_core::sink::{Answer, JobId, JobState, LookUp, Request, Sink};
use convoke_sink_gtm::GtmSink;
use convoke_testkit::scripted_http::{End, HttpAnswer, Release, Reply, Sent};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};

use crate::fixture::{Service, answer, audience, create, delete, key, page, row, row_ids, settings, update};

/// A row that an answer confirms: index, id, whether it is incomplete.
type Confirmed = (usize, &'static str, bool);

fn whole(index: usize, id: &'static str) -> Confirmed {
    (index, id, false)
}

fn incomplete(index: usize, id: &'static str) -> Confirmed {
    (index, id, true)
}

/// A row whose cell in this column is in some state, with this value.
fn row_with(id: &str, key_number: Option<u8>, column: &str, value: Value, state: &str, retryable: bool) -> Value {
    let mut row = row(id, key_number.map(key));
    let cell = json!({"columnId": column, "value": value, "state": state,
        "errorDetails": {"summary": "not now", "description": "d", "retryable": retryable}});
    let values = row["attributes"]["values"].as_array_mut().expect("cells");
    values.retain(|cell| cell["columnId"] != column);
    values.push(cell);
    row
}

fn failed_mail(id: &str, key_number: u8, retryable: bool) -> Value {
    row_with(id, Some(key_number), "c-mail", Value::Null, "ERROR", retryable)
}

/// A row whose key cell the destination could not keep.
fn keyless(id: &str) -> Value {
    row_with(id, None, "c-key", Value::Null, "ERROR", false)
}

async fn confirmed(request: Request, rows: &[Value]) -> Vec<(usize, String, bool)> {
    let service = Service::start().await;
    service.then(200, &page(rows, rows.len()));
    let answer = service.sink.send(&audience(), &request).await.expect("an answer");
    let Answer::Applied(rows) = answer else { panic!("{answer:?}") };
    rows.into_iter().map(|row| (row.index, row.row_id.as_str().to_owned(), !row.failed_cells.is_empty())).collect()
}

fn owned(rows: &[Confirmed]) -> Vec<(usize, String, bool)> {
    rows.iter().map(|(index, id, incomplete)| (*index, (*id).to_owned(), *incomplete)).collect()
}

#[tokio::test]
async fn an_answer_to_creates_confirms_what_it_shows_and_nothing_else() {
    let (a, b) = (|| row("a", Some(key(1))), || row("b", Some(key(2))));
    let stranger = || row("x", Some(key(99)));
    let shown_key = row_with("b", None, "c-key", json!(key(2).to_string()), "ERROR", true);
    let loading = row_with("b", Some(2), "c-mail", Value::Null, "LOADING", false);
    let loading_key = row_with("b", None, "c-key", json!(key(2).to_string()), "LOADING", false);
    let cases: [(&str, Vec<Value>, Vec<Confirmed>); 16] = [
        ("all rows", vec![a(), b()], vec![whole(0, "a"), whole(1, "b")]),
        ("other order", vec![b(), a()], vec![whole(0, "a"), whole(1, "b")]),
        ("fewer rows", vec![b()], vec![whole(1, "b")]),
        ("no rows", vec![], vec![]),
        ("a row that nobody sent", vec![a(), stranger(), b()], vec![whole(0, "a"), whole(1, "b")]),
        ("a row that nobody sent instead of one", vec![a(), stranger()], vec![whole(0, "a")]),
        ("a row twice", vec![a(), b(), b()], vec![whole(0, "a")]),
        ("two rows for one key", vec![a(), b(), row("b2", Some(key(2)))], vec![whole(0, "a")]),
        ("one id for two rows", vec![row("a", Some(key(1))), row("a", Some(key(2)))], vec![]),
        ("a cell in ERROR, retryable", vec![failed_mail("a", 1, true), b()], vec![incomplete(0, "a"), whole(1, "b")]),
        ("a cell in ERROR, for good", vec![failed_mail("a", 1, false), b()], vec![incomplete(0, "a"), whole(1, "b")]),
        ("the key cell in ERROR and shown", vec![a(), shown_key], vec![whole(0, "a"), incomplete(1, "b")]),
        ("the key cell in ERROR and empty", vec![keyless("b"), a()], vec![whole(0, "a"), incomplete(1, "b")]),
        ("more of those than rows are missing", vec![a(), keyless("b"), keyless("c")], vec![whole(0, "a")]),
        ("a cell LOADING", vec![a(), loading], vec![whole(0, "a"), whole(1, "b")]),
        ("the key cell LOADING and shown", vec![a(), loading_key], vec![whole(0, "a"), whole(1, "b")]),
    ];
    for (name, rows, expected) in cases {
        assert_eq!(confirmed(create(), &rows).await, owned(&expected), "{name}");
    }
}

#[tokio::test]
async fn an_answer_to_updates_confirms_the_ids_that_were_sent() {
    let (first, second) = (|| row("r1", Some(key(1))), || row("r2", Some(key(2))));
    let other_id = || row("r9", Some(key(2)));
    let failed_key = row_with("r2", None, "c-key", Value::Null, "ERROR", false);
    let cases: [(&str, Vec<Value>, Vec<Confirmed>); 9] = [
        ("all rows", vec![first(), second()], vec![whole(0, "r1"), whole(1, "r2")]),
        ("other order", vec![second(), first()], vec![whole(0, "r1"), whole(1, "r2")]),
        ("fewer rows", vec![second()], vec![whole(1, "r2")]),
        ("another id", vec![first(), other_id()], vec![whole(0, "r1")]),
        ("a row that nobody sent", vec![first(), second(), other_id()], vec![whole(0, "r1"), whole(1, "r2")]),
        ("a row twice", vec![first(), second(), second()], vec![whole(0, "r1")]),
        ("a cell in ERROR", vec![failed_mail("r1", 1, true), second()], vec![incomplete(0, "r1"), whole(1, "r2")]),
        ("the key cell in ERROR", vec![first(), failed_key], vec![whole(0, "r1"), incomplete(1, "r2")]),
        ("a row without its key cell", vec![row("r1", None), second()], vec![whole(0, "r1"), whole(1, "r2")]),
    ];
    for (name, rows, expected) in cases {
        assert_eq!(confirmed(update(), &rows).await, owned(&expected), "{name}");
    }
}

#[tokio::test]
async fn only_an_accepted_job_says_anything_about_deletes() {
    let job = json!({"data": {"id": "j", "type": "RowAsyncJob"}});
    let cases = [
        ("accepted", answer(202, &job), Answer::Accepted(JobId("j".to_owned()))),
        ("done at once, as nobody declares", answer(200, &job), Answer::Applied(Vec::new())),
        ("no body", HttpAnswer::new(204, ""), Answer::Applied(Vec::new())),
        ("rows", answer(200, &page(&[row("r1", None), row("r2", None)], 2)), Answer::Applied(Vec::new())),
    ];
    for (name, reply, expected) in cases {
        let service = Service::start().await;
        service.http.then(reply.into());
        assert_eq!(service.sink.send(&audience(), &delete()).await.unwrap(), expected, "{name}");
    }
    let service = Service::start().await;
    service.then(202, &json!({"data": {"type": "RowAsyncJob"}}));
    let answer = service.sink.send(&audience(), &delete()).await.unwrap();
    assert!(matches!(answer, Answer::Unknown { .. }), "a job without an id cannot be asked about: {answer:?}");
}

#[tokio::test]
async fn a_job_that_ended_in_any_way_but_well_sends_the_rows_to_a_look_up() {
    let cases = [
        ("SCHEDULED", JobState::Running),
        ("RUNNING", JobState::Running),
        ("SUCCEEDED", JobState::Succeeded),
        ("PARTIALLY_SUCCEEDED", JobState::Incomplete),
        ("FAILED", JobState::Incomplete),
        ("CANCELLED", JobState::Incomplete),
        ("A_NEW_WORD", JobState::Incomplete),
    ];
    for (status, expected) in cases {
        let service = Service::start().await;
        service.then(200, &json!({"data": {"id": "j", "type": "JobStatus", "attributes": {"status": status}}}));
        assert_eq!(service.sink.poll(&audience(), &JobId("j".to_owned())).await.unwrap(), expected, "{status}");
    }
}

#[tokio::test]
async fn a_look_up_finds_what_it_is_shown_and_takes_no_gap_for_an_absence() {
    let (a, b) = (|| row("a", Some(key(1))), || row("b", Some(key(2))));
    let stranger = || row("x", Some(key(99)));
    let cases: [(&str, Value, Option<Vec<&str>>); 9] = [
        ("all rows", page(&[a(), b()], 2), Some(vec!["a", "b"])),
        ("other order", page(&[b(), a()], 2), Some(vec!["b", "a"])),
        ("none", page(&[], 0), Some(vec![])),
        ("a row that was not asked for", page(&[a(), stranger()], 2), Some(vec!["a"])),
        ("a row twice", page(&[a(), a()], 2), Some(vec!["a"])),
        ("two rows for one key", page(&[a(), row("a2", Some(key(1)))], 2), Some(vec!["a", "a2"])),
        ("a failed cell", page(&[failed_mail("a", 1, true), b()], 2), Some(vec!["a", "b"])),
        ("a hit without its key cell", page(&[keyless("a"), b()], 2), None),
        ("a row without an id", page(&[json!({"type": "Row"}), b()], 2), None),
    ];
    for (name, body, expected) in cases {
        let service = Service::start().await;
        service.then(200, &body);
        let found = service.sink.look_up(&audience(), &LookUp::KeyCells(vec![key(1), key(2)])).await;
        match (found, expected) {
            (Ok(found), Some(expected)) => {
                let ids: Vec<&str> = found.iter().map(|row| row.row_id.as_str()).collect();
                assert_eq!(ids, expected, "{name}");
            }
            (Err(SinkError::Unavailable { .. }), None) => {}
            (found, expected) => panic!("{name}: {found:?} instead of {expected:?}"),
        }
    }
    let service = Service::start().await;
    service.then(200, &page(&[a()], 2)).then(200, &page(&[], 2));
    let short = service.sink.look_up(&audience(), &LookUp::KeyCells(vec![key(1), key(2)])).await;
    assert!(matches!(short, Err(SinkError::Unavailable { .. })), "fewer rows than announced: {short:?}");
}

#[tokio::test]
async fn what_retry_after_asks_for_is_passed_on_in_either_form() {
    let cases = [
        (429, None, None),
        (429, Some("7"), Some(7)),
        (429, Some("Thu, 01 Jan 1970 00:01:30 GMT"), Some(90)),
        (429, Some("soon"), None),
    ];
    for (status, header, expected) in cases {
        let service = Service::start().await;
        for _ in 0..2 {
            let reply = HttpAnswer::new(status, "");
            let reply = header.map_or(reply.clone(), |value| reply.header("Retry-After", value));
            service.http.then(reply.into());
        }
        let written = service.sink.send(&audience(), &update()).await.unwrap();
        let Answer::NotApplied { retry_after, .. } = written else { panic!("{written:?}") };
        assert_eq!(retry_after, expected.map(Duration::from_secs), "{header:?}");
        let read = service.sink.look_up(&audience(), &LookUp::RowIds(row_ids())).await.unwrap_err();
        let SinkError::Unavailable { retry_after, .. } = read else { panic!("{read:?}") };
        assert_eq!(retry_after, expected.map(Duration::from_secs), "{header:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_whole_counts_although_the_connection_lingers() {
    let whole = answer(200, &page(&[row("a", Some(key(1))), row("b", Some(key(2)))], 2));
    for end in [End::Stall(Release::new()), End::Close] {
        let service = Service::start().await;
        service.http.then(Reply::Broken { answer: whole.clone(), sent: Sent::All, end });
        let answer = service.sink.send(&audience(), &create()).await.unwrap();
        assert!(matches!(&answer, Answer::Applied(rows) if rows.len() == 2), "{answer:?}");
    }
    let service = Service::start().await;
    service.http.then(whole.header("Content-Type", "text/html").until_closed().into());
    let answer = service.sink.send(&audience(), &create()).await.unwrap();
    assert!(matches!(&answer, Answer::Applied(rows) if rows.len() == 2), "{answer:?}");
}

/// A port that listens and whose queue of connections is full: further ones get no answer. Holds the queue.
async fn full_port() -> (SocketAddr, tokio::net::TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let listener = socket.listen(0).expect("it listens");
    let address = listener.local_addr().expect("a bound socket");
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        queued.push(stream);
    }
    (address, listener, queued)
}

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_is_certainly_not_applied() {
    let (address, _listener, _queued) = full_port().await;
    let service = Service::start().await;
    let mut unanswered = settings(&service.http.url());
    unanswered.base_url = format!("http://{address}/studio");
    unanswered.http.connect_timeout = Duration::from_millis(200);
    let sink = GtmSink::new(unanswered, Arc::clone(&service.gate) as _, Arc::clone(&service.clock) as _).unwrap();
    for request in [create(), update(), delete()] {
        let answer = sink.send(&audience(), &request).await.unwrap();
        assert!(matches!(answer, Answer::NotApplied { .. }), "{answer:?}");
    }
    let read = sink.look_up(&audience(), &LookUp::RowIds(row_ids())).await.unwrap_err();
    assert!(matches!(read, SinkError::Unavailable { .. }), "{read:?}");
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_not_read_and_counts_as_not_whole() {
    let megabyte = || vec![b' '; 1 << 20];
    let announced = HttpAnswer::new(200, "").header("Content-Length", "200000000").until_closed();
    let replies = [
        ("announced", Reply::Broken { answer: announced, sent: Sent::Head, end: End::Stall(Release::new()) }),
        (
            "never ending",
            Reply::Broken {
                answer: HttpAnswer::new(200, megabyte()).until_closed(),
                sent: Sent::All,
                end: End::Endless,
            },
        ),
    ];
    for (name, reply) in replies {
        let service = Service::start().await;
        service.http.then(reply);
        let answer = service.sink.send(&audience(), &create()).await.unwrap();
        let Answer::Unknown { reason } = answer else { panic!("{name}: {answer:?}") };
        assert!(reason.contains("longer than 134217728 bytes"), "{name}: {reason}");
    }
}

#[tokio::test]
async fn of_a_refusal_beyond_the_limit_the_status_counts() {
    let service = Service::start().await;
    let endless = HttpAnswer::new(400, vec![b' '; 1 << 20]).until_closed();
    service.http.then(Reply::Broken { answer: endless, sent: Sent::All, end: End::Endless });
    let answer = service.sink.send(&audience(), &create()).await.unwrap();
    assert!(matches!(&answer, Answer::Refused(refusal) if refusal.problems.is_empty()), "{answer:?}");
}

#[tokio::test]
async fn a_token_answer_beyond_the_limit_is_no_token_for_now() {
    let service = Service::without_tokens().await;
    let endless = HttpAnswer::new(200, vec![b' '; 1 << 14]).until_closed();
    service.http.then(Reply::Broken { answer: endless, sent: Sent::All, end: End::Endless });
    let answer = service.sink.send(&audience(), &create()).await.unwrap();
    let Answer::NotApplied { reason, .. } = answer else { panic!("{answer:?}") };
    assert!(reason.contains("longer than 65536 bytes"), "{reason}");
}

#[tokio::test]
async fn a_refusal_names_rows_where_it_points_at_them_in_either_shape() {
    let pointed =
        json!({"errors": [{"code": "PFAPI0008", "title": "Wrong type", "source": {"pointer": "/data/1/id"}}]});
    let unpointed = json!({"error": {"code": "PFAPI0008", "message": "Wrong type", "status": 400}});
    for request in [create(), update(), delete()] {
        for (body, index) in [(&pointed, Some(1)), (&unpointed, None)] {
            for status in [400, 413, 422] {
                let service = Service::start().await;
                service.then(status, body);
                let answer = service.sink.send(&audience(), &request).await.unwrap();
                let Answer::Refused(refusal) = answer else { panic!("{status}: {answer:?}") };
                assert_eq!(refusal.too_large, status == 413);
                let problem = &refusal.problems[0];
                assert_eq!((problem.index, problem.code.as_str()), (index, "PFAPI0008"));
            }
        }
    }
}
