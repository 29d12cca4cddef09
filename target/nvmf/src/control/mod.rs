//! One controller as its host sees it: what the admin queue answers. Pure, but for looks into the tables.
//!
//! `connect` who comes in · `registers` properties · `identify`, `logs`, `discovery` pages · `features` · `events`. An [`Admin`] belongs to the
//! reactor of its admin queue; it is told of a command and says what to answer. It moves no bytes and knows no connection.

pub mod connect;
mod discovery;
mod events;
mod features;
mod identify;
mod logs;
mod registers;
#[cfg(test)]
mod tests;

pub use events::Events;
pub use registers::{Change, Registers};

use crate::model::{Controller, ControllerKind, Tables};
use crate::options::TransportOptions;
use features::Features;
use std::net::SocketAddr;
use std::sync::Arc;
use tgt_nvme::command::admin;
use tgt_nvme::{Command, feature, log, status};
use tgt_status::IoStatus;

/// Event requests a host may have outstanding.
pub const EVENT_REQUESTS_MAX: usize = 4;

/// What is around a controller.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// Its tables' part.
    pub controller: &'a Arc<Controller>,
    /// The transport's options.
    pub options: &'a TransportOptions,
    /// All there is.
    pub tables: &'a Tables,
    /// Our end of its admin queue's connection.
    pub local: SocketAddr,
}

/// What a command gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// A completion with this value.
    Done(u64),
    /// Data and a completion.
    Data(Vec<u8>),
    /// Nothing now: it is an event request.
    Pends,
    /// A completion; and this command is to be aborted, if it can be.
    Abort {
        /// Queue.
        qid: u16,
        /// Command.
        cid: u16,
    },
    /// A failure.
    Failed(IoStatus),
}

impl From<Result<u64, IoStatus>> for Answer {
    fn from(result: Result<u64, IoStatus>) -> Answer {
        result.map_or_else(Answer::Failed, Answer::Done)
    }
}

impl From<Result<Vec<u8>, IoStatus>> for Answer {
    fn from(result: Result<Vec<u8>, IoStatus>) -> Answer {
        result.map_or_else(Answer::Failed, Answer::Data)
    }
}

/// The state of a controller that its admin queue owns.
#[derive(Debug)]
pub struct Admin {
    /// Properties.
    pub registers: Registers,
    /// Events and who asked for them.
    pub events: Events,
    features: Features,
}

impl Admin {
    /// A controller that was just connected to; `kato_ms` as it was granted.
    #[must_use]
    pub fn new(around: Around<'_>, kato_ms: u32) -> Admin {
        let discovery = around.controller.kind == ControllerKind::Discovery;
        let config = oaes(around);
        Admin {
            registers: Registers::new(around.options, discovery),
            events: Events::new(config),
            features: Features::new(kato_ms),
        }
    }

    /// Keep-alive timeout in force, ms; 0: none.
    #[must_use]
    pub fn kato_ms(&self) -> u32 {
        self.features.kato_ms()
    }

    /// What an admin command gets. `data`: what came with it.
    pub fn on_command(&mut self, around: Around<'_>, command: &Command, data: &[u8]) -> Answer {
        if !self.registers.is_ready() {
            return Answer::Failed(status::COMMAND_SEQUENCE_ERROR);
        }
        let discovery = around.controller.kind == ControllerKind::Discovery;
        match command.opcode {
            admin::IDENTIFY => identify::answer(around, command).into(),
            admin::GET_LOG_PAGE => self.log_page(around, command).into(),
            admin::GET_FEATURES => self.features.get(around, &self.events, command),
            admin::SET_FEATURES => self.set_feature(around, command, data).into(),
            admin::ASYNC_EVENT_REQUEST => match self.events.request(command.cid.get()) {
                Ok(()) => Answer::Pends,
                Err(status) => Answer::Failed(status),
            },
            admin::KEEP_ALIVE => Answer::Done(0),
            admin::ABORT if !discovery => {
                let named = command.cdw10.get();
                Answer::Abort { qid: named as u16, cid: (named >> 16) as u16 }
            }
            _ => Answer::Failed(IoStatus::INVALID_OPCODE),
        }
    }

    fn set_feature(&mut self, around: Around<'_>, command: &Command, data: &[u8]) -> Result<u64, IoStatus> {
        let id = command.cdw10.get() as u8;
        if id == feature::ASYNC_EVENT_CONFIG && command.cdw10.get() >> 31 == 0 {
            // Bits of events that there are none of are kept out silently, as hosts set what they know.
            self.events.configure(command.cdw11.get() & oaes(around));
            return Ok(0);
        }
        self.features.set(around, command, data)
    }

    fn log_page(&mut self, around: Around<'_>, command: &Command) -> Result<Vec<u8>, IoStatus> {
        let page = logs::answer(around, command)?;
        const RETAIN: u32 = 1 << 15;
        if command.cdw10.get() & RETAIN == 0 {
            let event = match command.cdw10.get() as u8 {
                log::id::CHANGED_NAMESPACES => feature::event::NAMESPACE,
                log::id::ANA => feature::event::ANA,
                log::id::DISCOVERY => feature::event::DISCOVERY,
                _ => 0,
            };
            self.events.page_was_read(event);
        }
        Ok(page)
    }
}

/// Events that a controller tells of.
fn oaes(around: Around<'_>) -> u32 {
    if around.controller.kind == ControllerKind::Discovery {
        return feature::event::DISCOVERY;
    }
    let ana = if around.controller.subsystem.spec.ana_reporting { feature::event::ANA } else { 0 };
    feature::event::NAMESPACE | ana
}

/// The first bytes of a page, from `offset` on, filled with zeroes up to what was asked for.
fn part(page: &[u8], offset: usize, len: usize) -> Vec<u8> {
    let mut part: Vec<u8> = page.iter().skip(offset).take(len).copied().collect();
    part.resize(len, 0);
    part
}
