//! The room `verdict`.
