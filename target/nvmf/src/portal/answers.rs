//! Bytes out: completions, data, requests for data.

use super::Core;
use super::conn::{Conn, State};
use crate::codec::encode;
use crc_fast::{CrcAlgorithm, Digest};
use tgt_bdev::Bufs;
use tgt_nvme::log::{ErrorEntry, discovery};
use tgt_nvme::zerocopy::FromZeros;
use tgt_nvme::zerocopy::little_endian::{U16, U32, U64};
use tgt_nvme::{Command, Completion, status};
use tgt_sock::{Payload, Refused, Stream};
use tgt_status::IoStatus;

/// Commands of path errors are retried over other paths, and are no errors of the controller.
const PATH: u8 = 3;

impl Core {
    /// A completion with a value.
    pub(super) fn respond(
        &mut self,
        conn: &mut Conn,
        stream: &mut Stream<'_>,
        command: &Command,
        status: IoStatus,
        value: u64,
    ) {
        let mut completion = Completion::new(command.cid.get(), status, is_final(status));
        (completion.dw0, completion.dw1) = (U32::new(value as u32), U32::new((value >> 32) as u32));
        if let Some(queue) = &mut conn.queue {
            if queue.flow_control {
                queue.head = if queue.head + 1 >= queue.entries { 0 } else { queue.head + 1 };
                completion.sq_head = U16::new(queue.head);
            }
            if !status.is_ok() && status.sct() != PATH {
                let entry = error_entry(queue.qid, command, &completion);
                queue.controller.log_error(entry);
            }
        }
        let head = encode::response(&conn.agreed, completion);
        sent(stream.send(head.bytes()), stream);
    }

    /// Data that was copied, and its completion: of admin commands.
    pub(super) fn respond_with(
        &mut self,
        conn: &mut Conn,
        stream: &mut Stream<'_>,
        command: &Command,
        data: &[u8],
    ) {
        if !data.is_empty() {
            let head = encode::data(&conn.agreed, command.cid.get(), data.len() as u32, false);
            sent(stream.send(head.bytes()), stream);
            sent(stream.send(data), stream);
            if conn.agreed.data_digest {
                sent(stream.send(&crate::codec::crc32c(data).to_le_bytes()), stream);
            }
        }
        self.respond(conn, stream, command, IoStatus::SUCCESS, 0);
    }

    /// What a read gave, from the memory it gave it in, and the completion, in one if the host takes that.
    pub(super) fn respond_read(&mut self, conn: &mut Conn, stream: &mut Stream<'_>, slot: u16, bufs: Bufs) {
        let command = conn.slot(slot).command;
        let len = bufs.len();
        let flow_control = conn.queue.as_ref().is_none_or(|queue| queue.flow_control);
        let success = self.options.c2h_success && !flow_control;
        let head = encode::data(&conn.agreed, command.cid.get(), len, success);
        let digest = conn.agreed.data_digest.then(|| crc_of(&bufs, 0, len).to_le_bytes());
        if let Err((refused, payload)) = stream.send_with(head.bytes(), Payload::whole(bufs, 0)) {
            self.memory.give(payload.bufs);
            return sent(Err(refused), stream);
        }
        if let Some(digest) = digest {
            sent(stream.send(&digest), stream);
        }
        if !success {
            self.respond(conn, stream, &command, IoStatus::SUCCESS, 0);
        }
    }

    /// Asks the host for all of a command's data, which has memory now.
    pub(super) fn request_data(&mut self, conn: &mut Conn, stream: &mut Stream<'_>, slot: u16) {
        let of = conn.slot(slot);
        of.state = State::Receiving;
        let (cid, bytes) = (of.command.cid.get(), of.plan.bytes);
        let head = encode::ready_to_transfer(&conn.agreed, cid, slot, 0, bytes);
        sent(stream.send(head.bytes()), stream);
    }

    /// Answers a command that has a place, and frees that.
    pub(super) fn finish(&mut self, conn: &mut Conn, stream: &mut Stream<'_>, slot: u16, status: IoStatus) {
        let command = conn.slot(slot).command;
        let bufs = conn.release(slot);
        self.memory.give(bufs);
        self.counts.completed += 1;
        self.respond(conn, stream, &command, status, 0);
    }
}

/// A queue of answers that is full has a host that sends more than it may, or takes nothing: its connection ends. One that is
/// ending says so itself.
pub(super) fn sent(result: Result<(), Refused>, stream: &mut Stream<'_>) {
    if result == Err(Refused::Full) {
        stream.abort();
    }
}

/// CRC32C of a part of a buffer.
pub(super) fn crc_of(bufs: &Bufs, offset: u32, len: u32) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    // By way of the first-level cache: memory that others may write is never looked at in place.
    let mut window = [0; 4096];
    let mut at = 0;
    while at < len {
        let now = (len - at).min(window.len() as u32);
        bufs.copy_to_slice(offset + at, &mut window[..now as usize]);
        digest.update(&window[..now as usize]);
        at += now;
    }
    digest.finalize() as u32
}

/// Whether the same command would end the same way again.
fn is_final(status: IoStatus) -> bool {
    const FINAL: [IoStatus; 12] = [
        IoStatus::INVALID_OPCODE,
        IoStatus::INVALID_FIELD,
        IoStatus::INVALID_NAMESPACE,
        IoStatus::WRITE_PROTECTED,
        IoStatus::LBA_OUT_OF_RANGE,
        IoStatus::COMPARE_FAILURE,
        status::COMMAND_SEQUENCE_ERROR,
        status::DATA_SGL_LENGTH_INVALID,
        status::SGL_TYPE_INVALID,
        status::SGL_OFFSET_INVALID,
        status::INVALID_QUEUE_TYPE,
        status::ANA_PERSISTENT_LOSS,
    ];
    // What is wrong with a command by itself (command specific) stays wrong, but for a controller that is busy.
    FINAL.contains(&status) || (status.sct() == 1 && status != status::CONNECT_CONTROLLER_BUSY)
}

fn error_entry(qid: u16, command: &Command, completion: &Completion) -> ErrorEntry {
    const NO_LOCATION: u16 = 0xffff;
    let mut entry = ErrorEntry::new_zeroed();
    (entry.sq_id, entry.cid) = (U16::new(qid), command.cid);
    (entry.status_field, entry.location) = (completion.status_field, U16::new(NO_LOCATION));
    (entry.nsid, entry.transport) = (command.nsid, discovery::TCP);
    if qid > 0 {
        entry.lba = U64::new(command.lba());
    }
    entry
}
