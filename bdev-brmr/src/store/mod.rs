//! The storage side: stores on bdevs.
//!
//! `stores` what there is, and what a call does · `rpc` the methods · `show` what they answer · `error`.

mod error;
mod rpc;
mod show;
mod stores;

pub use error::StoresError;
pub use rpc::register;
pub use stores::{AddStore, CreateStore, Home, Stores, SyncLimit};
