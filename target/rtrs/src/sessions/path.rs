//! The notation of a path: where it leads, and from where.

use crate::tcp::PathAddress;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// What is accepted, in words.
pub const ACCEPTED: &str = "ip:ADDRESS:PORT or ip:SOURCE@ip:ADDRESS:PORT, IPv6 addresses in brackets: ip:192.0.2.1:4430, \
                            ip:192.0.2.9@ip:192.0.2.1:4430, ip:[2001:db8::1]:4430";

/// A path to a peer's listener.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PathSpec {
    /// The listener.
    pub to: SocketAddr,
    /// Own address; `None`: whichever the system takes.
    pub from: Option<IpAddr>,
}

/// Text that is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path {text:?} {why}; accepted: {ACCEPTED}")]
pub struct PathError {
    /// As it was given.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl PathSpec {
    /// From whichever own address.
    #[must_use]
    pub fn to(to: SocketAddr) -> Self {
        Self { to, from: None }
    }

    /// For a port.
    #[must_use]
    pub fn address(&self) -> PathAddress {
        PathAddress { from: self.from.map(|from| (from, 0).into()), ..PathAddress::new(self.to) }
    }
}

impl FromStr for PathSpec {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        parse(text).map_err(|why| PathError { text: text.to_owned(), why })
    }
}

impl fmt::Display for PathSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            Some(IpAddr::V4(from)) => write!(f, "ip:{from}@")?,
            Some(IpAddr::V6(from)) => write!(f, "ip:[{from}]@")?,
            None => {}
        }
        write!(f, "ip:{}", self.to)
    }
}

fn parse(text: &str) -> Result<PathSpec, &'static str> {
    let (from, to) = match text.split_once('@') {
        Some((from, to)) => (Some(source(from)?), to),
        None => (None, text),
    };
    let to = to.strip_prefix("ip:").ok_or("does not begin with ip:")?;
    let (host, port) = to.rsplit_once(':').ok_or("has no port")?;
    let address = host_of(host)?;
    // `u16` takes a sign, which is no port's.
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port: u16 =
        port.parse().ok().filter(|_| digits).ok_or("has a port that is not a number up to 65535")?;
    if port == 0 {
        return Err("has port 0, where nobody listens");
    }
    if address.is_unspecified() {
        return Err("leads to no address in particular");
    }
    if address.is_multicast() {
        return Err("leads to a group of hosts");
    }
    if from.is_some_and(|from| from.is_ipv4() != address.is_ipv4()) {
        return Err("has addresses of two families");
    }
    Ok(PathSpec { to: (address, port).into(), from })
}

fn source(text: &str) -> Result<IpAddr, &'static str> {
    let host = text.strip_prefix("ip:").ok_or("has a source that does not begin with ip:")?;
    let address = host_of(host)?;
    if address.is_unspecified() { Err("has no address in particular as its source") } else { Ok(address) }
}

/// An IPv4 address, or an IPv6 address in brackets.
fn host_of(text: &str) -> Result<IpAddr, &'static str> {
    if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let address: Ipv6Addr = inner.parse().map_err(|_| "has brackets around what is no IPv6 address")?;
        return Ok(address.into());
    }
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => Ok(address.into()),
        Ok(IpAddr::V6(_)) => Err("has an IPv6 address without brackets"),
        Err(_) => Err("has no IP address where one must be (names are not looked up)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_is_written_back_the_same() {
        for text in [
            "ip:1.2.3.4:1234",
            "ip:10.0.0.1@ip:1.2.3.4:1",
            "ip:[::1]:65535",
            "ip:[2001:db8::2]@ip:[2001:db8::1]:4430",
        ] {
            let path: PathSpec = text.parse().expect(text);
            assert_eq!(path.to_string(), text);
        }
        let path: PathSpec = "ip:[0:0::1]:0080".parse().expect("another spelling");
        assert_eq!(path.to_string(), "ip:[::1]:80");
    }

    #[test]
    fn what_is_no_path_is_refused_by_what_is_wrong() {
        for (text, words) in [
            ("", "begin with ip:"),
            ("1.2.3.4:1234", "begin with ip:"),
            ("gid:fe80::1", "begin with ip:"),
            ("ip:1.2.3.4", "no port"),
            ("ip:1.2.3.4:", "not a number"),
            ("ip:1.2.3.4:+1", "not a number"),
            ("ip:1.2.3.4:65536", "not a number"),
            ("ip:1.2.3.4:0", "port 0"),
            ("ip:::1:1234", "without brackets"),
            ("ip:[::1:1234", "no IP address"),
            ("ip:[1.2.3.4]:1234", "no IPv6"),
            ("ip:host:1234", "names are not looked up"),
            ("ip:0.0.0.0:1234", "no address in particular"),
            ("ip:[::]:1234", "no address in particular"),
            ("ip:224.0.0.1:1234", "group"),
            ("1.1.1.1@ip:1.2.3.4:1", "source"),
            ("ip:0.0.0.0@ip:1.2.3.4:1", "source"),
            ("ip:[::1]@ip:1.2.3.4:1", "two families"),
            ("ip:1.1.1.1@ip:2.2.2.2@ip:1.2.3.4:1", "no IP address"),
        ] {
            let error = text.parse::<PathSpec>().expect_err(text).to_string();
            assert!(error.contains(words) && error.contains("accepted: ip:ADDRESS:PORT"), "{text}: {error}");
        }
    }
}
