//! The room `score`.
