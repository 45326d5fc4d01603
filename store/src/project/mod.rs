//! How trees come out, beside [views](crate::Session::view): as archives.

mod tar;

pub use tar::{ProjectError, tar};
