//! The JSON-RPC server on a unix socket, wire-compatible with SPDK's.
