//! Real sockets under a real reactor.

mod chaos;
mod ends;
mod idle;
mod listeners;
mod messages;
mod pressure;
mod rig;
