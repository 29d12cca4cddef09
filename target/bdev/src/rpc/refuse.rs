//! Errors of the block layer as answers: SPDK's code, and words that say which parameter, which value, and what
//! would do.

use crate::{Bdev, Bdevs, RegisterError, RemoveError};
use rpc_registry::RpcError;
use uuid::Uuid;

const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;

/// Names shown in an error at most.
const SHOWN_MAX: usize = 8;

impl From<RegisterError> for RpcError {
    fn from(error: RegisterError) -> RpcError {
        let text = error.to_string();
        match error {
            RegisterError::Exists(taken, _) => {
                let parameter = if Uuid::parse_str(&taken).is_ok() { "uuid" } else { "name" };
                RpcError::errno(EEXIST, text).parameter(parameter, taken, "one that no bdev has")
            }
            RegisterError::NoName => {
                RpcError::errno(EINVAL, text).parameter("name", "", "a name of at least one character")
            }
            RegisterError::BlockSize(size) => RpcError::errno(EINVAL, text).parameter(
                "block_size",
                size,
                "multiples of 512 from 512 to 65536",
            ),
            RegisterError::NumBlocks(blocks, size) => {
                let most = (1 << 63) / u64::from(size.max(1));
                RpcError::errno(EINVAL, text).parameter("num_blocks", blocks, format!("integer 1..{most}"))
            }
        }
    }
}

/// No bdev has this name (-19), and which there are.
#[must_use]
pub fn no_such_bdev(bdevs: &Bdevs, name: &str) -> RpcError {
    let all = bdevs.all();
    let mut known: Vec<&str> = all.iter().take(SHOWN_MAX).map(|bdev| bdev.name()).collect();
    if all.len() > SHOWN_MAX {
        known.push("...");
    }
    let known = if known.is_empty() { "none: there is no bdev".to_owned() } else { known.join(", ") };
    RpcError::errno(ENODEV, format!("there is no bdev named {name:?}")).parameter("name", name, known)
}

/// What a removal answers when it did not go through.
#[must_use]
pub fn removal_refused(bdevs: &Bdevs, error: RemoveError) -> RpcError {
    match error {
        RemoveError::NotFound(name) => no_such_bdev(bdevs, &name),
        RemoveError::StillOpen { .. } => RpcError::errno(EBUSY, error.to_string()),
    }
}

/// Checks that a bdev is of the module that a method belongs to, by its product name; -22 otherwise.
pub fn owned_by(product_name: &str, bdev: &Bdev) -> Result<(), RpcError> {
    if bdev.product_name() == product_name {
        return Ok(());
    }
    let text = format!(
        "bdev {:?} is a {:?}, this method is for a {product_name:?}",
        bdev.name(),
        bdev.product_name()
    );
    let accepted = format!("the name of a {product_name}");
    Err(RpcError::errno(EINVAL, text).parameter("name", bdev.name(), accepted))
}

/// The key in its module's stack of a bdev that RPC names by name, alias or UUID, or that waits for its base under this
/// name; -22 if it is another module's.
pub fn stacked(product_name: &str, bdevs: &Bdevs, name: &str) -> Result<String, RpcError> {
    let Some(bdev) = bdevs.get(name) else { return Ok(name.to_owned()) };
    owned_by(product_name, &bdev)?;
    Ok(bdev.name().to_owned())
}

/// Checks parameters of SPDK's that this target takes only as zero (or false, or left out); -22 otherwise, and
/// `why`.
pub fn only_zero(why: &str, given: &[(&str, i64)]) -> Result<(), RpcError> {
    let Some((name, value)) = given.iter().find(|(_, value)| *value != 0) else { return Ok(()) };
    let text = format!("{name} is {value}, accepted: 0 or left out: {why}");
    Err(RpcError::errno(EINVAL, text).parameter(*name, value, "0"))
}

/// Checks a `physical_block_size`: left out, 0, or a multiple of 512; -22 otherwise. Nothing here uses it.
pub fn physical_block_size(given: Option<u32>) -> Result<(), RpcError> {
    let size = given.unwrap_or(0);
    if size.is_multiple_of(512) {
        return Ok(());
    }
    let text = format!("physical_block_size {size}, accepted: a multiple of 512");
    Err(RpcError::errno(EINVAL, text).parameter("physical_block_size", size, "a multiple of 512"))
}
