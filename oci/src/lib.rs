//! Trees as OCI images (image-spec 1.1): the same tree gives the same bytes, as any user, anywhere, at any time.
#![forbid(unsafe_code)]

pub mod layout;

pub use layout::{Image, LayoutError, write};
