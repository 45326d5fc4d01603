//! The program as an init of containers, under each of its names: as PID 1 of a PID namespace where one can be made, and
//! beside its caller.

mod command_line;
mod descriptors;
mod ending;
mod forwarding;
mod harness;
mod reaping;
mod size;
mod starting;
mod terminal;
