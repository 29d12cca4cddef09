//! From bytes to keys, codes against the standard and against an oracle, and texts that hold no key.

use super::{Folder, key_bytes};
use crate::{Key, KeyFault, Keyring};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::io::Write;
use std::sync::{Arc, Mutex};
use zeroize::Zeroizing;

fn parse(bytes: &[u8]) -> Result<Key, KeyFault> {
    Key::parse(Zeroizing::new(bytes.to_vec()))
}

fn taken(bytes: &[u8]) -> Vec<u8> {
    parse(bytes).expect("a key").expose().to_vec()
}

#[test]
fn the_end_of_a_line_of_text_is_no_part_of_the_key() {
    let text = b"NVMeTLSkey-1:01:AAAA:".as_slice();
    for end in [b"".as_slice(), b"\n", b"\r\n"] {
        assert_eq!(taken(&[text, end].concat()), text, "{end:?}");
    }
    assert_eq!(taken(b"sixteen   spaces\n"), b"sixteen   spaces");
    assert_eq!(parse(b"fifteen letters\n").expect_err("short"), KeyFault::Short { bytes: 15 });
}

#[test]
fn what_is_not_one_line_of_text_is_taken_to_the_last_byte() {
    let text = b"a line of some letters";
    let raw = [0x80; 16];
    for bytes in [
        // Random bytes that happen to end like a line.
        [&key_bytes(31)[..], b"\n"].concat(),
        [&text[..], b"\n\n"].concat(),
        [&text[..], b"\n", text, b"\n"].concat(),
        [&text[..], b"\r"].concat(),
        [&text[..], b"\t\n"].concat(),
        [&text[..], &raw, b"\n"].concat(),
        [b"\n", &text[..]].concat(),
    ] {
        assert_eq!(taken(&bytes), bytes);
    }
}

/// RFC 4231, test case 4: the one whose key is of a length and of a kind that is taken here.
#[test]
fn the_code_is_that_of_the_standard() {
    let key: Vec<u8> = (1..=25).collect();
    let mac = parse(&key).expect("a key").hmac_sha256(&[&[0xcd; 50]]);
    let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
}

/// By the definition in RFC 2104: H(K xor opad, H(K xor ipad, text)).
fn oracle(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    match key.len() {
        0..=64 => block[..key.len()].copy_from_slice(key),
        _ => block[..32].copy_from_slice(&Sha256::digest(key)),
    }
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

proptest! {
    #[test]
    fn the_code_is_that_of_the_definition_and_no_other_is_accepted(
        key in proptest::collection::vec(any::<u8>(), 17..200),
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..4),
        wrong_bit in 0_usize..256,
    ) {
        let Ok(parsed) = parse(&key) else { return Ok(()) };
        let refs: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let mut mac = parsed.hmac_sha256(&refs);
        prop_assert_eq!(mac, oracle(parsed.expose(), &parts.concat()));
        prop_assert!(parsed.verify_hmac_sha256(&refs, &mac));
        mac[wrong_bit / 8] ^= 1 << (wrong_bit % 8);
        prop_assert!(!parsed.verify_hmac_sha256(&refs, &mac));
    }

    #[test]
    fn any_bytes_keep_the_promises_of_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
        crate::fuzz::key_file(&bytes);
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("one thread").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn no_log_debug_text_or_error_holds_a_key() {
    let (folder, log) = (Folder::new(), Log::default());
    let secret = "VerySecretLineOfText";
    let into = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || into.clone())
        .finish();
    let mut texts = Vec::new();
    tracing::subscriber::with_default(subscriber, || {
        let path = folder.file("key", secret.as_bytes());
        let short = folder.file("short", &secret.as_bytes()[..15]);
        let mut registry = rpc_registry::Registry::new();
        let keyring = Keyring::new();
        let subsystem = crate::rpc::register(&mut registry, &keyring);
        registry.enter_runtime();
        for path in [&path, &path, &short] {
            let params = serde_json::json!({"name": "key0", "path": path});
            texts.push(format!("{:?}", registry.call_value("keyring_file_add_key", Some(&params))));
        }
        let user = keyring.get("key0").expect("there");
        let key = user.load().expect("read");
        texts.push(format!("{keyring:?} {user:?} {key:?} {key:#?} {:?}", subsystem.saved()));
        texts.push(format!("{:?}", registry.call_value("keyring_get_keys", None)));
        keyring.remove("key0").expect("there");
        texts.push(format!("{:?}", user.load().map(drop)));
    });
    texts.push(String::from_utf8(log.0.lock().expect("the log").clone()).expect("text"));
    let all = texts.join("\n");
    assert!(all.contains("key added") && all.contains("Key(\"key0\", redacted)"), "it is looked at: {all}");
    // As text, as a list of bytes, as hexadecimal digits.
    let bytes = &secret.as_bytes()[..15];
    let list = format!("{bytes:?}");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    for form in ["VerySecret", list.trim_matches(['[', ']']), &hex, &hex.to_uppercase()] {
        assert!(!all.contains(form), "{form}: {all}");
    }
}
