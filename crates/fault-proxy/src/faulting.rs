//! What each fault does to a request and its answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::fault::Fault;
use crate::message::Message;
use crate::{Shared, lock, rows};

/// Parts in which a slow body comes.
const SLOW_PARTS: usize = 10;

/// Under which name requests beyond the rate limit are counted.
const THROTTLED: &str = "throttled";

/// What becomes of the client's connection.
pub(crate) enum After {
    KeepOpen,
    Close,
}

type Client = BufReader<TcpStream>;

/// Serves one request, as the script and the standing limits say.
pub(crate) async fn serve_request(request: &Message, client: &mut Client, shared: &Arc<Shared>) -> io::Result<After> {
    if let Some(refusal) = standing_refusal(request, shared) {
        return pass_on(&refusal, client).await;
    }
    let (number, fault) = shared.choose(request);
    let Some(fault) = fault else {
        let mut answer = shared.forward(request).await?;
        announce(&mut answer, shared);
        return pass_on(&answer, client).await;
    };
    if fault.acts_on_rows() {
        let answer = answer_with_altered_rows(request, &fault, number, shared).await?;
        return pass_on(&answer, client).await;
    }
    shared.count_injected(fault.name());
    inject(fault, request, client, shared).await
}

/// What a request is answered that a rate limit or an expired token stops.
fn standing_refusal(request: &Message, shared: &Shared) -> Option<Message> {
    if let Some(throttle) = lock(&shared.throttle).as_mut()
        && !throttle.takes()
    {
        shared.count_injected(THROTTLED);
        return Some(throttle.refusal());
    }
    lock(&shared.memory).is_expired(request).then(|| Message::error_answer(401))
}

fn announce(answer: &mut Message, shared: &Shared) {
    if let Some(throttle) = lock(&shared.throttle).as_mut() {
        throttle.announce(answer);
    }
}

async fn inject(fault: Fault, request: &Message, client: &mut Client, shared: &Arc<Shared>) -> io::Result<After> {
    match fault {
        Fault::Refuse { lasting } => refuse_for(lasting, shared),
        Fault::DropRequest => {}
        Fault::DropAnswer => drop(shared.forward(request).await?),
        Fault::FailAfterCommit { status } => {
            shared.forward(request).await?;
            return pass_on(&Message::error_answer(status), client).await;
        }
        Fault::DelayAnswer { by } => {
            let answer = shared.forward(request).await?;
            tokio::time::sleep(by).await;
            return pass_on(&answer, client).await;
        }
        Fault::DelayRequest { by } => {
            let answer = forward_later(request, by, shared).await?;
            return pass_on(&answer, client).await;
        }
        Fault::CommitLate { after } => commit_late(request.clone(), after, shared),
        Fault::DeliverTwice => {
            let answer = shared.forward(request).await?;
            shared.forward(request).await?;
            return pass_on(&answer, client).await;
        }
        Fault::DeliverTwiceUnseen { again_after } => {
            commit_late(request.clone(), again_after, shared);
            shared.forward(request).await?;
        }
        Fault::TruncateAnswer => {
            let answer = shared.forward(request).await?;
            client.write_all(&answer.encode_cut_short()).await?;
        }
        Fault::SlowBody { over } => return pass_on_slowly(&shared.forward(request).await?, client, over).await,
        Fault::RefuseRows { status } => return pass_on(&Message::error_answer(status), client).await,
        Fault::TooManyRequests { retry_after } => {
            let mut answer = Message::error_answer(429);
            answer.set_header("retry-after", &retry_after.as_secs().to_string());
            return pass_on(&answer, client).await;
        }
        Fault::Unauthorized => return pass_on(&Message::error_answer(401), client).await,
        Fault::ExpireToken => {
            lock(&shared.memory).expire_token(request);
            return pass_on(&Message::error_answer(401), client).await;
        }
        Fault::LeaveOutRows { .. }
        | Fault::ShuffleRows
        | Fault::FailCells { .. }
        | Fault::LagSearch { .. }
        | Fault::SearchSubset { .. }
        | Fault::RefuseInPart { .. } => unreachable!("faults that act on rows are done elsewhere"),
    }
    Ok(After::Close)
}

async fn pass_on(answer: &Message, client: &mut Client) -> io::Result<After> {
    client.write_all(&answer.encode()).await?;
    Ok(After::KeepOpen)
}

async fn pass_on_slowly(answer: &Message, client: &mut Client, over: Duration) -> io::Result<After> {
    let (head, parts) = answer.encode_in_parts(SLOW_PARTS);
    client.write_all(&head).await?;
    let pause = over / u32::try_from(parts.len().max(1)).unwrap_or(u32::MAX);
    for part in parts {
        tokio::time::sleep(pause).await;
        client.write_all(part).await?;
    }
    Ok(After::KeepOpen)
}

async fn answer_with_altered_rows(
    request: &Message,
    fault: &Fault,
    number: u64,
    shared: &Shared,
) -> io::Result<Message> {
    let (is_altered, answer) = match fault {
        Fault::RefuseInPart { status, mark } => refuse_in_part(request, *status, mark.as_deref(), shared).await?,
        _ => {
            let mut answer = shared.forward(request).await?;
            (alter(&mut answer, request, fault, number, shared), answer)
        }
    };
    if is_altered {
        shared.count_injected(fault.name());
    } else {
        lock(&shared.stats).not_applicable += 1;
    }
    Ok(answer)
}

/// Alters the rows of an answer; false if nothing changed.
fn alter(answer: &mut Message, request: &Message, fault: &Fault, number: u64, shared: &Shared) -> bool {
    let is_search = rows::is_search(request.method_and_path().1);
    let memory = lock(&shared.memory);
    match fault {
        Fault::LeaveOutRows { every } => answer.alter_rows(|rows| rows::leave_out(rows, *every)),
        Fault::ShuffleRows => answer.alter_rows(|rows| rows::shuffle(rows, number)),
        Fault::FailCells { mark } => answer.alter_rows(|rows| rows::fail_cells(rows, mark)),
        Fault::LagSearch { by } if is_search => {
            answer.hide_rows(|rows| rows::leave_out_of(rows, 1, |row| memory.is_young(row, *by)))
        }
        Fault::SearchSubset { every, within } if is_search => {
            answer.hide_rows(|rows| rows::leave_out_of(rows, *every, |row| memory.is_young(row, *within)))
        }
        _ => false,
    }
}

/// Forwards a part of the rows and tells that all were refused.
async fn refuse_in_part(
    request: &Message,
    status: u16,
    mark: Option<&str>,
    shared: &Shared,
) -> io::Result<(bool, Message)> {
    let mut part = request.clone();
    let mut is_empty = false;
    let is_part = part.alter_rows(|rows| {
        let is_part = rows::keep_part(rows, mark);
        is_empty = rows.is_empty();
        is_part
    });
    if !is_part {
        return Ok((false, shared.forward(request).await?));
    }
    if !is_empty {
        shared.forward(&part).await?;
    }
    Ok((true, Message::error_answer(status)))
}

fn refuse_for(lasting: Duration, shared: &Arc<Shared>) {
    shared.wanted_open.send_replace(false);
    let for_timer = Arc::clone(shared);
    lock(&shared.background).spawn(async move {
        tokio::time::sleep(lasting).await;
        for_timer.wanted_open.send_replace(true);
    });
}

fn commit_late(request: Message, after: Duration, shared: &Arc<Shared>) {
    let for_later = Arc::clone(shared);
    shared.held.send_modify(|count| *count += 1);
    lock(&shared.background).spawn(async move {
        // The client has gone: nobody is left to be told of a failure, and `committed` counts the success.
        let _ = forward_later(&request, after, &for_later).await;
        for_later.held.send_modify(|count| *count -= 1);
    });
}

async fn forward_later(request: &Message, after: Duration, shared: &Shared) -> io::Result<Message> {
    shared.held.send_modify(|count| *count += 1);
    tokio::time::sleep(after).await;
    let answer = shared.forward(request).await;
    shared.held.send_modify(|count| *count -= 1);
    answer
}
