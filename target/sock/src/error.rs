//! Why a socket, listener or group could not be made. What ends a stream later is a [`crate::Cause`].

use std::io;
use std::net::SocketAddr;

use tgt_env::memory::MemoryError;
use tgt_env::uring::UringError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum SockError {
    /// A bound of [`crate::GroupOptions`] is out of range.
    #[error("{name} is {value}; {least} to {most} is accepted")]
    Bound {
        /// The field.
        name: &'static str,
        /// What was asked for.
        value: u32,
        /// Smallest.
        least: u32,
        /// Largest.
        most: u32,
    },
    /// The kernel refused an option's value.
    #[error("{option} = {value} was refused for {address}: {source}; {remedy}")]
    Option {
        /// Its name in the kernel's documentation.
        option: &'static str,
        /// What was asked for.
        value: String,
        /// Own or peer's address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The kernel has no such congestion control, or does not let this process use it.
    #[error(
        "TCP_CONGESTION = {name} was refused for {address}: {source}; available here: {available}; load the module \
         (`modprobe tcp_{name}`) or, without CAP_NET_ADMIN, allow it (`sysctl net.ipv4.tcp_allowed_congestion_control`)"
    )]
    Congestion {
        /// What was asked for.
        name: String,
        /// Own or peer's address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
        /// What `tcp_available_congestion_control` lists.
        available: String,
    },
    /// The kernel cut a buffer size down to its limit.
    #[error(
        "{option} = {asked} was cut down to {got} for {address}: raise the limit (`sysctl -w {sysctl}={asked}`), ask for \
         less, or leave it to the kernel"
    )]
    BufferSize {
        /// `SO_SNDBUF` or `SO_RCVBUF`.
        option: &'static str,
        /// Bytes asked for.
        asked: u32,
        /// Bytes got.
        got: u32,
        /// Own or peer's address.
        address: SocketAddr,
        /// The limit.
        sysctl: &'static str,
    },
    /// Own address and peer's address are of different families.
    #[error(
        "source address {from} and address {to} are not of one family: give both as IPv4 or both as IPv6"
    )]
    Families {
        /// Own.
        from: SocketAddr,
        /// Peer's.
        to: SocketAddr,
    },
    /// The own address cannot be used.
    #[error("cannot use the address {address}: {source}; {remedy}")]
    Bind {
        /// Own address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// No socket could be had.
    #[error("no socket for {address}: {source}; {remedy}")]
    Socket {
        /// Own or peer's address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The kernel refused to try a connection.
    #[error("cannot connect to {address}: {source}; {remedy}")]
    Connect {
        /// Peer's address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// What was to be adopted is no connected TCP socket.
    #[error(
        "the descriptor is not a connected TCP socket: {source}; adopt what `accept` or `connect` returned"
    )]
    NotConnected {
        /// What the kernel said.
        source: io::Error,
    },
    /// The group is full.
    #[error(
        "{limit} streams are open in this group, the most it takes (streams_max); close some, or raise it"
    )]
    TooMany {
        /// Most.
        limit: u32,
    },
    /// The kernel refused to watch sockets.
    #[error("cannot watch sockets by epoll: {source}; {remedy}")]
    Watch {
        /// What the kernel said.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The reactor's io_uring refused.
    #[error("cannot watch sockets by the reactor's io_uring: {0}")]
    Uring(#[from] UringError),
    /// No memory for the staging buffer.
    #[error("no staging buffer for streams: {0}")]
    Memory(#[from] MemoryError),
    /// The group was closed.
    #[error("this group of streams was closed: make another")]
    Closed,
}

/// The advice for running out of descriptors or memory.
pub(crate) fn remedy_of(error: &io::Error) -> &'static str {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => "raise the limit of open files (`ulimit -n`, LimitNOFILE=)",
        Some(Errno::NFILE) => "raise the system's limit of open files (`sysctl fs.file-max`)",
        Some(Errno::NOBUFS | Errno::NOMEM) => "the kernel is short of memory: free some, then try again",
        Some(Errno::NOSPC) => "raise the limit of watches (`sysctl fs.epoll.max_user_watches`)",
        Some(Errno::AFNOSUPPORT) => "this kernel does not have that family: use the other, or enable IPv6",
        Some(Errno::ADDRINUSE) => "somebody listens there, or the port is in use: choose another",
        Some(Errno::ADDRNOTAVAIL) => {
            "no interface has it: see `ip address`; IPv6 fe80:: addresses need a scope (%eth0)"
        }
        Some(Errno::ACCESS) => "ports below 1024 need CAP_NET_BIND_SERVICE: choose another, or grant it",
        Some(Errno::INVAL) => "check the address; IPv6 fe80:: addresses need a scope (%eth0)",
        _ => "see the system's log",
    }
}
