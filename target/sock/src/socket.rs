//! Sockets and their options: what the kernel is asked once per connection.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::error::remedy_of;
use crate::{Cause, ConnectTo, ListenOn, SockError, SocketOptions};

/// How far a new connection is.
pub(crate) enum Begun {
    /// There already.
    Connected(OwnedFd),
    /// The kernel tries.
    Trying(OwnedFd),
    /// It has failed already.
    Failed(OwnedFd, Cause),
}

/// Begins to connect.
pub(crate) fn connect(to: &ConnectTo) -> Result<Begun, SockError> {
    let address = to.address;
    let fd = open(address)?;
    set_options(&fd, address, &to.socket)?;
    if let Some(from) = to.source {
        if from.is_ipv4() != address.is_ipv4() {
            return Err(SockError::Families { from, to: address });
        }
        bind(&fd, from)?;
    }
    match net::connect(&fd, &address) {
        Ok(()) => Ok(Begun::Connected(fd)),
        Err(Errno::INPROGRESS | Errno::INTR) => Ok(Begun::Trying(fd)),
        Err(errno) => match Cause::of("connect", errno) {
            Cause::System { .. } => {
                let source = io::Error::from(errno);
                Err(SockError::Connect { address, remedy: remedy_of(&source), source })
            }
            cause => Ok(Begun::Failed(fd, cause)),
        },
    }
}

/// A listening socket. Its options are inherited by the streams it accepts.
pub(crate) fn listen(on: &ListenOn) -> Result<(OwnedFd, SocketAddr), SockError> {
    let address = on.address;
    let fd = open(address)?;
    set_options(&fd, address, &on.socket)?;
    bind(&fd, address)?;
    let refused = |errno: Errno| bind_refusal(address, errno);
    net::listen(&fd, i32::from(on.backlog)).map_err(refused)?;
    let own = local(&fd).map_err(|source| SockError::Bind { address, remedy: remedy_of(&source), source })?;
    Ok((fd, own))
}

/// The next connection that waits.
pub(crate) fn accept(listener: &OwnedFd) -> Result<(OwnedFd, SocketAddr), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (fd, peer) = net::acceptfrom_with(listener, flags)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(Errno::AFNOSUPPORT)?;
    Ok((fd, peer))
}

pub(crate) fn local(fd: &OwnedFd) -> io::Result<SocketAddr> {
    Ok(SocketAddr::try_from(net::getsockname(fd)?)?)
}

/// The peer of a socket that somebody else has connected.
pub(crate) fn peer(fd: &OwnedFd) -> Result<SocketAddr, SockError> {
    let not_connected = |source: io::Error| SockError::NotConnected { source };
    let peer = net::getpeername(fd).map_err(|errno| not_connected(errno.into()))?;
    let peer = peer.ok_or_else(|| not_connected(Errno::NOTCONN.into()))?;
    SocketAddr::try_from(peer).map_err(|errno| not_connected(errno.into()))
}

/// Makes the end of the socket a reset.
pub(crate) fn reset_on_close(fd: &OwnedFd) {
    if let Err(errno) = sockopt::set_socket_linger(fd, Some(Duration::ZERO)) {
        // The peer sees an ordinary end then.
        tracing::warn!(%errno, "SO_LINGER was refused");
    }
}

fn open(address: SocketAddr) -> Result<OwnedFd, SockError> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP)).map_err(|errno| {
        let source = io::Error::from(errno);
        SockError::Socket { address, remedy: remedy_of(&source), source }
    })
}

fn bind(fd: &OwnedFd, address: SocketAddr) -> Result<(), SockError> {
    let again = sockopt::set_socket_reuseaddr(fd, true);
    let only_v6 = if address.is_ipv6() { sockopt::set_ipv6_v6only(fd, true) } else { Ok(()) };
    again.and(only_v6).and(net::bind(fd, &address)).map_err(|errno| bind_refusal(address, errno))
}

fn bind_refusal(address: SocketAddr, errno: Errno) -> SockError {
    let source = io::Error::from(errno);
    SockError::Bind { address, remedy: remedy_of(&source), source }
}

/// Sets all options; `address` is for messages.
pub(crate) fn set_options(
    fd: &OwnedFd,
    address: SocketAddr,
    options: &SocketOptions,
) -> Result<(), SockError> {
    let no_value = "it takes no other value here; is the descriptor a TCP socket?";
    let refused = |option: &'static str, value: String, remedy: &'static str| {
        move |errno: Errno| SockError::Option { option, value, address, source: errno.into(), remedy }
    };
    sockopt::set_tcp_nodelay(fd, true).map_err(refused("TCP_NODELAY", "1".into(), no_value))?;
    sockopt::set_socket_keepalive(fd, false).map_err(refused("SO_KEEPALIVE", "0".into(), no_value))?;
    if let Some(name) = &options.congestion {
        set_congestion(fd, address, name)?;
    }
    if let Some(timeout) = options.user_timeout {
        let ms = u32::try_from(timeout.as_millis()).ok().filter(|&ms| ms > 0 && ms <= i32::MAX as u32);
        let refused = refused("TCP_USER_TIMEOUT", format!("{timeout:?}"), "1 ms to 24 days are accepted");
        let set = ms.ok_or(Errno::INVAL).and_then(|ms| sockopt::set_tcp_user_timeout(fd, ms));
        set.map_err(refused)?;
    }
    if let Some(bytes) = options.send_buffer {
        set_buffer(fd, address, bytes, &SEND_BUFFER)?;
    }
    if let Some(bytes) = options.receive_buffer {
        set_buffer(fd, address, bytes, &RECEIVE_BUFFER)?;
    }
    Ok(())
}

fn set_congestion(fd: &OwnedFd, address: SocketAddr, name: &str) -> Result<(), SockError> {
    sockopt::set_tcp_congestion(fd, name).map_err(|errno| {
        let listed = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
        let available =
            listed.map_or_else(|error| format!("(not known: {error})"), |all| all.trim().to_owned());
        SockError::Congestion { name: name.to_owned(), address, source: errno.into(), available }
    })
}

/// One of the two buffers of a socket.
struct BufferOption {
    name: &'static str,
    sysctl: &'static str,
    set: fn(&OwnedFd, usize) -> rustix::io::Result<()>,
    force: fn(&OwnedFd, usize) -> rustix::io::Result<()>,
    get: fn(&OwnedFd) -> rustix::io::Result<usize>,
}

const SEND_BUFFER: BufferOption = BufferOption {
    name: "SO_SNDBUF",
    sysctl: "net.core.wmem_max",
    set: |fd, bytes| sockopt::set_socket_send_buffer_size(fd, bytes),
    force: |fd, bytes| sockopt::set_socket_send_buffer_size_force(fd, bytes),
    get: |fd| sockopt::socket_send_buffer_size(fd),
};

const RECEIVE_BUFFER: BufferOption = BufferOption {
    name: "SO_RCVBUF",
    sysctl: "net.core.rmem_max",
    set: |fd, bytes| sockopt::set_socket_recv_buffer_size(fd, bytes),
    force: |fd, bytes| sockopt::set_socket_recv_buffer_size_force(fd, bytes),
    get: |fd| sockopt::socket_recv_buffer_size(fd),
};

/// The kernel cuts sizes down without a word, and doubles what it keeps (socket(7)): so it is asked what it did.
fn set_buffer(fd: &OwnedFd, address: SocketAddr, asked: u32, option: &BufferOption) -> Result<(), SockError> {
    let refused = |errno: Errno| SockError::Option {
        option: option.name,
        value: asked.to_string(),
        address,
        source: errno.into(),
        remedy: "1 to 1073741823 bytes are accepted",
    };
    let size = usize::try_from(asked).ok().filter(|size| (1..=i32::MAX as usize / 2).contains(size));
    let size = size.ok_or_else(|| refused(Errno::INVAL))?;
    (option.set)(fd, size).map_err(refused)?;
    let got = |_: ()| (option.get)(fd).map(|doubled| doubled / 2);
    if got(()).map_err(refused)? >= size {
        return Ok(());
    }
    match (option.force)(fd, size).and_then(got) {
        Ok(got) if got >= size => Ok(()),
        Ok(_) | Err(Errno::PERM) => {
            let got = got(()).map_err(refused)? as u32;
            Err(SockError::BufferSize { option: option.name, asked, got, address, sysctl: option.sysctl })
        }
        Err(errno) => Err(refused(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    /// A name that this kernel has, other than the default where there is one.
    fn congestion() -> String {
        let listed = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
        let default = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").expect("TCP");
        let listed = listed.expect("TCP");
        let other = listed.split_whitespace().find(|name| *name != default.trim());
        other.unwrap_or(default.trim()).to_owned()
    }

    fn check(fd: &OwnedFd, options: &SocketOptions, whose: &str) {
        assert!(sockopt::tcp_nodelay(fd).expect("TCP"), "{whose}");
        assert!(!sockopt::socket_keepalive(fd).expect("TCP"), "{whose}");
        assert_eq!(sockopt::tcp_congestion(fd).ok(), options.congestion, "{whose}");
        let ms = options.user_timeout.expect("set here").as_millis() as u32;
        assert_eq!(sockopt::tcp_user_timeout(fd), Ok(ms), "{whose}");
        assert_eq!(sockopt::socket_send_buffer_size(fd), Ok(100_000 * 2), "{whose}");
        assert_eq!(sockopt::socket_recv_buffer_size(fd), Ok(90_000 * 2), "{whose}");
    }

    #[test]
    fn options_are_those_of_what_connects_listens_and_is_accepted() {
        let options = SocketOptions {
            congestion: Some(congestion()),
            send_buffer: Some(100_000),
            receive_buffer: Some(90_000),
            user_timeout: Some(Duration::from_millis(12_345)),
        };
        let on = ListenOn { socket: options.clone(), ..ListenOn::new((Ipv4Addr::LOCALHOST, 0).into()) };
        let (listener, address) = listen(&on).expect("a listener");
        let to = ConnectTo { socket: options.clone(), ..ConnectTo::new(address) };
        let (Begun::Connected(near) | Begun::Trying(near)) = connect(&to).expect("an attempt") else {
            panic!("it listens")
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let (far, peer) = loop {
            match accept(&listener) {
                Ok(accepted) => break accepted,
                Err(errno) => assert_eq!(errno, Errno::AGAIN),
            }
            assert!(std::time::Instant::now() < deadline, "it is not accepted");
        };
        assert_eq!(peer, local(&near).expect("bound"));
        check(&near, &options, "connected");
        check(&far, &options, "accepted");
    }

    #[test]
    fn a_buffer_that_the_kernel_cuts_down_is_refused_with_its_limit() {
        // Forced where this process may; else the limit is named.
        let address = (Ipv4Addr::LOCALHOST, 9).into();
        let fd = open(address).expect("a socket");
        let most = std::fs::read_to_string("/proc/sys/net/core/wmem_max").expect("TCP");
        let beyond = most.trim().parse::<u32>().expect("a number") + 65_536;
        match set_buffer(&fd, address, beyond, &SEND_BUFFER) {
            Ok(()) => assert!(sockopt::socket_send_buffer_size(&fd).expect("TCP") / 2 >= beyond as usize),
            Err(error) => assert!(error.to_string().contains("sysctl -w net.core.wmem_max="), "{error}"),
        }
    }
}
