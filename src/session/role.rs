//! Which side of a session this is.

/// Whether we dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// We dialled: our streams have odd ids.
    Client,
    /// We accepted: our streams have even ids.
    Server,
}
