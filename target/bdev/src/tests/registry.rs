use super::script::{Script, scripted, spec};
use crate::{Bdevs, Mode, OpenError, RegisterError, RemoveError};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_bdev_is_found_by_name_alias_and_uuid_and_none_of_them_twice() {
    let bdevs = Bdevs::new();
    let (bdev, script) = scripted(&bdevs, |spec| spec.aliases = vec!["lvs/vol".into()]);
    for name in ["Scripted0", "lvs/vol", &bdev.uuid().to_string()] {
        assert_eq!(bdevs.get(name).expect("found").name(), "Scripted0");
        let mut other = spec("Other", &script);
        other.aliases = vec![name.to_owned()];
        let exists = RegisterError::Exists(name.to_owned(), "Scripted0".into());
        assert_eq!(bdevs.register(other).expect_err("taken"), exists);
    }
    let mut twin = spec("Twin", &script);
    twin.uuid = bdev.uuid();
    assert!(matches!(bdevs.register(twin), Err(RegisterError::Exists(..))));
    assert_eq!(bdevs.all().len(), 1);
}

#[test]
fn a_geometry_that_cannot_be_served_is_refused() {
    let bdevs = Bdevs::new();
    let script = Arc::new(Script::default());
    for block_size in [0, 1, 511, 513, 131_072] {
        let mut bad = spec("Bad", &script);
        bad.block_size = block_size;
        assert_eq!(bdevs.register(bad).expect_err("bad"), RegisterError::BlockSize(block_size));
    }
    for num_blocks in [0, 1 << 60, u64::MAX] {
        let mut bad = spec("Bad", &script);
        bad.num_blocks = num_blocks;
        assert_eq!(bdevs.register(bad).expect_err("bad"), RegisterError::NumBlocks(num_blocks, 512));
    }
    assert_eq!(bdevs.register(spec("", &script)).expect_err("bad"), RegisterError::NoName);
    assert!(bdevs.all().is_empty());
}

#[test]
fn a_removal_waits_for_openers_and_frees_the_name_at_once() {
    let bdevs = Bdevs::new();
    let (bdev, script) = scripted(&bdevs, |_| ());
    let desc = bdevs.open("Scripted0", "holder", Mode::Write).expect("free");
    let remover = {
        let bdevs = bdevs.clone();
        std::thread::spawn(move || bdevs.remove("Scripted0"))
    };
    while !bdev.is_removed() {
        std::thread::yield_now();
    }
    let gone = OpenError::NotFound("Scripted0".into());
    assert_eq!(bdevs.open("Scripted0", "late", Mode::Read).expect_err("gone"), gone);
    bdevs.register(spec("Scripted0", &script)).expect("the name is free");
    drop(desc);
    assert_eq!(remover.join().expect("no panic"), Ok(()));
    assert_eq!(bdevs.remove("nobody"), Err(RemoveError::NotFound("nobody".into())));
}

#[test]
fn a_removal_names_who_does_not_let_go() {
    let bdevs = Bdevs::new();
    let (bdev, _) = scripted(&bdevs, |_| ());
    let desc = bdevs.open("Scripted0", "stubborn", Mode::Read).expect("free");
    bdev.mark_removed();
    let holders = bdev.wait_closed(Duration::from_millis(10));
    let error = RemoveError::StillOpen { bdev: "Scripted0".into(), holders };
    assert!(error.to_string().contains("still held by stubborn"), "{error}");
    drop(desc);
    assert!(bdev.wait_closed(Duration::from_secs(5)).is_empty());
}
