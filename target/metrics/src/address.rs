//! Where to listen.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Text that is no address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no address for metrics, accepted: PORT (on 127.0.0.1), or ADDRESS:PORT with a number as address: \
     0.0.0.0:9110, [::1]:9110"
)]
pub struct AddressError(String);

/// `PORT` alone is on the loopback address; names are not looked up. Port 0: any that is free.
pub fn parse_address(text: &str) -> Result<SocketAddr, AddressError> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse().map_err(|_| AddressError(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_on_the_loopback_and_names_are_refused() {
        for (text, expect) in
            [("9110", "127.0.0.1:9110"), ("0.0.0.0:1", "0.0.0.0:1"), ("[::1]:9110", "[::1]:9110")]
        {
            assert_eq!(parse_address(text).expect(text).to_string(), expect);
        }
        for text in ["", ":9110", "localhost:9110", "127.0.0.1", "::1", "65536", "127.0.0.1:x"] {
            let error = parse_address(text).expect_err(text).to_string();
            assert!(error.contains("accepted: PORT"), "{error}");
        }
    }
}
