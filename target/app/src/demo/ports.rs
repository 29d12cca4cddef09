//! Free TCP ports on 127.0.0.1.

use super::NODES;
use super::error::DemoError;
use std::net::{Ipv4Addr, TcpListener};

/// Below what the kernel gives to outgoing connections: one that tries to reach a node that is away must not be given
/// that node's port, and so meet itself.
const FIRST: u16 = 9400;
const LAST: u16 = 9999;

/// One for each storage node. Nobody holds them: whoever comes first gets them. `draw`: where to begin to look, so that demos
/// that start at once do not all choose the same.
pub(super) fn choose(draw: u32) -> Result<[u16; NODES], DemoError> {
    let all = u32::from(LAST - FIRST) + 1;
    let begin = FIRST + (draw % all) as u16;
    let mut found = (begin..=LAST).chain(FIRST..begin).filter(|port| is_free(*port));
    let mut next = || found.next().ok_or(DemoError::NoPorts { first: FIRST, last: LAST });
    Ok([next()?, next()?, next()?])
}

/// Could one listen there now?
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_three_that_nobody_listens_on() {
        let ports = choose(u32::MAX).expect("three of six hundred");
        assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2]);
        let Ok(taken) = TcpListener::bind((Ipv4Addr::LOCALHOST, ports[1])) else { return };
        assert!(!is_free(ports[1]));
        assert!(!choose(u32::MAX).expect("three others").contains(&ports[1]));
        drop(taken);
    }
}
