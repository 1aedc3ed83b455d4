//! One suite per trait; fakes and real back ends run the same functions.

pub mod sink;
pub mod source;
pub mod state;
