//! Moves files without ever replacing one.

use convoke_core::SourceError;

use crate::file::{DroppedFile, Place};
use crate::storage::{Moved, Storage};

/// What the name of a quarantined file ends in when it tells why another one lies there.
pub(crate) const REASON_ENDING: &str = ".reason.txt";

/// Moves a file into a place, under its name or the next free numbered one, and tells which that was; none if the file
/// is no longer there.
pub(crate) fn move_to_free_name(
    storage: &dyn Storage,
    file: &DroppedFile,
    name: &str,
    place: Place,
    reason: Option<&str>,
) -> Result<Option<String>, SourceError> {
    let mut number = free_number(|number| storage.is_there(file, place, &numbered(name, number)))?;
    loop {
        let free = numbered(name, number);
        number += 1;
        if !place_reason(storage, file, (place, &free), reason)? {
            continue;
        }
        match storage.move_to_new(file, place, &free)? {
            Moved::Done => return Ok(Some(free)),
            Moved::Gone => return Ok(None),
            Moved::NameTaken => {}
        }
    }
}

/// A number that is free while the one before it is taken. A name that recurs each day has thousands: they are not tried
/// one by one.
fn free_number(mut is_taken: impl FnMut(u64) -> Result<bool, SourceError>) -> Result<u64, SourceError> {
    if !is_taken(0)? {
        return Ok(0);
    }
    let (mut taken, mut free) = (0, 1);
    while is_taken(free)? {
        (taken, free) = (free, free * 2);
    }
    while free - taken > 1 {
        let between = taken + (free - taken) / 2;
        if is_taken(between)? {
            taken = between;
        } else {
            free = between;
        }
    }
    Ok(free)
}

/// Writes the reason beside the place a file is going to; `false` if another reason stands there.
fn place_reason(
    storage: &dyn Storage,
    file: &DroppedFile,
    (place, free): (Place, &str),
    reason: Option<&str>,
) -> Result<bool, SourceError> {
    let Some(reason) = reason else { return Ok(true) };
    storage.put_new(place, &format!("{free}{REASON_ENDING}"), &storage.reason_text(file, reason))
}

/// `contacts.csv`, `contacts.1.csv`, `contacts.2.csv`, …
fn numbered(name: &str, number: u64) -> String {
    match (number, name.rsplit_once('.')) {
        (0, _) => name.to_owned(),
        (_, Some((stem, extension))) => format!("{stem}.{number}.{extension}"),
        (_, None) => format!("{name}.{number}"),
    }
}

/// The name before [`numbered`] gave it a number; the name itself if it has none.
pub(crate) fn without_number(name: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        [stem @ .., number, extension] if !stem.is_empty() && is_number(number) => {
            format!("{}.{extension}", stem.join("."))
        }
        [stem, number] if is_number(number) => (*stem).to_owned(),
        _ => name.to_owned(),
    }
}

/// Goes through all that is to be done, and fails in the end with what failed first.
#[derive(Default)]
pub(crate) struct Attempts(Option<SourceError>);

impl Attempts {
    pub(crate) fn note<T>(&mut self, result: Result<T, SourceError>) {
        if let Err(error) = result {
            self.0.get_or_insert(error);
        }
    }

    pub(crate) fn end(self) -> Result<(), SourceError> {
        self.0.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_number_among_many_is_found_with_few_looks() {
        for taken in [0, 1, 2, 3, 100, 100_000] {
            let mut looks = 0;
            let free = free_number(|number| {
                looks += 1;
                Ok(number < taken)
            });
            assert_eq!(free.unwrap(), taken);
            assert!(looks < 40, "{looks} looks for {taken}");
        }
    }

    #[test]
    fn a_number_goes_before_the_extension() {
        assert_eq!(numbered("a.csv", 0), "a.csv");
        assert_eq!(numbered("a.csv", 2), "a.2.csv");
        assert_eq!(numbered("a", 1), "a.1");
        for name in ["a.csv", "a", "a.b.csv"] {
            assert_eq!(without_number(&numbered(name, 3)), name);
            assert_eq!(without_number(name), name);
        }
    }
}
