//! Bodies of hand-shake frames to bytes and back, and what is proved over them.

use crate::codec::encode_hand;
use crate::error::field;
use crate::frame::{
    Challenge, DATA_MAX, DEPTH_MAX, Hand, Hello, KeyName, Limits, Proof, Refuse, RefuseCause, USER_MAX,
    Welcome,
};
use crate::raw::{RawChallenge, RawHello, RawProof, RawRefuse, RawWelcome};
use crate::{FormatError, Id, Incarnation, Life};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// A secret that two hosts share.
pub trait Secret: Send + Sync {
    /// HMAC-SHA-256 over the parts, one after the other.
    fn hmac_sha256(&self, parts: &[&[u8]]) -> [u8; 32];
}

/// A secret and its name; none = only freshness is proved.
pub struct Key {
    name: KeyName,
    secret: Option<Box<dyn Secret>>,
}

impl Key {
    /// The secret called `name`, which is not empty.
    pub fn new(name: KeyName, secret: Box<dyn Secret>) -> Self {
        assert!(!name.is_none(), "a key has a name");
        Self { name, secret: Some(secret) }
    }

    /// No secret: only freshness is proved.
    pub const NONE: Self = Self { name: KeyName::NONE, secret: None };

    /// Its name; empty if there is none.
    pub fn name(&self) -> KeyName {
        self.name
    }

    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.secret.as_ref().map_or_else(|| freshness(parts), |secret| secret.hmac_sha256(parts))
    }
}

/// Without a key anybody can say this, but only after he has seen both nonces: a stream that was recorded, or that lay
/// somewhere, does not pass for a new one.
fn freshness(parts: &[&[u8]]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum[..4].copy_from_slice(&crate::crc32c(&parts.concat()).to_le_bytes());
    sum
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What was said so far, as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Transcript {
    hello: Vec<u8>,
    challenge: Vec<u8>,
    proof: Vec<u8>,
    host: Id,
}

impl Transcript {
    pub(crate) fn new(hello: Hello, challenge: Challenge) -> Self {
        let host = challenge.host;
        let (hello, challenge) = (Hand::Hello(hello), Hand::Challenge(challenge));
        Self { hello: encode_hand(&hello), challenge: encode_hand(&challenge), proof: Vec::new(), host }
    }

    /// The host that the server says it is.
    pub(crate) fn server_host(&self) -> Id {
        self.host
    }

    /// The client's proof, with its MAC filled in.
    pub(crate) fn prove(&mut self, key: &Key, proof: Proof) -> Proof {
        let proof = Proof { mac: self.proof_mac(key, proof), ..proof };
        self.proof = encode_hand(&Hand::Proof(proof));
        proof
    }

    /// Takes the client's proof, if it is one.
    pub(crate) fn accept(&mut self, key: &Key, proof: Proof) -> bool {
        self.proof = encode_hand(&Hand::Proof(proof));
        same(&self.proof_mac(key, proof), &proof.mac)
    }

    fn proof_mac(&self, key: &Key, proof: Proof) -> [u8; 32] {
        let bare = encode_hand(&Hand::Proof(Proof { mac: [0; 32], ..proof }));
        key.mac(&[b"rtrs client 1", &self.hello, &self.challenge, &bare])
    }

    pub(crate) fn welcome_mac(&self, key: &Key, welcome: Welcome) -> [u8; 32] {
        let bare = encode_hand(&Hand::Welcome(Welcome { mac: [0; 32], ..welcome }));
        key.mac(&[b"rtrs server 1", &self.hello, &self.challenge, &self.proof, &bare])
    }

    pub(crate) fn refuse_mac(&self, key: &Key, why: RefuseCause) -> [u8; 32] {
        let bare = encode_hand(&Hand::Refuse(Refuse { why, mac: [0; 32] }));
        key.mac(&[b"rtrs refuse 1", &self.hello, &self.challenge, &self.proof, &bare])
    }
}

/// Compares without telling by its time where two differ.
pub(crate) fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b))) == 0
}

pub(crate) fn kind(hand: &Hand) -> u8 {
    match hand {
        Hand::Hello(_) => 1,
        Hand::Challenge(_) => 2,
        Hand::Proof(_) => 3,
        Hand::Welcome(_) => 4,
        Hand::Refuse(_) => 5,
    }
}

pub(crate) fn encode(hand: &Hand) -> Vec<u8> {
    match hand {
        Hand::Hello(hello) => raw_hello(hello).as_bytes().to_vec(),
        Hand::Challenge(c) => RawChallenge {
            version: c.version.into(),
            options: u32::from(c.digest).into(),
            host: c.host.0,
            nonce: c.nonce,
            stamp: c.stamp.into(),
            ..RawChallenge::new_zeroed()
        }
        .as_bytes()
        .to_vec(),
        Hand::Proof(proof) => RawProof {
            life: proof.life.map_or(0, |life| life.0).into(),
            create: u32::from(proof.life.is_none()).into(),
            mac: proof.mac,
            ..RawProof::new_zeroed()
        }
        .as_bytes()
        .to_vec(),
        Hand::Welcome(w) => RawWelcome {
            life: w.life.0.into(),
            stamp: w.stamp.into(),
            lease_ns: w.limits.lease_ns.into(),
            data_max: w.limits.data_max.into(),
            user_max: w.limits.user_max.into(),
            depth: w.limits.depth.into(),
            mac: w.mac,
        }
        .as_bytes()
        .to_vec(),
        Hand::Refuse(refuse) => {
            let (code, low, high) = refuse_code(refuse.why);
            let raw = RawRefuse {
                code: code.into(),
                low: low.into(),
                high: high.into(),
                ..RawRefuse::new_zeroed()
            };
            RawRefuse { mac: refuse.mac, ..raw }.as_bytes().to_vec()
        }
    }
}

fn raw_hello(h: &Hello) -> RawHello {
    RawHello {
        version_min: h.version_min.into(),
        version_max: h.version_max.into(),
        lane: h.lane.into(),
        lanes: h.lanes.into(),
        connection: h.connection.into(),
        options: u32::from(h.digest).into(),
        incarnation: h.incarnation.0.into(),
        session: h.session.0,
        path: h.path.0,
        host: h.host.0,
        nonce: h.nonce,
        key: h.key.bytes(),
    }
}

fn raw<T: FromBytes + KnownLayout + Immutable>(what: &'static str, body: &[u8]) -> Result<T, FormatError> {
    T::read_from_bytes(body).or_else(|_| {
        field(what, "length", body.len() as u64, "the size of its struct in docs/111-sessions.md")
    })
}

/// A flag of the peer's: 0 or 1.
fn flag(what: &'static str, name: &'static str, value: u32) -> Result<bool, FormatError> {
    match value {
        0 | 1 => Ok(value == 1),
        _ => field(what, name, u64::from(value), "0 or 1"),
    }
}

/// What must be zero.
fn zero(what: &'static str, value: u64) -> Result<(), FormatError> {
    if value == 0 { Ok(()) } else { field(what, "reserved", value, "0") }
}

pub(crate) fn decode(kind: u8, body: &[u8]) -> Result<Hand, FormatError> {
    Ok(match kind {
        1 => Hand::Hello(hello(&raw::<RawHello>("Hello", body)?)?),
        2 => {
            let r: RawChallenge = raw("Challenge", body)?;
            zero("Challenge", u64::from(r.reserved.get()))?;
            let digest = flag("Challenge", "options", r.options.get())?;
            let (version, stamp) = (r.version.get(), r.stamp.get());
            Hand::Challenge(Challenge { version, digest, host: Id(r.host), nonce: r.nonce, stamp })
        }
        3 => {
            let r: RawProof = raw("Proof", body)?;
            zero("Proof", u64::from(r.reserved.get()))?;
            let life = match (flag("Proof", "create", r.create.get())?, r.life.get()) {
                (true, 0) => None,
                (false, life) if life != 0 => Some(Life(life)),
                (_, life) => return field("Proof", "life", life, "zero with create, another without"),
            };
            Hand::Proof(Proof { life, mac: r.mac })
        }
        4 => Hand::Welcome(welcome(&raw::<RawWelcome>("Welcome", body)?)?),
        5 => {
            let r: RawRefuse = raw("Refuse", body)?;
            zero("Refuse", u64::from(r.reserved.get()))?;
            let why = refuse_cause(r.code.get(), r.low.get(), r.high.get())?;
            Hand::Refuse(Refuse { why, mac: r.mac })
        }
        _ => return field("frame", "kind", u64::from(kind), "1 to 5"),
    })
}

fn hello(r: &RawHello) -> Result<Hello, FormatError> {
    let Some(key) = KeyName::from_bytes(r.key) else {
        return field("Hello", "key", u64::from(r.key[0]), "UTF-8 ended by zeros");
    };
    let (version_min, version_max) = (r.version_min.get(), r.version_max.get());
    if version_min > version_max {
        return field("Hello", "version_min", u64::from(version_min), "at most version_max");
    }
    if r.lane >= r.lanes {
        return field("Hello", "lane", u64::from(r.lane.get()), "below lanes");
    }
    Ok(Hello {
        version_min,
        version_max,
        lane: r.lane.get(),
        lanes: r.lanes.get(),
        connection: r.connection.get(),
        digest: flag("Hello", "options", r.options.get())?,
        incarnation: Incarnation(r.incarnation.get()),
        session: Id(r.session),
        path: Id(r.path),
        host: Id(r.host),
        nonce: r.nonce,
        key,
    })
}

fn welcome(r: &RawWelcome) -> Result<Welcome, FormatError> {
    let (data_max, user_max, depth) = (r.data_max.get(), r.user_max.get(), r.depth.get());
    if r.life == 0 {
        return field("Welcome", "life", 0, "not zero");
    }
    if data_max == 0 || data_max > DATA_MAX {
        return field("Welcome", "data_max", u64::from(data_max), "1 to 8 MiB");
    }
    if user_max > USER_MAX {
        return field("Welcome", "user_max", u64::from(user_max), "0 to 512");
    }
    if depth == 0 || depth > DEPTH_MAX {
        return field("Welcome", "depth", u64::from(depth), "1 to 4096");
    }
    let lease_ns = r.lease_ns.get();
    if !(1..=3_600_000_000_000).contains(&lease_ns) {
        return field("Welcome", "lease_ns", lease_ns, "1 ns to an hour");
    }
    let limits = Limits { lease_ns, data_max, user_max, depth };
    Ok(Welcome { life: Life(r.life.get()), stamp: r.stamp.get(), limits, mac: r.mac })
}

fn refuse_code(why: RefuseCause) -> (u16, u16, u16) {
    match why {
        RefuseCause::Version { low, high } => (1, low, high),
        RefuseCause::Key => (2, 0, 0),
        RefuseCause::KeyNeeded => (3, 0, 0),
        RefuseCause::Unknown => (4, 0, 0),
        RefuseCause::Stale => (5, 0, 0),
        RefuseCause::Draining => (6, 0, 0),
        RefuseCause::Busy => (7, 0, 0),
        RefuseCause::WrongLane => (8, 0, 0),
    }
}

fn refuse_cause(code: u16, low: u16, high: u16) -> Result<RefuseCause, FormatError> {
    Ok(match (code, low, high) {
        (1, low, high) => RefuseCause::Version { low, high },
        (2, 0, 0) => RefuseCause::Key,
        (3, 0, 0) => RefuseCause::KeyNeeded,
        (4, 0, 0) => RefuseCause::Unknown,
        (5, 0, 0) => RefuseCause::Stale,
        (6, 0, 0) => RefuseCause::Draining,
        (7, 0, 0) => RefuseCause::Busy,
        (8, 0, 0) => RefuseCause::WrongLane,
        _ => return field("Refuse", "code", u64::from(code), "1 to 8, low and high only with 1"),
    })
}
