//! Compute clients of a store, by nonce, and the letters that wait for them.

use super::mail::{Arrived, LaneAt};
use std::collections::VecDeque;

/// Most letters that wait for one client; then the oldest goes, and the protocol asks again.
const LETTERS_MAX: usize = 64;
/// Most bytes of them.
const LETTER_BYTES_MAX: usize = 4 << 20;
/// Most clients that are remembered.
const CLIENTS_MAX: usize = 64;
/// Letters kept for their memory, of at most so many bytes each.
const SPARE: (usize, usize) = (16, 4096);

#[derive(Debug)]
struct Client {
    /// What the engine calls it. Never used again for another.
    no: u32,
    nonce: u64,
    /// What it asked for letters with.
    collect: Option<Arrived>,
    letters: VecDeque<Vec<u8>>,
    /// Bytes of them.
    bytes: usize,
}

/// Clients of a store, the one heard last first.
#[derive(Debug, Default)]
pub(super) struct Clients {
    list: VecDeque<Client>,
    made: u32,
    spare: Vec<Vec<u8>>,
    dropped: u64,
}

impl Clients {
    /// What the engine calls the client with this nonce, which has just been heard.
    pub(super) fn number(&mut self, nonce: u64) -> u32 {
        match self.list.iter().position(|client| client.nonce == nonce) {
            Some(0) => {}
            Some(at) => {
                let client = self.list.remove(at).expect("just found");
                self.list.push_front(client);
            }
            None => {
                self.made += 1;
                let no = self.made;
                self.list.push_front(Client { no, nonce, collect: None, letters: VecDeque::new(), bytes: 0 });
            }
        }
        self.list[0].no
    }

    /// More clients than are remembered: the one heard longest ago for which `may_go` goes; what it asked letters with
    /// is to be answered.
    pub(super) fn forget(&mut self, may_go: impl Fn(u32) -> bool) -> Option<Arrived> {
        if self.list.len() <= CLIENTS_MAX {
            return None;
        }
        let at = self.list.iter().rposition(|client| may_go(client.no))?;
        self.list.remove(at)?.collect
    }

    /// An empty letter, to be written.
    pub(super) fn blank(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn recycle(&mut self, mut letter: Vec<u8>) {
        if self.spare.len() < SPARE.0 && letter.capacity() <= SPARE.1 {
            letter.clear();
            self.spare.push(letter);
        }
    }

    /// A letter for a client. To one that is forgotten it goes nowhere.
    pub(super) fn post(&mut self, no: u32, letter: Vec<u8>) {
        let Some(client) = self.list.iter_mut().find(|client| client.no == no) else { return };
        client.bytes += letter.len();
        client.letters.push_back(letter);
        while client.letters.len() > LETTERS_MAX || client.bytes > LETTER_BYTES_MAX {
            let Some(oldest) = client.letters.pop_front() else { break };
            client.bytes -= oldest.len();
            self.dropped += 1;
        }
    }

    /// The client asks for letters; what it asked with before comes back, to be answered with nothing.
    pub(super) fn collect(&mut self, no: u32, arrived: Arrived) -> Option<Arrived> {
        let client = self.list.iter_mut().find(|client| client.no == no)?;
        client.collect.replace(arrived)
    }

    /// A request for letters that can be answered: with this letter, or with how long it is, if it has no room for it.
    pub(super) fn deliver(
        &mut self,
        no: u32,
        room: impl Fn(&Arrived) -> usize,
    ) -> Option<(Arrived, Result<Vec<u8>, usize>)> {
        let client = self.list.iter_mut().find(|client| client.no == no)?;
        let len = client.letters.front()?.len();
        let collect = client.collect.take()?;
        if len > room(&collect) {
            return Some((collect, Err(len)));
        }
        let letter = client.letters.pop_front()?;
        client.bytes -= len;
        Some((collect, Ok(letter)))
    }

    /// A request for letters that came on a lane which is no more.
    pub(super) fn take_of_lane(&mut self, lane: LaneAt) -> Option<Arrived> {
        let of_lane = |arrived: &mut Arrived| arrived.lane() == lane;
        self.list.iter_mut().find_map(|client| client.collect.take_if(of_lane))
    }

    /// Any request for letters; no letter is given out any more.
    pub(super) fn take_any(&mut self) -> Option<Arrived> {
        self.list.iter_mut().find_map(|client| client.collect.take())
    }

    /// Clients, and letters dropped because none came for them.
    pub(super) fn figures(&self) -> (usize, u64) {
        (self.list.len(), self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_bounded_in_number_and_bytes_and_the_oldest_goes() {
        let mut clients = Clients::default();
        let no = clients.number(7);
        (0..100u8).for_each(|at| clients.post(no, vec![at]));
        assert_eq!(clients.list[0].letters.len(), LETTERS_MAX);
        assert_eq!((clients.list[0].letters[0][0], clients.figures().1), (36, 36));
        clients.post(no, vec![0; LETTER_BYTES_MAX - 10]);
        assert_eq!((clients.list[0].letters.len(), clients.list[0].bytes), (11, LETTER_BYTES_MAX));
    }

    #[test]
    fn a_client_keeps_its_number_and_a_forgotten_one_gets_another() {
        let mut clients = Clients::default();
        let first = clients.number(1);
        assert_eq!([clients.number(2), clients.number(1)], [2, first]);
        for nonce in 3..=CLIENTS_MAX as u64 {
            clients.number(nonce);
            assert!(clients.forget(|_| true).is_none());
        }
        clients.number(CLIENTS_MAX as u64 + 1);
        // Nonce 2 was heard longest ago, but has something under way; then it is 1's turn.
        clients.forget(|no| no != 2);
        assert_eq!(clients.number(2), 2);
        assert_ne!(clients.number(1), first);
    }
}
