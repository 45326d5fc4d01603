//! envd's content-addressed store.
//!
//! Trees go in ([`ingest`]), projections come out ([`project`]). Plain files, crash-only, no database: whatever instant a
//! writer is killed at, the next command repairs or ignores what it left. The layout and the formats are specified in
//! `store/FORMAT.md`.
//!
//! The store knows nothing of networks, namespaces or package ecosystems.
#![forbid(unsafe_code)]

mod digest;
mod escape;
pub mod ingest;
mod path;
pub mod project;
pub mod store;
pub mod tree;

pub use digest::{Digest, DigestError, Hasher};
pub use path::{PathError, TreePath};
pub use store::{
    GcOptions, GcReport, Hold, Kind, ObjectWriter, Place, Problem, RemoveReport, Root, RootKind,
    RootState, RootUsage, Session, Store, StoreError, Usage, VerifyReport,
};
pub use tree::{
    Entry, ManifestError, MergeError, Meta, Node, Tree, TreeBuilder, TreeError, TreeId, Xattrs,
    directory_mode_on_disk, file_mode_on_disk, merge,
};
