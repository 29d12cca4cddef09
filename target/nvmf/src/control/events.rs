//! Asynchronous events: what happened, who asked to be told, what was told already (base 5.2).
//!
//! An event is told once; then it is masked until the host has read its log page. What happens meanwhile is told after that.

use super::EVENT_REQUESTS_MAX;
use std::collections::VecDeque;
use tgt_nvme::feature::event::{ANA, DISCOVERY, NAMESPACE};
use tgt_nvme::{log, status};
use tgt_status::IoStatus;

/// Events and requests of one controller.
#[derive(Clone, Debug)]
pub struct Events {
    /// Numbers of the commands that wait, oldest first.
    requests: VecDeque<u16>,
    /// What the host wants to be told.
    config: u32,
    pending: u32,
    masked: u32,
}

impl Events {
    /// Those of `config` are told.
    #[must_use]
    pub fn new(config: u32) -> Events {
        let requests = VecDeque::with_capacity(EVENT_REQUESTS_MAX);
        Events { requests, config, pending: 0, masked: 0 }
    }

    /// What the host wants to be told.
    #[must_use]
    pub fn config(&self) -> u32 {
        self.config
    }

    /// The host wants these.
    pub fn configure(&mut self, config: u32) {
        self.config = config;
        self.pending &= config;
    }

    /// A request to be told.
    ///
    /// # Errors
    /// The status for one too many.
    pub fn request(&mut self, cid: u16) -> Result<(), IoStatus> {
        if self.requests.len() == EVENT_REQUESTS_MAX {
            return Err(status::EVENT_LIMIT_EXCEEDED);
        }
        self.requests.push_back(cid);
        Ok(())
    }

    /// Something happened.
    pub fn raise(&mut self, events: u32) {
        self.pending |= events & self.config;
    }

    /// The next completion of a request, if there is one: its number and its value.
    pub fn take_next(&mut self) -> Option<(u16, u64)> {
        let ready = self.pending & !self.masked;
        let event = [NAMESPACE, ANA, DISCOVERY].into_iter().find(|event| ready & event != 0)?;
        let cid = self.requests.pop_front()?;
        self.pending &= !event;
        self.masked |= event;
        Some((cid, value(event)))
    }

    /// The host has read the page of these events.
    pub fn page_was_read(&mut self, events: u32) {
        self.masked &= !events;
    }

    /// Takes a request back: it was aborted.
    #[must_use]
    pub fn abort(&mut self, cid: u16) -> bool {
        let before = self.requests.len();
        self.requests.retain(|request| *request != cid);
        self.requests.len() < before
    }

    /// Takes all requests back, and forgets what happened: the controller was reset.
    pub fn reset(&mut self) -> impl Iterator<Item = u16> + '_ {
        (self.pending, self.masked) = (0, 0);
        self.requests.drain(..)
    }
}

/// Type, information and log page of an event (base figures 146, 149).
fn value(event: u32) -> u64 {
    const NOTICE: u64 = 2;
    let (information, page) = match event {
        NAMESPACE => (0x00, log::id::CHANGED_NAMESPACES),
        ANA => (0x03, log::id::ANA),
        _ => (0xf0, log::id::DISCOVERY),
    };
    NOTICE | information << 8 | u64::from(page) << 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_told_once_until_its_page_was_read() {
        let mut events = Events::new(NAMESPACE | ANA);
        events.raise(NAMESPACE | DISCOVERY);
        assert_eq!(events.take_next(), None, "nobody asked");
        (1..=4).for_each(|cid| events.request(cid).expect("room"));
        assert_eq!(events.request(5), Err(status::EVENT_LIMIT_EXCEEDED));
        assert_eq!(events.take_next(), Some((1, 0x04_00_02)));
        events.raise(NAMESPACE);
        assert_eq!(events.take_next(), None, "its page was not read");
        events.raise(ANA);
        assert_eq!(events.take_next(), Some((2, 0x0c_03_02)));
        events.page_was_read(NAMESPACE);
        assert_eq!(events.take_next(), Some((3, 0x04_00_02)), "what happened meanwhile");
        assert_eq!(events.take_next(), None);
    }

    #[test]
    fn requests_can_be_taken_back_and_events_switched_off() {
        let mut events = Events::new(NAMESPACE);
        events.request(1).expect("room");
        events.request(2).expect("room");
        assert!(events.abort(1) && !events.abort(1));
        events.raise(NAMESPACE);
        events.configure(0);
        assert_eq!(events.take_next(), None);
        assert_eq!(events.reset().collect::<Vec<_>>(), [2]);
    }
}
