//! The API's machinery as pure functions: kinds, discovery, schemas, decoding, validation, defaults, tables, patches, selectors.
