//! The room `probe`.
