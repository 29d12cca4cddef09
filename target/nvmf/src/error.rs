//! What control calls refuse, and why.

use std::net::SocketAddr;
use tgt_bdev::{ClaimError, OpenError};
use tgt_reactor::CallError;
use tgt_sock::SockError;

/// Errors of this crate. Nothing has changed, unless the text says so.
#[derive(Debug, thiserror::Error)]
pub enum NvmfError {
    /// A number out of range.
    #[error("{name} {value}; accepted: {accepted}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What was asked for.
        value: String,
        /// What would do.
        accepted: String,
    },
    /// There is a transport already.
    #[error("transport TCP exists already, with its options; nvmf_get_transports shows them")]
    TransportExists,
    /// There is none yet.
    #[error("there is no transport TCP yet: call nvmf_create_transport first")]
    NoTransport,
    /// A name in use.
    #[error("subsystem {0:?} exists already")]
    SubsystemExists(String),
    /// As many as there may be.
    #[error(
        "there are {most} subsystems, the most there may be; nvmf_set_max_subsystems, before the target is up, allows more"
    )]
    TooManySubsystems {
        /// Most.
        most: u32,
    },
    /// No such subsystem.
    #[error("there is no subsystem {0:?}; nvmf_get_subsystems lists them")]
    NoSubsystem(String),
    /// Discovery subsystems have neither namespaces nor hosts.
    #[error(
        "{0:?} is the discovery subsystem: it has listeners of all others, any host may ask it, and nothing can be added"
    )]
    Discovery(String),
    /// A namespace's number in use.
    #[error("subsystem {nqn:?} has a namespace {nsid} already")]
    NamespaceExists {
        /// Subsystem.
        nqn: String,
        /// Number.
        nsid: u32,
    },
    /// No such namespace.
    #[error("subsystem {nqn:?} has no namespace {nsid}")]
    NoNamespace {
        /// Subsystem.
        nqn: String,
        /// Number.
        nsid: u32,
    },
    /// All numbers in use.
    #[error("subsystem {nqn:?} has {most} namespaces, the most it takes (max_namespaces)")]
    TooManyNamespaces {
        /// Subsystem.
        nqn: String,
        /// Most.
        most: u32,
    },
    /// A namespace with the same identity.
    #[error(
        "subsystem {nqn:?} has a namespace with the {what} {value} already: hosts would take the two for one"
    )]
    SameIdentity {
        /// Subsystem.
        nqn: String,
        /// uuid, nguid or eui64.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// The bdev cannot be had.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// Somebody else has it.
    #[error("{0}")]
    Claim(#[from] ClaimError),
    /// A bdev that hosts could not use.
    #[error("bdev {bdev:?} has blocks of {block_size} bytes; accepted: a power of two from 512 to {most}")]
    BlockSize {
        /// The bdev.
        bdev: String,
        /// Its blocks.
        block_size: u32,
        /// Largest: max_io_size.
        most: u32,
    },
    /// A listener that exists.
    #[error("subsystem {nqn:?} listens at {address} already")]
    ListenerExists {
        /// Subsystem.
        nqn: String,
        /// Where.
        address: SocketAddr,
    },
    /// No such listener.
    #[error(
        "subsystem {nqn:?} does not listen at {address}; nvmf_subsystem_get_listeners shows where it does"
    )]
    NoListener {
        /// Subsystem.
        nqn: String,
        /// Where.
        address: SocketAddr,
    },
    /// A listener that the system refused.
    #[error("{0}")]
    Listen(#[from] SockError),
    /// No asymmetric access.
    #[error("subsystem {0:?} was made without ana_reporting")]
    NoAna(String),
    /// A host that is in the list already.
    #[error("subsystem {nqn:?} lets host {host:?} in already")]
    HostExists {
        /// Subsystem.
        nqn: String,
        /// Host.
        host: String,
    },
    /// A host that is not in the list.
    #[error("subsystem {nqn:?} has no host {host:?} in its list")]
    NoHost {
        /// Subsystem.
        nqn: String,
        /// Host.
        host: String,
    },
    /// A referral that exists.
    #[error("there is a referral to {0} already")]
    ReferralExists(String),
    /// No such referral.
    #[error("there is no referral to {0}; nvmf_discovery_get_referrals lists them")]
    NoReferral(String),
    /// A reactor did not answer. The change may have been made on others.
    #[error("{0}")]
    Call(#[from] CallError),
}

impl NvmfError {
    /// The errno that says as much.
    #[must_use]
    pub fn errno(&self) -> i32 {
        const ENOENT: i32 = 2;
        const EIO: i32 = 5;
        const EBUSY: i32 = 16;
        const EEXIST: i32 = 17;
        const ENODEV: i32 = 19;
        const EINVAL: i32 = 22;
        const ENOSPC: i32 = 28;
        match self {
            NvmfError::Value { .. }
            | NvmfError::Discovery(_)
            | NvmfError::BlockSize { .. }
            | NvmfError::NoAna(_)
            | NvmfError::NoTransport
            | NvmfError::Listen(_) => EINVAL,
            NvmfError::TransportExists
            | NvmfError::SubsystemExists(_)
            | NvmfError::NamespaceExists { .. }
            | NvmfError::SameIdentity { .. }
            | NvmfError::ListenerExists { .. }
            | NvmfError::HostExists { .. }
            | NvmfError::ReferralExists(_) => EEXIST,
            NvmfError::NoSubsystem(_)
            | NvmfError::NoNamespace { .. }
            | NvmfError::NoListener { .. }
            | NvmfError::NoHost { .. }
            | NvmfError::NoReferral(_) => ENOENT,
            NvmfError::TooManyNamespaces { .. } | NvmfError::TooManySubsystems { .. } => ENOSPC,
            NvmfError::Open(OpenError::NotFound(_) | OpenError::Removed(_)) => ENODEV,
            NvmfError::Open(OpenError::Claimed { .. }) | NvmfError::Claim(_) => EBUSY,
            NvmfError::Open(OpenError::Channel { .. }) | NvmfError::Call(_) => EIO,
        }
    }

    pub(crate) fn value(name: &'static str, value: impl ToString, accepted: impl Into<String>) -> NvmfError {
        NvmfError::Value { name, value: value.to_string(), accepted: accepted.into() }
    }
}
