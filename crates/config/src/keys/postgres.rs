//! Keys by which a PostgreSQL database is reached, as a source and as the checkpoint store.

use crate::shape::{Key, Shape};

pub(super) const POSTGRES: &[Key] = &[
    Key::required(
        "host",
        Shape::Text,
        "Name or address of the server, or the folder of its socket, `/run/postgresql`; not that of a pooler, unless it keeps sessions (`pool_mode = session`).",
    ),
    Key::optional("port", Shape::Count { min: 1, max: 65_535 }, "Its port."),
    Key::required("database", Shape::Text, "Name of the database."),
    Key::required("user", Shape::Text, "Who connects."),
    Key::optional(
        "password",
        Shape::Secret,
        "The user's password: `${env:NAME}` or `${file:path}`. Left out: `PGPASSWORD` or the password file, as libpq has it.",
    ),
    Key::optional(
        "tls",
        Shape::Choice(&["disable", "prefer", "require", "verify-ca", "verify-full"]),
        "How much the connection insists on TLS, in the words of libpq. Left out: `verify-full`, towards this machine `prefer`.",
    ),
    Key::optional(
        "ca_file",
        Shape::Path,
        "PEM file with the certificate authorities to trust. Left out: those of the system.",
    ),
    Key::optional("connect_timeout", Shape::Timeout, "How long connecting may take."),
    Key::optional(
        "statement_timeout",
        Shape::Timeout,
        "How long one statement may take; the read of a source counts from its first to its last row.",
    ),
];
