//! Why a stacked bdev was not made or not removed, and the answers to it.

use crate::{ClaimError, OpenError, RegisterError, RemoveError};
use rpc_registry::RpcError;

const EPERM: i32 = 1;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;

/// Why a call did not go through. Nothing has changed, except where a removal says what is left.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StackError {
    /// The name is taken, by a bdev or by one that waits for its base.
    #[error("there is a bdev named {0:?} already, or one of this name waits for its base")]
    Exists(String),
    /// Its own base.
    #[error("bdev {0:?} cannot be its own base")]
    OnItself(String),
    /// No such entry.
    #[error("nothing named {0:?} was made by this module, neither there nor waiting for its base")]
    NotFound(String),
    /// Another call works on it.
    #[error("{0:?} is being made or removed by another call, which takes long; try again")]
    Busy(String),
    /// The base cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Somebody else has the base.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The base does not do.
    #[error("base bdev {base:?}: {why}")]
    Build {
        /// The base.
        base: String,
        /// What is wrong with it.
        why: String,
    },
    /// The block layer refused the bdev.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// It is removed, but not wholly.
    #[error(transparent)]
    Remove(#[from] RemoveError),
    /// The process ends.
    #[error("the target stops")]
    Ending,
}

impl From<StackError> for RpcError {
    fn from(error: StackError) -> RpcError {
        let text = error.to_string();
        match error {
            StackError::Exists(name) => {
                RpcError::errno(EEXIST, text).parameter("name", name, "a name that is free")
            }
            StackError::OnItself(name) => {
                RpcError::errno(EINVAL, text).parameter("name", name, "another name than the base's")
            }
            StackError::NotFound(name) => {
                RpcError::errno(ENODEV, text).parameter("name", name, "one that this module made")
            }
            StackError::Open(_) | StackError::Claim(_) => RpcError::errno(EPERM, text),
            StackError::Build { .. } => RpcError::errno(EINVAL, text),
            StackError::Register(error) => error.into(),
            StackError::Busy(_) | StackError::Remove(_) | StackError::Ending => RpcError::errno(EBUSY, text),
        }
    }
}
