//! A receiver of frames as a driver has it: bytes in any pieces, data straight to where it belongs.

use tgt_rtrs::codec::{self, Expect, HEAD, Opened};
use tgt_rtrs::frame::Frame;
use tgt_rtrs::{Fault, crc32c};

/// A frame whose data is on its way.
struct Current<D> {
    frame: Frame,
    user: Vec<u8>,
    left: usize,
    digest: Option<u32>,
    data: Vec<u8>,
    /// What the owner said at its header.
    note: D,
}

pub(crate) struct Receiver<D> {
    pub(crate) expect: Expect,
    bytes: Vec<u8>,
    current: Option<Current<D>>,
}

/// A frame that came whole.
pub(crate) struct Whole<D> {
    pub(crate) frame: Frame,
    pub(crate) user: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) note: D,
}

impl<D> Receiver<D> {
    pub(crate) fn new(expect: Expect) -> Self {
        Self { expect, bytes: Vec::new(), current: None }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What the owner said of the frame under way, when the connection ends in it.
    pub(crate) fn abandon(&mut self) -> Option<D> {
        self.bytes.clear();
        self.current.take().map(|current| current.note)
    }

    /// The next frame, if it is there; `on_header` is asked once for each.
    pub(crate) fn next(
        &mut self,
        on_header: impl FnOnce(&Frame, &[u8]) -> D,
    ) -> Result<Option<Whole<D>>, Fault> {
        if self.current.is_none() {
            let Opened::Frame { frame, head, data, digest } = codec::open(&self.bytes, &self.expect)? else {
                return Ok(None);
            };
            let user = self.bytes[HEAD..head].to_vec();
            self.bytes.drain(..head);
            let note = on_header(&frame, &user);
            self.current = Some(Current { frame, user, left: data, digest, data: Vec::new(), note });
        }
        let current = self.current.as_mut().expect("just made");
        let now = current.left.min(self.bytes.len());
        current.data.extend(self.bytes.drain(..now));
        current.left -= now;
        if current.left > 0 {
            return Ok(None);
        }
        let Current { frame, user, data, digest, note, .. } = self.current.take().expect("just there");
        if digest.is_some_and(|digest| digest != crc32c(&data)) {
            return Err(Fault::Digest);
        }
        Ok(Some(Whole { frame, user, data, note }))
    }
}
