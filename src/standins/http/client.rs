//! A plain HTTP/1.1 client that opens a connection for every request, as services without a connection pool do.
//!
//! So whoever begins to listen at any time sees whole conversations.
