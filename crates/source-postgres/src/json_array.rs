//! PostgreSQL's arrays as JSON: nested where they have more than one dimension.

use crate::moment::Reach;
use crate::scalar::{BadForm, Scalar, Written};

/// PostgreSQL's own limit.
const MAX_DIMENSIONS: usize = 6;

/// What an array is of, and which of its values are written.
pub(crate) type Element = (Scalar, Reach);

/// Appends an array. It is lost in part if an element is, which is `null` then.
pub(crate) fn write_array(element: Element, field: &[u8], json: &mut Vec<u8>) -> Result<Written, BadForm> {
    let mut rest = field;
    let dimensions = usize::try_from(take_i32(&mut rest)?).map_err(|_| BadForm)?;
    let _has_nulls = take_i32(&mut rest)?;
    let _element_type = take_i32(&mut rest)?;
    if dimensions == 0 {
        json.extend_from_slice(b"[]");
        return Ok(Written::Kept);
    }
    let mut lengths = [0; MAX_DIMENSIONS];
    for length in lengths.get_mut(..dimensions).ok_or(BadForm)? {
        *length = usize::try_from(take_i32(&mut rest)?).map_err(|_| BadForm)?;
        let _lower_bound = take_i32(&mut rest)?;
    }
    let written = write_dimension(element, &lengths[..dimensions], &mut rest, json)?;
    if rest.is_empty() { Ok(written) } else { Err(BadForm) }
}

fn write_dimension(
    element: Element,
    lengths: &[usize],
    rest: &mut &[u8],
    json: &mut Vec<u8>,
) -> Result<Written, BadForm> {
    let Some((length, inner)) = lengths.split_first() else { return write_element(element, rest, json) };
    let mut written = Written::Kept;
    json.push(b'[');
    for index in 0..*length {
        if index > 0 {
            json.push(b',');
        }
        if write_dimension(element, inner, rest, json)? == Written::Lost {
            written = Written::Lost;
        }
    }
    json.push(b']');
    Ok(written)
}

fn write_element((element, reach): Element, rest: &mut &[u8], json: &mut Vec<u8>) -> Result<Written, BadForm> {
    let Ok(length) = usize::try_from(take_i32(rest)?) else {
        json.extend_from_slice(b"null");
        return Ok(Written::Kept);
    };
    let (field, behind) = rest.split_at_checked(length).ok_or(BadForm)?;
    *rest = behind;
    element.write_json(field, reach, json)
}

fn take_i32(rest: &mut &[u8]) -> Result<i32, BadForm> {
    let (number, behind) = rest.split_first_chunk().ok_or(BadForm)?;
    *rest = behind;
    Ok(i32::from_be_bytes(*number))
}
