//! Debian, and everything of its shape.
