//! Status codes that only commands of a host meet (base figures 95 to 102), beside those of `tgt-status`.

use tgt_status::IoStatus;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $sct:literal, $sc:literal;)*) => {
        $($(#[$doc])* pub const $name: IoStatus = IoStatus::new($sct, $sc);)*
    };
}

codes! {
    /// Its number is in use by another command.
    COMMAND_ID_CONFLICT = 0, 0x03;
    /// The other command of a fused pair has failed.
    ABORTED_FAILED_FUSED = 0, 0x09;
    /// The other command of a fused pair is missing.
    ABORTED_MISSING_FUSED = 0, 0x0a;
    /// No such namespace.
    INVALID_NAMESPACE = 0, 0x0b;
    /// The order of commands is wrong.
    COMMAND_SEQUENCE_ERROR = 0, 0x0c;
    /// The data's length is not the command's.
    DATA_SGL_LENGTH_INVALID = 0, 0x0f;
    /// A data pointer of this kind is not accepted.
    SGL_TYPE_INVALID = 0, 0x11;
    /// The data does not begin where it must.
    SGL_OFFSET_INVALID = 0, 0x16;
    /// The keep-alive timer has run out.
    KEEP_ALIVE_EXPIRED = 0, 0x1d;
    /// Data was damaged on its way; the same command may succeed.
    TRANSIENT_TRANSPORT_ERROR = 0, 0x22;
    /// No such queue.
    INVALID_QUEUE_ID = 1, 0x01;
    /// More asynchronous event requests than are accepted.
    EVENT_LIMIT_EXCEEDED = 1, 0x05;
    /// No such log page.
    INVALID_LOG_PAGE = 1, 0x09;
    /// The feature cannot be saved.
    FEATURE_NOT_SAVEABLE = 1, 0x0d;
    /// The feature cannot be changed.
    FEATURE_NOT_CHANGEABLE = 1, 0x0e;
    /// Connect: this format is not known.
    CONNECT_INCOMPATIBLE_FORMAT = 1, 0x80;
    /// Connect: the controller has a queue of this number, or there is no controller left.
    CONNECT_CONTROLLER_BUSY = 1, 0x81;
    /// Connect: a parameter is wrong; the completion says which.
    CONNECT_INVALID_PARAMETERS = 1, 0x82;
    /// Connect: this host may not.
    CONNECT_INVALID_HOST = 1, 0x84;
    /// Disconnect: not on this queue.
    INVALID_QUEUE_TYPE = 1, 0x85;
    /// The path does not lead to the namespace, and will not again.
    ANA_PERSISTENT_LOSS = 3, 0x01;
    /// The path does not lead to the namespace now; others may.
    ANA_INACCESSIBLE = 3, 0x02;
    /// The path is changing.
    ANA_TRANSITION = 3, 0x03;
}
