//! What a status code says about the fate of a request: the one table for all calls.
//!
//! The head of an answer is enough for the table: a refusal whose body was lost is still a refusal. Only for a
//! 2xx must the body be read before anything is believed.

/// What a status code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Applied, as far as the body confirms it.
    Done,
    /// Refused for what the request holds.
    Refused,
    /// Refused for its size; smaller requests may pass.
    TooLarge,
    /// The token was not accepted. Certainly not applied.
    Unauthorized,
    /// The credential may not do this, or the account cannot be charged.
    Forbidden,
    /// What the path names does not exist.
    NotFound,
    /// Refused for the rate. Certainly not applied.
    RateLimited,
    /// May have been applied, or may yet be.
    Unknown,
    /// Outside what the API declares: stop and tell the operator.
    Unexpected,
}

/// Reads the table.
pub(crate) fn meaning(status: u16) -> Meaning {
    match status {
        200..=299 => Meaning::Done,
        400 | 422 => Meaning::Refused,
        413 => Meaning::TooLarge,
        401 => Meaning::Unauthorized,
        402 | 403 => Meaning::Forbidden,
        404 => Meaning::NotFound,
        429 => Meaning::RateLimited,
        408 | 500..=599 => Meaning::Unknown,
        // Redirects too: a body and a token are not carried to another address.
        _ => Meaning::Unexpected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_the_meaning_that_the_delivery_protocol_assumes() {
        let table = [
            (&[200, 201, 202, 204][..], Meaning::Done),
            (&[400, 422], Meaning::Refused),
            (&[413], Meaning::TooLarge),
            (&[401], Meaning::Unauthorized),
            (&[402, 403], Meaning::Forbidden),
            (&[404], Meaning::NotFound),
            (&[429], Meaning::RateLimited),
            (&[408, 500, 501, 502, 503, 504, 507, 599], Meaning::Unknown),
            (&[100, 301, 302, 307, 308, 405, 406, 409, 410, 412, 415, 418, 425, 451, 600], Meaning::Unexpected),
        ];
        for (statuses, expected) in table {
            for status in statuses {
                assert_eq!(meaning(*status), expected, "{status}");
            }
        }
    }
}
