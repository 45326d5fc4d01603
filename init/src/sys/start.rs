//! What a program is started with.

use super::Vector;

/// The arguments and the environment, where the kernel put them.
#[derive(Debug)]
pub struct Start {
    /// The arguments, the program's name first.
    pub arguments: Vector<'static>,
    /// The environment.
    pub environment: Vector<'static>,
}

impl Start {
    /// From the stack that a program starts with (see [`crate::entry`]).
    ///
    /// # Safety
    /// `stack` must be the stack as the kernel prepared it for the program: argc, argv, a null pointer, envp, a null pointer.
    pub unsafe fn from_stack(stack: *const usize) -> Self {
        // SAFETY: as the caller says; nothing of it is ever written.
        unsafe {
            let count = *stack;
            let arguments = stack.add(1).cast();
            let environment = stack.add(1 + count + 1).cast();
            Start {
                arguments: Vector::from_raw(arguments),
                environment: Vector::from_raw(environment),
            }
        }
    }
}
