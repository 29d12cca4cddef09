//! The discovery log page (base 5.16.1.23): where the host finds what it may use.

use super::Around;
use crate::model::Referral;
use std::net::{IpAddr, SocketAddr};
use tgt_nvme::fabrics::CNTLID_ANY;
use tgt_nvme::log::{DiscoveryEntry, DiscoveryHead, discovery};
use tgt_nvme::put_text;
use tgt_nvme::zerocopy::little_endian::{U16, U64};
use tgt_nvme::zerocopy::{FromZeros, IntoBytes};

/// Least entries of an admin queue (base 5.16.1.23).
const ADMIN_ENTRIES: u16 = 32;
/// A secure channel is neither needed nor refused.
const NOT_SAID: u8 = 0;
/// A secure channel is needed.
const NEEDED: u8 = 1;

/// All of the page, for the host of this controller.
pub(super) fn page(around: Around<'_>) -> Vec<u8> {
    let tables = around.tables;
    // Read first: a change in between is one that the host will be told of.
    let generation = tables.generation();
    let mut entries = Vec::new();
    for subsystem in tables.subsystems() {
        if !subsystem.admits(&around.controller.host_nqn) {
            continue;
        }
        let listeners = subsystem.state().listeners.clone();
        for listener in listeners {
            let address = reachable(listener.address, around.local);
            entries.push(entry(address, discovery::NVM, subsystem.nqn(), NOT_SAID));
        }
    }
    for Referral { address, subnqn, secure_channel } in tables.referrals() {
        let requirements = if secure_channel { NEEDED } else { NOT_SAID };
        entries.push(entry(address, discovery::REFERRAL, &subnqn, requirements));
    }
    let mut head = DiscoveryHead::new_zeroed();
    (head.generation, head.records) = (U64::new(generation), U64::new(entries.len() as u64));
    let mut page = head.as_bytes().to_vec();
    entries.iter().for_each(|entry| page.extend(entry.as_bytes()));
    page
}

/// A listener at all addresses is told as the one over which the host came.
fn reachable(listener: SocketAddr, local: SocketAddr) -> SocketAddr {
    if listener.ip().is_unspecified() && listener.is_ipv4() == local.is_ipv4() {
        return SocketAddr::new(local.ip(), listener.port());
    }
    listener
}

fn entry(address: SocketAddr, subtype: u8, nqn: &str, requirements: u8) -> DiscoveryEntry {
    let mut entry = DiscoveryEntry::new_zeroed();
    entry.transport = discovery::TCP;
    entry.family = match address.ip() {
        IpAddr::V4(_) => discovery::IPV4,
        IpAddr::V6(_) => discovery::IPV6,
    };
    (entry.subtype, entry.requirements) = (subtype, requirements);
    entry.cntlid = U16::new(CNTLID_ANY);
    entry.admin_entries = U16::new(ADMIN_ENTRIES);
    put_text(&mut entry.service, &address.port().to_string(), b' ');
    put_text(&mut entry.address, &address.ip().to_string(), b' ');
    put_text(&mut entry.sub_nqn, nqn, 0);
    entry
}
