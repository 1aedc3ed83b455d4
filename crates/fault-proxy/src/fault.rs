//! What can go wrong with a request.

use std::time::Duration;

/// One thing that can go wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection closes, nothing is forwarded, and further connections are refused for so long.
    Refuse { lasting: Duration },
    /// The connection closes before the request is forwarded.
    DropRequest,
    /// The request commits and the connection closes without an answer.
    DropAnswer,
    /// The request commits and the client is told this status, usually 500.
    FailAfterCommit { status: u16 },
    /// The request commits at once; the answer comes this much later.
    DelayAnswer { by: Duration },
    /// The request is forwarded this much later, and then answered: past the client's time-out it commits unseen.
    DelayRequest { by: Duration },
    /// The connection closes at once; the request is forwarded this much later.
    CommitLate { after: Duration },
    /// The request is forwarded twice, one right after the other; the first answer is passed on. Only for requests that
    /// may be repeated: a create whose answer came is doubled for good.
    DeliverTwice,
    /// The connection closes without an answer; the request is forwarded at once and again this much later.
    DeliverTwiceUnseen { again_after: Duration },
    /// The request commits and the answer breaks off in the middle of its body.
    TruncateAnswer,
    /// The request commits; the body of the answer comes in small parts, spread over this time.
    SlowBody { over: Duration },
    /// The request commits and each n-th row is missing from the answer's `data`; 1 leaves out all.
    LeaveOutRows { every: usize },
    /// The request commits and the rows of the answer's `data` come in another order.
    ShuffleRows,
    /// The request commits, and cells of the answer whose text holds `mark` are told as failed for good, without a value.
    FailCells { mark: String },
    /// The answer to a search lacks the rows that were created less than this time ago.
    LagSearch { by: Duration },
    /// The answer to a search lacks each n-th of the rows that were created less than this time ago.
    SearchSubset { every: usize, within: Duration },
    /// Nothing is forwarded; the client is told that what the request holds is refused, usually 400 or 422.
    RefuseRows { status: u16 },
    /// The first half of the rows that do not hold `mark` is forwarded, and the client is told that the request is
    /// refused. A request of one row is forwarded whole, or, if it is marked, refused whole.
    RefuseInPart { status: u16, mark: Option<String> },
    /// Nothing is forwarded; 429 with `Retry-After` in whole seconds.
    TooManyRequests { retry_after: Duration },
    /// Nothing is forwarded; 401.
    Unauthorized,
    /// Nothing is forwarded; this and every later request with the same token is answered with 401.
    ExpireToken,
}

impl Fault {
    /// The name under which this fault is counted.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Refuse { .. } => "refuse",
            Self::DropRequest => "drop_request",
            Self::DropAnswer => "drop_answer",
            Self::FailAfterCommit { .. } => "fail_after_commit",
            Self::DelayAnswer { .. } => "delay_answer",
            Self::DelayRequest { .. } => "delay_request",
            Self::CommitLate { .. } => "commit_late",
            Self::DeliverTwice => "deliver_twice",
            Self::DeliverTwiceUnseen { .. } => "deliver_twice_unseen",
            Self::TruncateAnswer => "truncate_answer",
            Self::SlowBody { .. } => "slow_body",
            Self::LeaveOutRows { .. } => "leave_out_rows",
            Self::ShuffleRows => "shuffle_rows",
            Self::FailCells { .. } => "fail_cells",
            Self::LagSearch { .. } => "lag_search",
            Self::SearchSubset { .. } => "search_subset",
            Self::RefuseRows { .. } => "refuse_rows",
            Self::RefuseInPart { .. } => "refuse_in_part",
            Self::TooManyRequests { .. } => "too_many_requests",
            Self::Unauthorized => "unauthorized",
            Self::ExpireToken => "expire_token",
        }
    }

    /// Whether this fault acts on the rows of a request or an answer, and so may find nothing to act on.
    pub(crate) fn acts_on_rows(&self) -> bool {
        matches!(
            self,
            Self::LeaveOutRows { .. }
                | Self::ShuffleRows
                | Self::FailCells { .. }
                | Self::LagSearch { .. }
                | Self::SearchSubset { .. }
                | Self::RefuseInPart { .. }
        )
    }
}
