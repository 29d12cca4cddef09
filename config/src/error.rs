//! Why a configuration was not loaded or saved.

use crate::text::Place;
use rpc_registry::RpcError;
use std::io;
use std::path::PathBuf;

/// Why a configuration was not loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config {path}: cannot read it: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The text is not a configuration.
    #[error("{place}: {why}")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong, and what would be accepted.
        why: String,
    },
    /// A call failed.
    #[error("{place}: subsystem \"{subsystem}\", method \"{method}\": {error}")]
    Call {
        /// Where the call stands.
        place: Place,
        /// Its subsystem.
        subsystem: String,
        /// Its method.
        method: String,
        /// What the method answered.
        error: Box<RpcError>,
    },
    /// The state of the target has no text form.
    #[error("cannot save the configuration: {why}")]
    Save {
        /// What has no text form.
        why: String,
    },
}
