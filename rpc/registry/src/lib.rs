//! The registry of JSON-RPC methods: typed parameters, schema, errors.
