//! Both engines stand anything a peer that proved itself may send. The fuzz targets of the same functions go further.

use tgt_rtrs::fuzz;

fn noise(rng: &mut fastrand::Rng) -> Vec<u8> {
    (0..rng.usize(0..600)).map(|_| rng.u8(..)).collect()
}

#[test]
fn a_server_stands_any_events() {
    let mut rng = fastrand::Rng::with_seed(3);
    (0..20_000).for_each(|_| fuzz::server_events(&noise(&mut rng)));
}

#[test]
fn a_client_stands_any_events() {
    let mut rng = fastrand::Rng::with_seed(4);
    (0..20_000).for_each(|_| fuzz::client_events(&noise(&mut rng)));
}
