//! Small worlds by name: what they hold and how often what may happen.

use rmr_engine::StoreConfig;
use rmr_engine::client::ClientConfig;

/// How often something may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Budget {
    /// Writes of one block.
    pub writes: u8,
    /// Writes of two blocks.
    pub wide_writes: u8,
    /// Flushes.
    pub flushes: u8,
    /// Reads.
    pub reads: u8,
    /// kill -9 of a store.
    pub kills: u8,
    /// Power losses, each with any part of the cache lost.
    pub powers: u8,
    /// Sessions that the client takes for gone.
    pub drops: u8,
    /// Client crashes; each is followed by a new client.
    pub client_crashes: u8,
    /// Further clients beside the one that lives.
    pub takeovers: u8,
    /// Messages that leave their place: they come at any time, or never.
    pub ghosts: u8,
    /// Messages of which a second copy comes at any time.
    pub doubles: u8,
    /// "Everything that could time out does", but for the patience with a leg, which is `drops`.
    pub ticks: u8,
}

/// A small world.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name.
    pub name: &'static str,
    /// Legs.
    pub members: usize,
    /// Blocks; a chunk is one block.
    pub blocks: u64,
    /// Chunks of a region, log2.
    pub region_shift: u8,
    /// What may happen.
    pub budget: Budget,
    /// Messages arrive in the order in which they were sent, all over the world, but for ghosts: the budget bounds how far
    /// a run departs from the orderly one. If not, any order between different endpoints.
    pub in_order: bool,
    /// Disks finish their operations at once: fewer interleavings.
    pub prompt_disks: bool,
}

const MS: u64 = 1_000_000;
/// Longer than any run: what this waits for does not time out.
const NEVER: u64 = 1 << 60;
/// One tick.
pub(crate) const TICK_NS: u64 = 10 * MS;

impl Config {
    pub(crate) fn store(&self) -> StoreConfig {
        StoreConfig {
            journal_bytes: 8 << 10,
            tick_ns: TICK_NS,
            intent_idle_ns: MS,
            intents_soft_max: 1 << 20,
            resync_depth: 1,
            peer_timeout_ns: 5 * MS,
            lease_ns: MS,
            slice_regions: 16,
            ..StoreConfig::default()
        }
    }

    pub(crate) fn client(&self) -> ClientConfig {
        ClientConfig {
            requests_max: 2,
            request_shift_max: 8,
            tick_ns: TICK_NS,
            leg_timeout_ns: NEVER / 16,
            retry_ns: MS,
            beat_ns: MS,
            rejoin_ns: MS,
            // Out of reach: else an outsider's greater promise starts a new generation at once.
            rejoin_max_ns: 1_000 * MS,
            flush_ns: NEVER,
            command_ns: NEVER,
            ..ClientConfig::default()
        }
    }

    /// The worlds by name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|config| config.name == name)
    }

    /// All of them, the smallest first.
    pub fn all() -> Vec<Self> {
        let two = |name, blocks, budget| Self {
            name,
            members: 2,
            blocks,
            region_shift: 1,
            budget,
            in_order: true,
            prompt_disks: true,
        };
        let none = Budget::default();
        vec![
            Self { in_order: false, ..two("any-order", 1, Budget { writes: 2, doubles: 1, ..none }) },
            Self { in_order: false, ..two("any-drop", 1, Budget { writes: 1, drops: 1, ..none }) },
            two("drop", 1, Budget { writes: 1, drops: 1, client_crashes: 1, ghosts: 1, ticks: 1, ..none }),
            two("kill", 1, Budget { writes: 1, kills: 1, client_crashes: 1, ticks: 3, ..none }),
            two("power", 1, Budget { writes: 1, powers: 2, client_crashes: 1, ticks: 2, ..none }),
            two("flush", 1, Budget { writes: 1, flushes: 1, powers: 1, drops: 1, ticks: 2, ..none }),
            two("ghost", 1, Budget { writes: 2, drops: 1, ghosts: 1, ..none }),
            two("two-clients", 1, Budget { writes: 2, takeovers: 1, ghosts: 1, ticks: 1, ..none }),
            two("return", 1, Budget { writes: 1, drops: 2, ticks: 4, ..none }),
            two(
                "late-return",
                1,
                Budget { writes: 1, drops: 1, ghosts: 1, client_crashes: 1, ticks: 2, ..none },
            ),
            two("clear", 1, Budget { writes: 1, flushes: 1, drops: 1, ticks: 3, ..none }),
            two("copy", 1, Budget { writes: 1, drops: 1, powers: 1, ticks: 3, ..none }),
            two("chunks", 2, Budget { wide_writes: 1, writes: 1, drops: 2, ticks: 2, ..none }),
            Self {
                prompt_disks: false,
                ..two("slow-disks", 1, Budget { writes: 1, client_crashes: 1, ticks: 1, ..none })
            },
            Self { members: 3, ..two("three", 1, Budget { writes: 1, drops: 2, ticks: 2, ..none }) },
        ]
    }
}
