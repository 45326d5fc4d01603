//! The agent as an attacker of whoever lent it an environment: every case plays it against the real binary, over the
//! protocol, as root and as an ordinary user.
//!
//! Each case says what an attacker would gain, which guard holds it, and how it was seen to fail without; `CASES.md` has all of
//! them in a table, with those that tests of the rooms hold in more detail.

mod applying;
mod calls;
mod files;
mod ground;
mod kernel;
mod leavings;
mod network;
mod ports;
mod processes;
mod resources;
mod secrets;
mod sockets;
mod wild;
