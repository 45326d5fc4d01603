//! The launcher as a user meets it: real processes, in real namespaces, as root and as an ordinary user.

mod begun;
mod confinement;
mod ending;
mod exits;
mod harness;
mod mounts;
mod recording;
mod resident;
mod terminal;
