//! The native JSON-RPC client.
