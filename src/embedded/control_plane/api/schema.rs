//! Field tables of the built-in types.
