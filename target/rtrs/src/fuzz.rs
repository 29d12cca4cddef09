//! What the fuzz target of this crate runs: any bytes as a stream of frames.

use crate::codec::{self, Expect, HEAD, Opened, Side};
use crate::crc32c;
use crate::frame::{DATA_MAX, Frame, USER_MAX};

/// Takes the bytes as a stream of each side, as they are and with their checksums put right, before and after the
/// hand-shake.
///
/// # Panics
/// If the decoder breaks a promise: a frame that is not said again in the same bytes, or a length beyond the limits.
pub fn frames(data: &[u8]) {
    for from in [Side::Client, Side::Server] {
        let hand = Expect::hand(from);
        let plain = Expect { from, hand: false, digest: false, user_max: USER_MAX, data_max: DATA_MAX };
        for expect in
            [hand, plain, Expect { digest: true, ..plain }, Expect { user_max: 8, data_max: 9, ..plain }]
        {
            stream(data, &expect);
            stream(&mended(data), &expect);
        }
    }
}

fn stream(mut bytes: &[u8], expect: &Expect) {
    loop {
        match codec::open(bytes, expect) {
            Err(error) => return assert!(error.to_string().contains(": "), "{error:?} explains nothing"),
            Ok(Opened::Short(need)) => {
                assert!(
                    need > bytes.len() && need <= HEAD + usize::from(USER_MAX),
                    "{need} of {}",
                    bytes.len()
                );
                return;
            }
            Ok(Opened::Frame { frame, head, data, digest }) => {
                said_again(&frame, &bytes[..head], digest);
                assert!(data <= expect.data_max as usize && head - HEAD <= usize::from(USER_MAX));
                let Some(rest) = bytes.get(head + data..) else { return };
                bytes = rest;
            }
        }
    }
}

fn said_again(frame: &Frame, bytes: &[u8], digest: Option<u32>) {
    match frame {
        Frame::Hand(hand) => assert_eq!(codec::encode_hand(hand), bytes, "{frame:?}"),
        frame => assert_eq!(codec::head_of(frame, &bytes[HEAD..], digest), bytes[..HEAD], "{frame:?}"),
    }
}

/// The same stream with magic and checksums put right, as a peer that means harm would send it.
fn mended(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + HEAD) {
        let user = usize::from(u16::from_le_bytes([head[6], head[7]]));
        let long = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let end = (at + HEAD + user).min(bytes.len());
        let user_crc = crc32c(&bytes[at + HEAD..end]);
        let head = &mut bytes[at..at + HEAD];
        head[..4].copy_from_slice(b"RTS1");
        head[16..20].copy_from_slice(&user_crc.to_le_bytes());
        head[12..16].fill(0);
        let crc = crc32c(head);
        head[12..16].copy_from_slice(&crc.to_le_bytes());
        at += HEAD + user + long;
    }
    bytes
}
