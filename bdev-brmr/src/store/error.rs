//! Why a call about a store did not go through, and the answers to it.

use bdev_rmr::store::{ImageError, NodeError, RangeError};
use rpc_registry::RpcError;
use tgt_reactor::CallError;
use uuid::Uuid;

const EIO: i32 = 5;
const ENXIO: i32 = 6;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ENOTEMPTY: i32 = 39;

/// Why a call did not go through. Unless it says otherwise nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum StoresError {
    /// A parameter with a value that cannot be.
    #[error("{field} is {value}; accepted: {accepted}")]
    Field {
        /// Which.
        field: &'static str,
        /// What was given.
        value: String,
        /// What would be.
        accepted: String,
    },
    /// A label nobody gave.
    #[error(
        "pool is {0:?}; accepted: a UUID, or a label that this process knows; with \"uuid\" the label becomes known"
    )]
    UnknownLabel(String),
    /// A label of another pool.
    #[error("{label:?} is the label of pool {pool}; accepted: that UUID, or another label")]
    LabelTaken {
        /// The label.
        label: String,
        /// Its pool.
        pool: Uuid,
    },
    /// No bdev has this name.
    #[error("there is no bdev named {0:?}")]
    NoBdev(String),
    /// One node holds one member of a pool.
    #[error("a store of pool {pool} is open on bdev {bdev:?}; brmr_remove_store closes it")]
    HasPool {
        /// The pool.
        pool: Uuid,
        /// Where.
        bdev: String,
    },
    /// There is none.
    #[error("no store of pool {0} is known here; brmr_add_store opens one")]
    NoStore(Uuid),
    /// A call names a pool, and two of its members are here.
    #[error(
        "members {0:?} of the pool are open here, and the call does not say which: end the process, as tests do"
    )]
    Several(Vec<usize>),
    /// It is the last that serves.
    #[error(
        "member {member} is the only up-to-date leg of pool {pool}: IO of its client would wait; let another leg catch up, \
         or give \"force\": true"
    )]
    OnlyLeg {
        /// The pool.
        pool: Uuid,
        /// The member.
        member: usize,
    },
    /// It may hold what nobody else has.
    #[error(
        "member {member} was taken into pool {pool} and may hold the only copy of something; remove it from the pool on the \
         compute node first (rmr_remove_leg), or give \"force\": true"
    )]
    Member {
        /// The pool.
        pool: Uuid,
        /// The member.
        member: usize,
    },
    /// It is there with another size.
    #[error(
        "mapped_size is {asked}; the store on bdev {bdev:?} has {there} bytes; leave it out, or give that"
    )]
    Size {
        /// The bdev.
        bdev: String,
        /// Asked for.
        asked: u64,
        /// The device's.
        there: u64,
    },
    /// A store on a bdev.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The stores of the reactor.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The reactor does not answer.
    #[error(transparent)]
    Reactor(#[from] CallError),
    /// The disk still has something.
    #[error(
        "the store of pool {pool} serves nothing any more, but bdev {bdev:?} did not end its IO within {seconds} s; it is \
         closed as soon as that ends"
    )]
    StillClosing {
        /// The pool.
        pool: Uuid,
        /// The bdev.
        bdev: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Closed, but the bdev is not there any more.
    #[error("the store of pool {pool} is closed; bdev {bdev:?} is gone, so what is on it was not deleted")]
    NotDeleted {
        /// The pool.
        pool: Uuid,
        /// The bdev.
        bdev: String,
    },
}

impl StoresError {
    fn errno(&self) -> i32 {
        match self {
            Self::Field { .. } | Self::UnknownLabel(_) | Self::LabelTaken { .. } | Self::Size { .. } => {
                EINVAL
            }
            Self::NoBdev(_) | Self::NoStore(_) | Self::Node(NodeError::NoStore(_)) => ENODEV,
            Self::HasPool { .. } | Self::Node(NodeError::HasStore(_)) => EEXIST,
            Self::Several(_) | Self::OnlyLeg { .. } | Self::Member { .. } | Self::StillClosing { .. } => {
                EBUSY
            }
            Self::NotDeleted { .. } => ENXIO,
            Self::Reactor(_) | Self::Node(_) => EBUSY,
            Self::Image(error) => match error {
                ImageError::Desc(_) | ImageError::Claim(_) => EBUSY,
                ImageError::NotEmpty { .. } => ENOTEMPTY,
                ImageError::NoStore { .. } | ImageError::OtherStore { .. } => ENXIO,
                ImageError::Io(RangeError::Io { .. } | RangeError::Late { .. }) => EIO,
                ImageError::Unreadable { .. } => EIO,
                ImageError::Io(_) => EBUSY,
                _ => EINVAL,
            },
        }
    }

    /// The parameter that was wrong, its value, what would be accepted.
    fn parameter(&self) -> Option<(&'static str, String, String)> {
        let hold = |text: &str| text.to_owned();
        Some(match self {
            Self::Field { field, value, accepted } => (field, value.clone(), accepted.clone()),
            Self::UnknownLabel(label) => ("pool", label.clone(), hold("a UUID, or a label that is known")),
            Self::LabelTaken { label, pool } => {
                ("pool", label.clone(), format!("with uuid {pool}, or another label"))
            }
            Self::NoBdev(name) => ("bdev", name.clone(), hold("name, alias or UUID of a bdev")),
            Self::Size { asked, there, .. } => ("mapped_size", asked.to_string(), there.to_string()),
            Self::Image(ImageError::Room { mapped, block, room, .. }) => {
                ("mapped_size", mapped.to_string(), format!("a multiple of {block}, {block} to {room}"))
            }
            Self::Image(ImageError::NotEmpty { bdev, .. }) => ("bdev", bdev.clone(), hold("an empty bdev")),
            Self::Image(ImageError::NoStore { bdev, .. }) => {
                ("bdev", bdev.clone(), hold("a bdev with a store"))
            }
            _ => return None,
        })
    }
}

impl From<StoresError> for RpcError {
    fn from(error: StoresError) -> RpcError {
        let answer = RpcError::errno(error.errno(), error.to_string());
        match error.parameter() {
            Some((name, value, accepted)) => answer.parameter(name, value, accepted),
            None => answer,
        }
    }
}
