//! The room `author`.
