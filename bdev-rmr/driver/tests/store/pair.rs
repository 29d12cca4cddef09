//! Two nodes that copy chunks from each other.

use super::{BLOCKS, filled};
use crate::rig::{BLOCK, Client, Rig, wait_until};
use bdev_rmr::hail::Peer;
use bdev_rmr::store::{Phase, data_offset};
use rmr_engine::StoreConfig;
use rmr_proto::envelope::Status;
use rmr_proto::{
    Epoch, IoStatus, MEMBERS_MAX, MemberId, MemberSet, Msg, Origin, Promise, Proposal, Seq, Tag,
};
use std::sync::Arc;
use tgt_bdev::Bdev;

/// Two legs of a new pool: what the first holds counts, the second has missed all of it.
struct Pair {
    rig: Rig,
    clients: [Client; 2],
    bdevs: [Arc<Bdev>; 2],
    epoch: Epoch,
}

impl Pair {
    /// The second leg fetches so many bytes a second.
    fn start(bytes_per_sec: u64) -> Self {
        let rig = Rig::with_nodes(2);
        let bdevs = ["m0", "m1"].map(|name| rig.malloc(name, 32 << 20, BLOCK));
        let both = MemberSet::first(2);
        let promise = Promise { generation: 1, nonce: 11 };
        let epoch = Epoch { promise, version: 0 };
        for (member, bdev) in bdevs.iter().enumerate() {
            rig.write(bdev, 4 << 20, &filled(4096, member as u8 * 7));
            rig.create(bdev, member).expect("nothing known is on it");
            rig.open(member + 1, bdev).expect("it opens");
            rig.limit(member + 1, bytes_per_sec);
        }
        let mut clients = [1, 2].map(|node| rig.client(node, 11));
        let mut last_in = [Epoch::default(); MEMBERS_MAX];
        last_in[..2].fill(epoch);
        let origin = Origin::Create { reference: MemberId::at(0) };
        let mut proposal = Proposal {
            epoch,
            origin,
            set: both,
            members: both,
            blocks: BLOCKS,
            last_in,
            ..Proposal::default()
        };
        for (member, client) in clients.iter_mut().enumerate() {
            let peers = rig.addresses.iter().enumerate().filter(|(other, _)| *other != member);
            let peers = peers.map(|(other, address)| Peer {
                member: other as u8,
                paths: vec![address.to_string()],
                key: None,
            });
            assert_eq!(client.hail(member as u8, peers.collect()).envelope.status, Status::Done);
            let asked = Msg::Promise { promise, takeover: true };
            let Msg::Promised(report) = client.ask(&asked, |msg| matches!(msg, Msg::Promised(_))) else {
                unreachable!("as asked")
            };
            proposal.peers[member] = crate::stamp_of(&report);
        }
        for client in &mut clients {
            client.ask(&Msg::Adopt(Box::new(proposal.clone())), |msg| matches!(msg, Msg::Adopted { .. }));
        }
        Self { rig, clients, bdevs, epoch }
    }

    /// As a client does ten times a second: so the legs know that it lives.
    fn beat(&mut self) -> [u64; 2] {
        let counters = [0; MEMBERS_MAX];
        let beat = Msg::Beat { epoch: self.epoch, answered: Seq(0), flushed: Seq(0), counters };
        self.clients.each_mut().map(|client| {
            let heard = client.ask(&beat, |msg| matches!(msg, Msg::BeatReply { .. }));
            let Msg::BeatReply { serving: true, dirty_chunks, .. } = heard else { panic!("{heard:?}") };
            dirty_chunks
        })
    }

    fn data(&self, member: usize) -> Vec<u8> {
        let superblock = self.rig.status(member + 1).superblock;
        let offset = data_offset(&superblock, &StoreConfig::default());
        self.rig.read_bytes(&self.bdevs[member], offset, 8 << 20)
    }
}

#[test]
fn a_leg_that_has_missed_everything_fetches_it_from_the_other_node() {
    let mut pair = Pair::start(0);
    let mut dirty = [0, 128];
    wait_until("all chunks are copied", || {
        dirty = pair.beat();
        assert_eq!(dirty[0], 0, "the reference has missed nothing");
        dirty[1] == 0
    });
    let (left, right) = (pair.data(0), pair.data(1));
    assert!(left == right, "the legs differ");
    assert!(left.iter().any(|byte| *byte != 0));
    for node in [1, 2] {
        let status = pair.rig.status(node);
        assert!(status.links.iter().all(|link| link.up), "{:?}", status.links);
        assert_eq!(status.links.len(), 1);
        assert_eq!((status.phase, status.letters_dropped, status.buffers), (Phase::Open, 0, 0));
    }
    let copied = pair.rig.status(2).engine.expect("it runs").resync.copied_bytes;
    assert_eq!(copied, 8 << 20);
    // What a scrub asks: the checksum of what the medium holds.
    let (epoch, tag) = (pair.epoch, Tag { slot: 1, sending: 1 });
    let chunk = 64 << 10;
    let check = Msg::Check { epoch, tag, chunk: rmr_proto::ChunkNo(5) };
    let want = rmr_proto::crc32c(&left[5 * chunk..][..chunk]);
    for client in &mut pair.clients {
        let checked = client.ask(&check, |msg| matches!(msg, Msg::Checked { .. }));
        assert_eq!(checked, Msg::Checked { epoch, tag, status: IoStatus::Done, crc: want });
    }
}

#[test]
fn a_node_that_closes_under_copies_leaves_no_buffer_and_goes_on_when_it_is_back() {
    let mut pair = Pair::start(256 << 10);
    wait_until("some chunks are copied", || pair.beat()[1] < 126);
    pair.rig.close(1);
    wait_until("nothing of a copy is left", || {
        let status = pair.rig.status(2);
        (status.requests, status.on_disk, status.buffers) == (0, 0, 0) && !status.links[0].up
    });
    let why = pair.rig.status(2).links[0].why.clone().expect("it says why");
    assert!(why.contains("no store of this pool"), "{why}");
    pair.rig.open(1, &pair.bdevs[0]).expect("it opens again");
    wait_until("the link is up again", || pair.rig.status(2).links[0].up);
}
