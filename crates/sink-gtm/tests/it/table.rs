//! Plays every line of the table in `ANSWERS.md`, over HTTP, for each kind of request.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use convoke_core::SinkError;
use convoke_core::enrichment::{EnrichmentAnswer, EnrichmentScope};
use convoke_core::sink::{
    Answer, AudienceSetup, AudienceTarget, JobId, JobState, LookUp, Provision, ProvisionAnswer, Sink,
};
use convoke_core::spec::{AudienceKind, AudienceSpec};
use convoke_core::{ConnectionName, DataType};
use convoke_sink_gtm::{GtmSettings, GtmSink};
use convoke_testkit::scripted_http::{End, HttpAnswer, Release, Reply, Sent};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::fixture::{Service, audience, create, delete, key, page, row, row_ids, settings, update};

const PAGE: &str = include_str!("../../ANSWERS.md");

/// The line of answers that break off.
const NOT_WHOLE: &str = "no whole answer";

/// For answers that never come; long enough for a token that is asked for on a busy machine.
const HASTY: Duration = Duration::from_secs(4);

/// The cells of the table: what comes back, for what, and what follows.
fn cells() -> Vec<(&'static str, &'static str, &'static str)> {
    let is_line = |line: &&str| line.starts_with('|') && !line.starts_with("| ---");
    let split = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    let mut lines =
        PAGE.lines().skip_while(|line| !line.starts_with("| what comes back")).take_while(|line| !line.is_empty());
    let purposes = split(lines.next().expect("the table"));
    let rows = lines.filter(is_line).map(split);
    rows.flat_map(|row| (1..row.len()).map(|column| (row[0], purposes[column], row[column])).collect::<Vec<_>>())
        .collect()
}

/// The answers of a line.
fn replies(line: &str, purpose: &str) -> Vec<Reply> {
    match line {
        NOT_WHOLE => broken(&success(purpose)),
        // 204 is declared of it: there is nothing to do.
        "2xx, as declared" if purpose == "enrichment" => {
            vec![Reply::Answer(success(purpose)), HttpAnswer::new(204, "").into()]
        }
        "2xx, anything else" if purpose == "enrichment" => vec![
            HttpAnswer::new(202, "").into(),
            HttpAnswer::new(202, r#"{"data": [{"id": "a""#).into(),
            Reply::json(202, &json!({"errors": []})),
        ],
        "2xx, as declared" => vec![Reply::Answer(success(purpose))],
        "2xx, anything else" => vec![
            HttpAnswer::new(200, "").into(),
            HttpAnswer::new(204, "").into(),
            HttpAnswer::new(200, "<html>maintenance</html>").header("Content-Type", "text/html").into(),
            HttpAnswer::new(200, "<html>maintenance</html>").header("Content-Type", "application/vnd.api+json").into(),
            HttpAnswer::new(200, r#"{"data": [{"id": "a""#).into(),
            Reply::json(200, &json!([])),
            Reply::json(200, &json!({"errors": []})),
        ],
        "5xx" => [500, 501, 502, 503, 504, 599].into_iter().flat_map(both_shapes).collect(),
        "any other" => [300, 301, 302, 303, 307, 308, 405, 406, 410, 412, 415, 418, 423, 431, 451, 600]
            .into_iter()
            .flat_map(both_shapes)
            .collect(),
        statuses => {
            let read =
                |text: &str| text.trim().parse().unwrap_or_else(|_| panic!("no answers are written for `{line}`"));
            statuses.split(',').map(read).flat_map(both_shapes).collect()
        }
    }
}

/// Both published error shapes, a page of something else, and nothing.
fn both_shapes(status: u16) -> Vec<Reply> {
    let code = status.to_string();
    let answer = |body: String| HttpAnswer::new(status, body).header("Location", "http://elsewhere.example/");
    vec![
        answer(json!({"errors": [{"id": "1", "code": "PFAPI0003", "status": code}]}).to_string()).into(),
        answer(json!({"error": {"code": "PFAPI0003", "message": "m", "status": status}}).to_string()).into(),
        answer("<html>".to_owned()).into(),
        answer(String::new()).into(),
    ]
}

/// An answer that never becomes whole, in each way.
fn broken(whole: &HttpAnswer) -> Vec<Reply> {
    let mut replies = Vec::new();
    for sent in [Sent::Nothing, Sent::HalfHead, Sent::Head, Sent::HalfBody] {
        for end in [End::Close, End::Reset, End::Stall(Release::new())] {
            replies.push(Reply::Broken { answer: whole.clone(), sent, end });
        }
    }
    let endless = |answer: HttpAnswer, sent| Reply::Broken { answer, sent, end: End::Stall(Release::new()) };
    replies.push(endless(whole.clone().until_closed(), Sent::All));
    replies
}

fn success(purpose: &str) -> HttpAnswer {
    let rows = [row("r1", Some(key(1))), row("r2", Some(key(2)))];
    match purpose {
        "create" | "update" | "look-up" | "scan" => HttpAnswer::json(200, &page(&rows, 2)),
        "delete" => HttpAnswer::json(202, &json!({"data": {"id": "j", "type": "RowAsyncJob"}})),
        "enrichment" => HttpAnswer::json(202, &json!({"data": {"id": "j", "type": "EnrichJob"}})),
        "poll" => HttpAnswer::json(
            200,
            &json!({"data": {"id": "j", "type": "JobStatus", "attributes": {"status": "RUNNING"}}}),
        ),
        "survey" => HttpAnswer::json(200, &surveyed()),
        "set-up step" => HttpAnswer::json(201, &json!({"data": {"id": "f", "type": "Folder", "attributes": {}}})),
        "token" => HttpAnswer::json(200, &json!({"access_token": "t", "expires_in": 3600})),
        other => panic!("`{other}` is no kind of request"),
    }
}

fn surveyed() -> Value {
    json!({"data": {"id": "aud", "type": "Audience", "attributes": {
        "name": "Booth", "type": "CONTACT", "origin": "CUSTOM", "recordCount": 2, "folderId": "f", "columns": []}}})
}

fn target() -> AudienceTarget {
    AudienceTarget {
        spec: AudienceSpec {
            connection: ConnectionName::new("gtm"),
            name: "Booth".to_owned(),
            id: Some("aud".to_owned()),
            kind: AudienceKind::Contact,
            folder: None,
            description: None,
            match_criteria: Vec::new(),
            match_columns: Vec::new(),
        },
        columns: vec![("Email".to_owned(), DataType::Email)],
    }
}

/// Makes a request and tells what it was taken for, in the words of the table.
async fn word_of(purpose: &str, sink: &GtmSink) -> &'static str {
    match purpose {
        "create" => word_of_write(sink.send(&audience(), &create()).await),
        "update" => word_of_write(sink.send(&audience(), &update()).await),
        "delete" => word_of_write(sink.send(&audience(), &delete()).await),
        "poll" => match sink.poll(&audience(), &JobId("j".to_owned())).await {
            Ok(JobState::Incomplete) => "look rows up",
            polled => word_of_read(polled.map(drop)),
        },
        "look-up" => word_of_read(sink.look_up(&audience(), &LookUp::RowIds(row_ids())).await.map(drop)),
        "scan" => word_of_read(sink.scan(&audience(), None).await.map(drop)),
        "survey" => word_of_read(sink.survey(&target(), None).await.map(drop)),
        "set-up step" => match sink.provision(&Provision::Folder { name: "Events".to_owned() }).await {
            Ok(ProvisionAnswer::Applied { .. }) => "done",
            Ok(ProvisionAnswer::Refused { .. }) => "refused",
            Ok(ProvisionAnswer::NotApplied { .. }) => "send again",
            Ok(ProvisionAnswer::Unknown { .. }) => "read back",
            Err(error) => word_of_error(&error),
        },
        "enrichment" => match sink.enrich(&audience(), &EnrichmentScope::Rows(row_ids())).await {
            Ok(EnrichmentAnswer::Started(_) | EnrichmentAnswer::NothingToDo) => "done",
            Ok(EnrichmentAnswer::NoCredits { .. } | EnrichmentAnswer::Refused { .. }) => "refused",
            Ok(EnrichmentAnswer::NotStarted { .. }) => "send again",
            Ok(EnrichmentAnswer::Unknown { .. }) => "unclear",
            Err(error) => word_of_error(&error),
        },
        // Nothing is sent without a token, so a write tells how asking for one went.
        "token" => match sink.send(&audience(), &create()).await {
            Err(SinkError::Unauthorized { .. }) => "refused",
            written => word_of_write(written),
        },
        other => panic!("`{other}` is no kind of request"),
    }
}

fn word_of_write(answer: Result<Answer, SinkError>) -> &'static str {
    match answer {
        // No row is confirmed, so all are in doubt.
        Ok(Answer::Applied(rows)) if rows.is_empty() => "read back",
        Ok(Answer::Applied(_) | Answer::Accepted(_)) => "done",
        Ok(Answer::Refused(refusal)) if refusal.too_large => "halve",
        Ok(Answer::Refused(_)) => "bisect",
        Ok(Answer::NotApplied { .. }) => "send again",
        Ok(Answer::Unknown { .. }) => "read back",
        Err(error) => word_of_error(&error),
    }
}

fn word_of_read(read: Result<(), SinkError>) -> &'static str {
    read.map_or_else(|error| word_of_error(&error), |()| "done")
}

fn word_of_error(error: &SinkError) -> &'static str {
    match error {
        SinkError::Unauthorized { .. } => "renew token",
        SinkError::Forbidden { .. } => "forbidden",
        SinkError::NotFound { .. } => "not found",
        SinkError::Unavailable { .. } => "ask again",
        SinkError::Protocol { message } if message.contains("was refused") => "refused",
        SinkError::Protocol { .. } => "undeclared",
        SinkError::Quota(_) => "wait",
    }
}

async fn service_for(purpose: &str) -> Service {
    if purpose != "token" {
        return Service::start().await;
    }
    let service = Service::without_tokens().await;
    let answer = success("create");
    service.http.route("POST", "/studio", move |_| answer.clone().into());
    service
}

fn sink_of(service: &Service, adjust: impl FnOnce(&mut GtmSettings)) -> GtmSink {
    let mut settings = settings(&service.http.url());
    adjust(&mut settings);
    GtmSink::new(settings, Arc::clone(&service.gate) as _, Arc::clone(&service.clock) as _).expect("settings that work")
}

/// Nobody listens there.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("a bound socket").port()
}

async fn unsent_words(purpose: &str) -> Vec<&'static str> {
    let service = service_for(purpose).await;
    let url = format!("http://127.0.0.1:{}", closed_port());
    let no_tokens = sink_of(&service, |settings| settings.token_url = format!("{url}/token"));
    let unreachable = sink_of(&service, |settings| settings.base_url = format!("{url}/studio"));
    let mut words = vec![word_of(purpose, &no_tokens).await];
    if purpose != "token" {
        words.push(word_of(purpose, &unreachable).await);
    }
    words
}

/// Plays all answers of a cell.
async fn hold(line: &str, purpose: &str, expected: &str) {
    if line == "no connection, or no token" {
        for word in unsent_words(purpose).await {
            assert_eq!(word, expected, "{line}, {purpose}");
        }
        return;
    }
    if line == NOT_WHOLE {
        // Side by side, because some of these take as long as a request may.
        let broken = replies(line, purpose).into_iter();
        join_all(broken.map(|reply| hold_for(line, purpose, expected, reply))).await;
        return;
    }
    for reply in replies(line, purpose) {
        hold_for(line, purpose, expected, reply).await;
    }
}

async fn hold_for(line: &str, purpose: &str, expected: &str, reply: Reply) {
    let service = service_for(purpose).await;
    let what = format!("{line}, {purpose}, {reply:?}");
    service.http.then(reply);
    if line == "401" && purpose != "token" {
        // Lasting: the new token is refused too.
        service.http.then(HttpAnswer::new(401, "").into());
    }
    let sink = sink_of(&service, |settings| {
        if line == NOT_WHOLE {
            settings.http.request_timeout = HASTY;
        }
    });
    assert_eq!(word_of(purpose, &sink).await, expected, "{what}");
    assert_eq!(service.http.left_over(), 0, "{what}");
    let attempts = if line == "401" { 2 } else { 1 };
    let sent = service.http.requests_to(if purpose == "token" { "/token" } else { "/studio" }).len();
    assert!(sent <= attempts, "{what}: one call is one attempt, and there were {sent}");
}

#[tokio::test]
async fn every_line_of_the_table_holds_for_each_kind_of_request() {
    let cells = cells();
    assert_eq!(cells.len(), 14 * 10, "the table has another shape");
    for line in cells.chunks(10) {
        join_all(line.iter().map(|(line, purpose, expected)| hold(line, purpose, expected))).await;
    }
}

#[tokio::test]
async fn a_token_refused_once_is_renewed_for_each_kind_of_request() {
    for purpose in ["create", "update", "delete", "poll", "look-up", "scan", "survey", "set-up step", "enrichment"] {
        let service = Service::start().await;
        service.http.then(HttpAnswer::new(401, "").into()).then(success(purpose).into());
        assert_eq!(word_of(purpose, &service.sink).await, "done", "{purpose}");
        assert_eq!(service.http.requests_to("/token").len(), 2, "{purpose}");
    }
}
