//! The storage side: stores on bdevs, one [`Node`] per reactor.
//!
//! ```text
//!  sessions ─ requests ─▶ node ─ by pool ─▶ driver ─ events ─▶ engine (`rmr_engine::store::Store`)
//!      ▲                                      │ ◀── actions ───────┘
//!      ├───── answers, letters collected ─────┤
//!      └───── letters to members (links) ◀────┤
//!                                             └──▶ disk (io channel of the bdev)
//! ```
//! Here: `node` the poller and what control threads ask it · `driver` one store: events in, actions out · `asks`
//! requests not answered yet · `mail` between the reactors of a node · `buffers` the engine's numbers · `clients` letters to be collected · `links` ways to the
//! other members · `disk` the bdev · `place` where things lie on it · `ranges` IO of control threads · `image` making a
//! store and opening one · `status`.

mod asks;
mod buffers;
mod clients;
mod disk;
mod driver;
mod image;
mod links;
mod mail;
mod node;
mod place;
mod ranges;
mod status;

pub use image::{
    BDEV_BLOCK_MAX, CHUNK_BYTES_DEFAULT, Found, ImageError, NewStore, OpenOptions, OpenedStore, boot_number,
    create, found, open, wipe,
};
pub use links::{LinkStatus, Peers};
pub use node::{Closed, Node, NodeError, StoreKey};
pub use place::{DATA_ALIGN, area_bytes, capacity, data_offset};
pub use ranges::{RangeError, RangeJob};
pub use status::{EngineStatus, Phase, StoreStatus};
