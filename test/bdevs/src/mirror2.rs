//! A mirror over two bdevs: writes go to both, reads to one after the other.

use std::sync::Arc;
use tgt_bdev::{
    BdevSpec, Bdevs, Bufs, Channel, Cx, Desc, Device, Done, DoneQueue, Io, IoChannel, IoStatus, Limits, Mode,
    Op, OpSet, Tag, Work,
};
use tgt_env::bufs::Lease;
use uuid::Uuid;

/// IOs a channel has in flight; more are handed back.
const SLOTS: u64 = 256;

/// Registers a mirror named `name` over two bdevs of the same geometry.
pub fn create(bdevs: &Bdevs, name: &str, bases: [&str; 2]) -> Arc<tgt_bdev::Bdev> {
    let open = |base| bdevs.open(base, name, Mode::Write).expect("the base is there");
    let bases = bases.map(open);
    let [a, b] = [&bases[0], &bases[1]].map(Desc::bdev);
    assert_eq!((a.block_size(), a.num_blocks()), (b.block_size(), b.num_blocks()), "bases differ");
    let spec = BdevSpec {
        name: name.to_owned(),
        aliases: Vec::new(),
        product_name: "mirror2",
        uuid: Uuid::new_v4(),
        block_size: a.block_size(),
        num_blocks: a.num_blocks(),
        ops: OpSet::of(&[Op::Read, Op::Write, Op::WriteZeroes, Op::Unmap, Op::Flush]),
        limits: Limits::default(),
        numa_node: None,
        device: Arc::new(Mirror { bases }),
    };
    bdevs.register(spec).expect("the name is free")
}

struct Mirror {
    bases: [Desc; 2],
}

impl Device for Mirror {
    fn open_channel(&self, cx: &mut Cx) -> Result<Box<dyn Channel>, String> {
        let mut open = |base: &Desc| base.open_channel(cx).map_err(|error| error.to_string());
        let children = [open(&self.bases[0])?, open(&self.bases[1])?];
        Ok(Box::new(MirrorChannel {
            children,
            slots: (0..SLOTS).map(|_| None).collect(),
            free: (0..SLOTS).rev().collect(),
            next_read: 0,
            child_done: DoneQueue::default(),
            unsent: Vec::new(),
        }))
    }
}

struct MirrorChannel {
    children: [IoChannel; 2],
    slots: Vec<Option<Slot>>,
    free: Vec<u64>,
    next_read: usize,
    child_done: DoneQueue,
    /// Pieces a child had no room for, with its index.
    unsent: Vec<(usize, Io)>,
}

/// One IO from above, while its children are below.
struct Slot {
    io: Io,
    /// None: the buffers went down themselves, to one child.
    lease: Option<Lease>,
    out: u32,
    status: IoStatus,
}

impl MirrorChannel {
    fn send(&mut self, cx: &mut Cx, child: usize, io: Io) {
        if let Err(io) = self.children[child].submit(cx, io) {
            self.unsent.push((child, io));
        }
    }

    fn child_ended(&mut self, cx: &mut Cx, child: Done, done: &mut DoneQueue) {
        let ended = child.finish();
        let entry = &mut self.slots[ended.tag.0 as usize];
        let slot = entry.as_mut().expect("a slot lives while its children are out");
        slot.out -= 1;
        slot.status = slot.status.and(ended.status);
        match &slot.lease {
            Some(_) => cx.lender().give_back(ended.bufs),
            None => slot.io.bufs = ended.bufs,
        }
        if slot.out > 0 {
            return;
        }
        let Slot { mut io, lease, status, .. } = entry.take().expect("just seen");
        if let Some(lease) = lease {
            io.bufs = cx.lender().end(lease);
        }
        self.free.push(ended.tag.0);
        done.push(io.complete(status));
    }
}

impl Channel for MirrorChannel {
    fn submit(&mut self, cx: &mut Cx, mut io: Io) -> Result<(), Io> {
        let Some(slot) = self.free.pop() else { return Err(io) };
        let (op, lba, blocks, fua) = (io.op, io.lba, io.blocks, io.fua);
        let bufs = std::mem::replace(&mut io.bufs, Bufs::none());
        let piece = |bufs| {
            let mut piece = Io::new(op, Tag(slot), lba, blocks, bufs);
            piece.fua = fua;
            piece
        };
        let status = IoStatus::SUCCESS;
        if op == Op::Read {
            self.slots[slot as usize] = Some(Slot { io, lease: None, out: 1, status });
            self.next_read ^= 1;
            self.send(cx, self.next_read, piece(bufs));
            return Ok(());
        }
        let lease = match cx.lender().lend(bufs) {
            Ok(lease) => lease,
            Err(bufs) => {
                io.bufs = bufs;
                self.free.push(slot);
                return Err(io);
            }
        };
        let views = [cx.lender().view(&lease), cx.lender().view(&lease)];
        self.slots[slot as usize] = Some(Slot { io, lease: Some(lease), out: 2, status });
        for (child, view) in views.into_iter().enumerate() {
            self.send(cx, child, piece(view));
        }
        Ok(())
    }

    fn poll(&mut self, cx: &mut Cx, done: &mut DoneQueue) -> Work {
        let mut work = Work::Idle;
        for (child, io) in std::mem::take(&mut self.unsent) {
            self.send(cx, child, io);
        }
        for child in 0..self.children.len() {
            let mut ended = std::mem::take(&mut self.child_done);
            work = work.max(self.children[child].poll(cx, &mut ended));
            while let Some(one) = ended.pop() {
                self.child_ended(cx, one, done);
            }
            self.child_done = ended;
        }
        if self.unsent.is_empty() { work } else { work.max(Work::Spin) }
    }
}
