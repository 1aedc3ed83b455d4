//! What a store is opened for.

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Reading and writing; a store that is not there is made.
    ReadWrite,
    /// Reading and writing; a store that is not there is [`StateError::Missing`](convoke_core::StateError::Missing).
    Existing,
    /// Reading beside whoever writes; a store that is not there is
    /// [`StateError::Missing`](convoke_core::StateError::Missing).
    ReadOnly,
}
