//! Reads are repeated while the destination is unavailable, a bounded number of times, and writes never.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::sink::{
    Answer, AudienceBinding, AudienceSetup, AudienceTarget, Capabilities, FoundRow, JobId, JobState, LookUp, Provision,
    ProvisionAnswer, Request, ScanPage, Sink, Survey,
};
use convoke_core::spec::{AudienceKind, AudienceSpec};
use convoke_core::{Clock, ConnectionName, DataType, RowId, SinkError};
use convoke_delivery::PatientReads;
use convoke_delivery::patience::READ_ATTEMPTS;
use convoke_testkit::clock::TestClock;
use convoke_testkit::fake_sink::FakeSink;
use tokio_util::sync::CancellationToken;

/// A destination that fails in one way so many times, and then works.
struct Flaky {
    failures: AtomicU32,
    error: fn() -> SinkError,
    asked: AtomicU32,
}

impl Flaky {
    fn new(failures: u32, error: fn() -> SinkError) -> Arc<Self> {
        Arc::new(Self { failures: AtomicU32::new(failures), error, asked: AtomicU32::new(0) })
    }

    fn take(&self) -> Result<(), SinkError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let left = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok() { Err((self.error)()) } else { Ok(()) }
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl AudienceSetup for Flaky {
    async fn survey(&self, _target: &AudienceTarget, _known_id: Option<&str>) -> Result<Survey, SinkError> {
        self.take().map(|()| Survey::default())
    }

    async fn provision(&self, _step: &Provision) -> Result<ProvisionAnswer, SinkError> {
        self.take().map(|()| ProvisionAnswer::Applied { id: None })
    }
}

#[async_trait]
impl Sink for Flaky {
    fn capabilities(&self) -> Capabilities {
        FakeSink::small_capabilities()
    }

    async fn send(&self, _audience: &AudienceBinding, _request: &Request) -> Result<Answer, SinkError> {
        self.take().map(|()| Answer::Applied(Vec::new()))
    }

    async fn poll(&self, _audience: &AudienceBinding, _job: &JobId) -> Result<JobState, SinkError> {
        self.take().map(|()| JobState::Succeeded)
    }

    async fn look_up(&self, _audience: &AudienceBinding, _query: &LookUp) -> Result<Vec<FoundRow>, SinkError> {
        self.take().map(|()| Vec::new())
    }

    async fn scan(&self, _audience: &AudienceBinding, _cursor: Option<&str>) -> Result<ScanPage, SinkError> {
        self.take().map(|()| ScanPage { rows: Vec::new(), next: None })
    }
}

fn lost() -> SinkError {
    SinkError::Unavailable { message: "the answer was lost".to_owned(), retry_after: None, cause: None }
}

fn busy_for_a_minute() -> SinkError {
    let retry_after = Some(Duration::from_secs(60));
    SinkError::Unavailable { message: "busy".to_owned(), retry_after, cause: None }
}

fn busy_for_an_hour() -> SinkError {
    let retry_after = Some(Duration::from_secs(3_600));
    SinkError::Unavailable { message: "busy".to_owned(), retry_after, cause: None }
}

fn refused() -> SinkError {
    SinkError::Forbidden { message: "not allowed".to_owned() }
}

fn target() -> AudienceTarget {
    AudienceTarget {
        spec: AudienceSpec {
            connection: ConnectionName::new("fake"),
            name: "Booth".to_owned(),
            id: None,
            kind: AudienceKind::Contact,
            folder: None,
            description: None,
            match_criteria: Vec::new(),
            match_columns: Vec::new(),
        },
        columns: vec![("Email".to_owned(), DataType::Email)],
    }
}

#[derive(Clone, Copy, Debug)]
enum Read {
    Survey,
    Poll,
    LookUp,
    Scan,
}

const READS: [Read; 4] = [Read::Survey, Read::Poll, Read::LookUp, Read::Scan];

async fn make(read: Read, sink: &PatientReads) -> Result<(), SinkError> {
    let audience = FakeSink::binding(&["Email"], None);
    match read {
        Read::Survey => sink.survey(&target(), None).await.map(drop),
        Read::Poll => sink.poll(&audience, &JobId("1".to_owned())).await.map(drop),
        Read::LookUp => sink.look_up(&audience, &LookUp::RowIds(vec![RowId::new("a")])).await.map(drop),
        Read::Scan => sink.scan(&audience, None).await.map(drop),
    }
}

fn patient(flaky: &Arc<Flaky>, clock: &Arc<TestClock>, cancel: &CancellationToken) -> PatientReads {
    PatientReads::new(Arc::clone(flaky) as _, Arc::clone(clock) as _, cancel.clone())
}

fn chain(error: &SinkError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

#[test]
fn a_read_whose_answers_were_lost_twice_succeeds_at_the_third_attempt() {
    for read in READS {
        let (clock, flaky) = (TestClock::stepping(), Flaky::new(2, lost));
        let sink = patient(&flaky, &clock, &CancellationToken::new());
        clock.run(make(read, &sink)).unwrap();
        assert_eq!(flaky.asked(), 3, "{read:?}");
        assert!(clock.elapsed() <= Duration::from_secs(3), "{read:?} waited {:?}", clock.elapsed());
    }
}

#[test]
fn a_lasting_fault_ends_in_an_error_that_says_what_was_asked_and_how_often() {
    let asked = ["looking at audience `Booth`", "a delete job of audience", "looking rows up", "reading the rows of"];
    for (read, what) in READS.into_iter().zip(asked) {
        let (clock, flaky) = (TestClock::stepping(), Flaky::new(u32::MAX, lost));
        let sink = patient(&flaky, &clock, &CancellationToken::new());
        let text = chain(&clock.run(make(read, &sink)).unwrap_err());
        assert_eq!(flaky.asked(), READ_ATTEMPTS);
        for part in [what, "after 6 attempts", "the answer was lost"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(clock.elapsed() <= Duration::from_secs(32), "{:?}", clock.elapsed());
    }
}

#[test]
fn a_wait_that_was_asked_for_is_kept_and_one_of_an_hour_is_not_begun() {
    let (clock, flaky) = (TestClock::stepping(), Flaky::new(1, busy_for_a_minute));
    clock.run(make(Read::Survey, &patient(&flaky, &clock, &CancellationToken::new()))).unwrap();
    assert!(clock.elapsed() >= Duration::from_secs(60));
    let (clock, flaky) = (TestClock::stepping(), Flaky::new(1, busy_for_an_hour));
    let error = clock.run(make(Read::Survey, &patient(&flaky, &clock, &CancellationToken::new()))).unwrap_err();
    assert!(chain(&error).contains("after 1 attempt;"), "{error}");
    assert_eq!((flaky.asked(), clock.elapsed()), (1, Duration::ZERO));
}

#[test]
fn what_says_something_about_the_question_is_not_asked_again() {
    let (clock, flaky) = (TestClock::stepping(), Flaky::new(1, refused));
    let error = clock.run(make(Read::Scan, &patient(&flaky, &clock, &CancellationToken::new()))).unwrap_err();
    assert!(matches!(error, SinkError::Forbidden { .. }));
    assert_eq!(flaky.asked(), 1);
}

#[test]
fn a_write_is_never_repeated() {
    let (clock, flaky) = (TestClock::stepping(), Flaky::new(1, lost));
    let sink = patient(&flaky, &clock, &CancellationToken::new());
    let audience = FakeSink::binding(&["Email"], None);
    let request = Request::Delete { row_ids: vec![RowId::new("a")] };
    assert!(matches!(clock.run(sink.send(&audience, &request)), Err(SinkError::Unavailable { .. })));
    assert_eq!(flaky.asked(), 1);
    let flaky = Flaky::new(1, lost);
    let sink = patient(&flaky, &clock, &CancellationToken::new());
    let step = Provision::Folder { name: "Events".to_owned() };
    assert!(matches!(clock.run(sink.provision(&step)), Err(SinkError::Unavailable { .. })));
    assert_eq!(flaky.asked(), 1);
}

#[test]
fn a_cancellation_ends_the_waiting_at_once() {
    let (clock, flaky, cancel) = (TestClock::stepping(), Flaky::new(u32::MAX, lost), CancellationToken::new());
    let sink = patient(&flaky, &clock, &cancel);
    cancel.cancel();
    let error = clock.run(make(Read::LookUp, &sink)).unwrap_err();
    assert!(chain(&error).contains("after 1 attempt"), "{error}");
    assert_eq!((flaky.asked(), clock.elapsed()), (1, Duration::ZERO));
}

#[test]
fn what_was_given_up_once_is_not_begun_anew_by_another_layer() {
    let (clock, flaky) = (TestClock::stepping(), Flaky::new(u32::MAX, lost));
    let inner = Arc::new(patient(&flaky, &clock, &CancellationToken::new()));
    let outer = PatientReads::new(inner, Arc::clone(&clock) as _, CancellationToken::new());
    assert!(clock.run(make(Read::Scan, &outer)).is_err());
    assert_eq!(flaky.asked(), READ_ATTEMPTS);
}
