//! What comes back, and what that means for each kind of request: the one table for all calls.
//!
//! The head of an answer is enough for the table: a refusal whose body was lost is still a refusal. Only for a 2xx
//! must the body be read before anything is believed. `ANSWERS.md` holds the same table for readers; a test below
//! holds it against this one, and `tests/it/answers.rs` plays every line of it over real HTTP.

/// What a request is for; decides what its answers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// New rows.
    Create,
    /// Rows by id.
    Update,
    /// The end of rows by id.
    Delete,
    /// How a delete job stands.
    Poll,
    /// Which rows exist.
    LookUp,
    /// A page of the whole audience.
    Scan,
    /// Folders, audiences, columns, filter metadata.
    Survey,
    /// A folder, an audience, columns, match criteria.
    Provision,
    /// What the destination adds to rows, for credits.
    Enrich,
    /// An access token.
    Token,
}

/// What came of a request that the gate let out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// No token is to be had for now, or no connection: nothing was sent.
    NotSent,
    /// No head, or a 2xx whose body did not arrive whole.
    Lost,
    /// A 2xx with the document that the API declares.
    Success,
    /// A 2xx with anything else, or with nothing.
    Unreadable,
    /// 400 and 422.
    BadRequest,
    /// 401.
    Unauthorized,
    /// 402 and 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 408.
    TimedOut,
    /// 409 and 425.
    Conflict,
    /// 413.
    TooLarge,
    /// 429.
    RateLimited,
    /// 500 to 599.
    ServerError,
    /// Every other status, redirects among them: a body and a token are not carried to another address.
    Undeclared,
}

/// What that means, and so what follows. How sure it is that a write was applied is part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Applied, as far as the body confirms it. Rows that it does not confirm are in doubt and read back.
    Done,
    /// Refused for what it holds. Split until each bad row was refused alone; where a refusal may have done a part, what
    /// it did is looked up first.
    Bisect,
    /// Refused for its size. Halved.
    Halve,
    /// Refused for what it asks. The run stops, and the operator is told.
    Refused,
    /// Certainly not applied. Sent again after a while, a bounded number of times.
    SendAgain,
    /// Applied or not, or not yet: in doubt. Looked for before anything is sent again.
    ReadBack,
    /// A read that told nothing. Asked again after a while, a bounded number of times.
    AskAgain,
    /// Done or not, or not yet; nothing at the destination tells. The operator is told, and it is never sent again.
    Unclear,
    /// The job is not known any more, so the rows tell what it did.
    LookRowsUp,
    /// Certainly not applied. The token is renewed and the request sent again, once; then the run stops.
    RenewToken,
    /// The credential may not do this, or the account cannot be charged. The run stops.
    Forbidden,
    /// What the path names does not exist. The run stops.
    NotFound,
    /// Outside what the API declares. The run stops, and a write stays in doubt.
    Undeclared,
}

/// Reads the table.
///
/// Of what the API declares nothing for: 409 and 425 are what services of its kind answer while a job or another
/// writer holds the audience. That passes, so it does not end the run; it says nothing about single rows, so it is not
/// bisected, which would reject good rows one by one; and whether a part was done is not known, so a write is in doubt.
#[rustfmt::skip]
pub(crate) fn meaning(purpose: Purpose, came: Came) -> Meaning {
    use Meaning::*;
    let of_purpose = match came {
        //                     create      update      delete      poll        look-up     scan        survey      provision   enrich      token
        Came::NotSent      => [SendAgain,  SendAgain,  SendAgain,  AskAgain,   AskAgain,   AskAgain,   AskAgain,   SendAgain,  SendAgain,  SendAgain],
        Came::Lost         => [ReadBack,   ReadBack,   ReadBack,   AskAgain,   AskAgain,   AskAgain,   AskAgain,   ReadBack,   Unclear,    SendAgain],
        Came::Success      => [Done,       Done,       Done,       Done,       Done,       Done,       Done,       Done,       Done,       Done],
        Came::Unreadable   => [ReadBack,   ReadBack,   ReadBack,   AskAgain,   AskAgain,   AskAgain,   AskAgain,   ReadBack,   Unclear,    Refused],
        Came::BadRequest   => [Bisect,     Bisect,     Bisect,     Refused,    Refused,    Refused,    Refused,    Refused,    Refused,    Refused],
        Came::Unauthorized => [RenewToken, RenewToken, RenewToken, RenewToken, RenewToken, RenewToken, RenewToken, RenewToken, RenewToken, Refused],
        Came::Forbidden    => [Forbidden,  Forbidden,  Forbidden,  Forbidden,  Forbidden,  Forbidden,  Forbidden,  Forbidden,  Refused,    Refused],
        Came::NotFound     => [NotFound,   NotFound,   NotFound,   LookRowsUp, NotFound,   NotFound,   NotFound,   NotFound,   NotFound,   Refused],
        Came::TimedOut     => [ReadBack,   ReadBack,   ReadBack,   AskAgain,   AskAgain,   AskAgain,   AskAgain,   ReadBack,   Unclear,    SendAgain],
        Came::Conflict     => [ReadBack,   ReadBack,   ReadBack,   AskAgain,   AskAgain,   AskAgain,   AskAgain,   ReadBack,   Unclear,    SendAgain],
        Came::TooLarge     => [Halve,      Halve,      Halve,      Refused,    Refused,    Refused,    Refused,    Refused,    Refused,    Refused],
        Came::RateLimited  => [SendAgain,  SendAgain,  SendAgain,  AskAgain,   AskAgain,   AskAgain,   AskAgain,   SendAgain,  SendAgain,  SendAgain],
        Came::ServerError  => [ReadBack,   ReadBack,   ReadBack,   AskAgain,   AskAgain,   AskAgain,   AskAgain,   ReadBack,   Unclear,    SendAgain],
        Came::Undeclared   => [Undeclared, Undeclared, Undeclared, Undeclared, Undeclared, Undeclared, Undeclared, Undeclared, Undeclared, Refused],
    };
    of_purpose[purpose as usize]
}

impl Purpose {
    /// Longest body of an answer that is read; see also `transport`'s limit for refusals.
    ///
    /// Five hundred rows with a hundred cells of 2,000 characters just do not reach the first.
    pub(crate) fn answer_limit(self) -> usize {
        match self {
            Self::Create | Self::Update | Self::LookUp | Self::Scan => 128 * 1024 * 1024,
            Self::Delete | Self::Poll | Self::Survey | Self::Provision | Self::Enrich => 16 * 1024 * 1024,
            Self::Token => 64 * 1024,
        }
    }
}

impl Came {
    /// What an answer of this status is, as far as its head tells.
    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Success,
            400 | 422 => Self::BadRequest,
            401 => Self::Unauthorized,
            402 | 403 => Self::Forbidden,
            404 => Self::NotFound,
            408 => Self::TimedOut,
            409 | 425 => Self::Conflict,
            413 => Self::TooLarge,
            429 => Self::RateLimited,
            500..=599 => Self::ServerError,
            _ => Self::Undeclared,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURPOSES: [(Purpose, &str); 10] = [
        (Purpose::Create, "create"),
        (Purpose::Update, "update"),
        (Purpose::Delete, "delete"),
        (Purpose::Poll, "poll"),
        (Purpose::LookUp, "look-up"),
        (Purpose::Scan, "scan"),
        (Purpose::Survey, "survey"),
        (Purpose::Provision, "set-up step"),
        (Purpose::Enrich, "enrichment"),
        (Purpose::Token, "token"),
    ];

    const LINES: [(Came, &str); 14] = [
        (Came::NotSent, "no connection, or no token"),
        (Came::Lost, "no whole answer"),
        (Came::Success, "2xx, as declared"),
        (Came::Unreadable, "2xx, anything else"),
        (Came::BadRequest, "400, 422"),
        (Came::Unauthorized, "401"),
        (Came::Forbidden, "402, 403"),
        (Came::NotFound, "404"),
        (Came::TimedOut, "408"),
        (Came::Conflict, "409, 425"),
        (Came::TooLarge, "413"),
        (Came::RateLimited, "429"),
        (Came::ServerError, "5xx"),
        (Came::Undeclared, "any other"),
    ];

    fn word(meaning: Meaning) -> &'static str {
        match meaning {
            Meaning::Done => "done",
            Meaning::Bisect => "bisect",
            Meaning::Halve => "halve",
            Meaning::Refused => "refused",
            Meaning::SendAgain => "send again",
            Meaning::ReadBack => "read back",
            Meaning::AskAgain => "ask again",
            Meaning::Unclear => "unclear",
            Meaning::LookRowsUp => "look rows up",
            Meaning::RenewToken => "renew token",
            Meaning::Forbidden => "forbidden",
            Meaning::NotFound => "not found",
            Meaning::Undeclared => "undeclared",
        }
    }

    fn rendered() -> String {
        let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
        let mut table = line(std::iter::once("what comes back").chain(PURPOSES.map(|(_, name)| name)).collect());
        table.push_str(&line(vec!["---"; 1 + PURPOSES.len()]));
        for (came, name) in LINES {
            let words = PURPOSES.map(|(purpose, _)| word(meaning(purpose, came)));
            table.push_str(&line(std::iter::once(name).chain(words).collect()));
        }
        table
    }

    #[test]
    fn the_table_in_the_documents_is_this_one() {
        let page = include_str!("../ANSWERS.md");
        let table = rendered();
        assert!(page.contains(&table), "ANSWERS.md should hold:\n{table}");
    }

    #[test]
    fn every_column_of_the_table_is_found_by_its_purpose() {
        for (position, (purpose, name)) in PURPOSES.into_iter().enumerate() {
            assert_eq!(purpose as usize, position, "{name}");
        }
    }

    #[test]
    fn every_status_has_its_line() {
        let lines: [(&[u16], Came); 11] = [
            (&[200, 201, 202, 204], Came::Success),
            (&[400, 422], Came::BadRequest),
            (&[401], Came::Unauthorized),
            (&[402, 403], Came::Forbidden),
            (&[404], Came::NotFound),
            (&[408], Came::TimedOut),
            (&[409, 425], Came::Conflict),
            (&[413], Came::TooLarge),
            (&[429], Came::RateLimited),
            (&[500, 501, 502, 503, 504, 507, 599], Came::ServerError),
            (&[100, 301, 302, 307, 308, 405, 406, 410, 412, 415, 418, 423, 451, 600], Came::Undeclared),
        ];
        for (statuses, came) in lines {
            for status in statuses {
                assert_eq!(Came::of_status(*status), came, "{status}");
            }
        }
    }
}
