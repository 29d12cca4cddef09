//! What each block may hold: a small and exact register history. Values are numbered from 1, 0 is what a new pool holds.

/// The value of one block.
pub(crate) type Value = u8;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum State {
    Pending,
    Failed,
    Acked,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Candidate {
    value: Value,
    state: State,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Block {
    now: Vec<Candidate>,
    /// Overwritten, but what came after is not durable everywhere it was: oldest first.
    older: Vec<Value>,
    /// Legs that held the newest value on a clean chunk and have not lost power since.
    holders: u8,
    durable: bool,
}

impl Block {
    fn ended(&self) -> Vec<Value> {
        self.now.iter().filter(|c| c.state != State::Pending).map(|c| c.value).collect()
    }

    fn rule_out(&mut self, kept: Value, before: &[Value]) {
        let out = |c: &Candidate| c.value != kept && c.state != State::Pending && before.contains(&c.value);
        self.older.extend(self.now.iter().filter(|c| out(c)).map(|c| c.value));
        self.now.retain(|c| !out(c));
    }

    /// Nobody is known to hold the newest value any more: what came before may be back.
    fn revert_unless_held(&mut self) {
        if self.holders != 0 || self.durable {
            return;
        }
        for value in std::mem::take(&mut self.older) {
            if !self.now.iter().any(|c| c.value == value) {
                self.now.push(Candidate { value, state: State::Acked });
            }
        }
    }
}

/// What stood when a request began.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Begun {
    before: Vec<Vec<Value>>,
    /// Legs that lost power since.
    lost: u8,
}

/// The histories of all blocks.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Oracle {
    blocks: Vec<Block>,
    pub(crate) last_value: Value,
}

impl Oracle {
    pub(crate) fn new(blocks: u64, members: usize) -> Self {
        let block = Block {
            now: vec![Candidate { value: 0, state: State::Acked }],
            older: Vec::new(),
            holders: (1u8 << members) - 1,
            durable: true,
        };
        Self { blocks: vec![block; blocks as usize], last_value: 0 }
    }

    pub(crate) fn begin(&self) -> Begun {
        Begun { before: self.blocks.iter().map(Block::ended).collect(), lost: 0 }
    }

    pub(crate) fn begin_write(&mut self, blocks: std::ops::Range<usize>) -> (Value, Begun) {
        let begun = self.begin();
        self.last_value += 1;
        for block in blocks {
            self.blocks[block].now.push(Candidate { value: self.last_value, state: State::Pending });
        }
        (self.last_value, begun)
    }

    pub(crate) fn fail_write(&mut self, value: Value) {
        for candidate in self.blocks.iter_mut().flat_map(|block| &mut block.now) {
            if candidate.value == value && candidate.state == State::Pending {
                candidate.state = State::Failed;
            }
        }
    }

    /// `holders`: legs whose copy of the block is clean.
    pub(crate) fn ack_write(&mut self, block: usize, value: Value, begun: &Begun, holders: u8) {
        let state = &mut self.blocks[block];
        for candidate in state.now.iter_mut().filter(|c| c.value == value) {
            candidate.state = State::Acked;
        }
        state.rule_out(value, &begun.before[block]);
        state.holders = holders & !begun.lost;
        state.durable = false;
        state.revert_unless_held();
    }

    pub(crate) fn end_flush(&mut self, begun: &Begun) {
        for (block, before) in self.blocks.iter_mut().zip(&begun.before) {
            let acked = |c: &Candidate| c.state == State::Acked && before.contains(&c.value);
            if block.now.iter().any(acked) {
                block.older.clear();
                block.durable = block.now.iter().all(acked);
            } else if let Some(at) = block.older.iter().rposition(|value| before.contains(value)) {
                block.older.drain(..at);
            }
        }
    }

    /// `Err`: the read returned what it must not.
    pub(crate) fn end_read(&mut self, block: usize, value: Value, begun: &Begun) -> Result<(), String> {
        let state = &mut self.blocks[block];
        let Some(candidate) = state.now.iter_mut().find(|c| c.value == value) else {
            return Err(format!("a read of block {block} returned {value}, allowed are {:?}", state.now));
        };
        if candidate.state == State::Failed {
            candidate.state = State::Acked;
            (state.holders, state.durable) = (0, false);
        }
        state.rule_out(value, &begun.before[block]);
        Ok(())
    }

    pub(crate) fn allows(&self, block: usize, value: Value) -> bool {
        self.blocks[block].now.iter().any(|c| c.value == value)
    }

    pub(crate) fn allowed(&self, block: usize) -> Vec<Value> {
        self.blocks[block].now.iter().map(|c| c.value).collect()
    }

    pub(crate) fn lost_power(&mut self, member: usize) {
        for block in &mut self.blocks {
            block.holders &= !(1 << member);
            block.revert_unless_held();
        }
    }
}

impl Begun {
    pub(crate) fn lost_power(&mut self, member: usize) {
        self.lost |= 1 << member;
    }
}
