//! What the command may do: capabilities and the Landlock domain. System calls are in [`crate::seccomp`].

pub(crate) mod capabilities;
pub(crate) mod landlock;
