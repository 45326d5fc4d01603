//! The solver over toy archives. Each test says what a user would lose.

mod choosing;
mod explaining;
mod property;
