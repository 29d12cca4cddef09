//! Rings against a driver of our own: what is offered is taken and answered once, whatever order, whatever the device dies on.

mod crash;
mod faults;
mod flow;

use super::{Chain, Ring, RingSpec};
use test_vhost::driver::{Driver, Shape};
use test_vhost::guest::{GUEST, Guest};

const KIB: u64 = 1024;
/// Where requests' memory begins; rings lie before it.
const DATA: u64 = GUEST + 512 * KIB;

fn spec(packed: bool, size: u16, event_idx: bool) -> RingSpec {
    RingSpec { packed, size, event_idx, indirect: true, ..RingSpec::default() }
}

/// A driver for a ring like this, and the ring where it put it.
fn drive(guest: &Guest, spec: RingSpec) -> (Driver, RingSpec) {
    let RingSpec { packed, size, event_idx, .. } = spec;
    let driver = Driver::new(guest, GUEST, Shape { packed, size, event_idx });
    let at = driver.at();
    (driver, RingSpec { desc: at.desc, driver: at.driver, device: at.device, ..spec })
}

fn setup(spec: RingSpec) -> (Guest, Driver, Ring) {
    let guest = Guest::new(KIB * KIB);
    let (driver, spec) = drive(&guest, spec);
    let ring = Ring::new(&guest.memory, &spec, driver.base(), None).expect("a ring");
    (guest, driver, ring)
}

/// Both kinds, with and without event indices.
fn each_kind(size: u16, test: impl Fn(RingSpec)) {
    for packed in [false, true] {
        for event_idx in [false, true] {
            test(spec(packed, size, event_idx));
        }
    }
}

/// Addresses and lengths of all pieces of a chain, those to read first.
fn pieces(chain: &Chain) -> Vec<(u64, u32, bool)> {
    let readable = chain.readable.iter().map(|segment| (segment.at, segment.len, false));
    let writable = chain.writable.iter().map(|segment| (segment.at, segment.len, true));
    readable.chain(writable).collect()
}
