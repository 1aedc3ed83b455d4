//! Reads secrets.

use secrecy::SecretString;

use crate::field::Field;
use crate::report::Report;

/// The secret of a field, with a warning if it stands there for everyone to read.
pub(super) fn decode(field: &Field<'_>, report: &mut Report) -> Option<SecretString> {
    let scalar = field.given_scalar()?;
    if scalar.written.is_none() {
        let message = "the secret stands here in plain text; write `${env:NAME}` or `${file:path}` instead";
        report.warning(field.place, &field.path, message);
    }
    field.text().map(SecretString::from)
}
