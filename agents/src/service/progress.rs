//! What happens while a call is carried out.

use super::Stream;

/// Something worth telling while a call goes on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Event<'a> {
    /// A step of a longer work: downloading, unpacking, configuring.
    Step {
        /// What is being done, in a few words.
        message: &'a str,
        /// How much is done.
        done: u64,
        /// Of how much, in the same unit, when known.
        total: Option<u64>,
    },
    /// More output of the command that is waited for.
    Output {
        /// Which output.
        stream: Stream,
        /// The bytes, in order.
        bytes: &'a [u8],
    },
}

/// Where to tell it. Never blocks and never fails: who listens slowly hears less.
pub trait Listener: Send + Sync {
    /// Takes note of the event.
    fn hear(&self, event: Event<'_>);
}

/// Nobody listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Listener for Nobody {
    fn hear(&self, _: Event<'_>) {}
}
