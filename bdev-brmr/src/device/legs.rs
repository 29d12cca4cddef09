//! rmr_add_leg, rmr_remove_leg, rmr_set_leg_maintenance, rmr_replace_leg, rmr_discard_leg. Control threads.

use super::create::{look, no_answer};
use super::rpc::{member, replicated};
use super::{Devices, Replicated};
use bdev_rmr::hail::Peer;
use bdev_rmr::pool;
use rmr_engine::client::{Command, CommandError, Phase, Status};
use rmr_proto::MemberId;
use rpc_registry::{Method, Registry, RpcError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ENODEV: i32 = 19;
const EBUSY: i32 = 16;
const EINVAL: i32 = 22;
const ETIMEDOUT: i32 = 110;

/// A command of the engine ends by itself before this.
const COMMAND: Duration = Duration::from_secs(60);
/// A change of the set that is under way when a command has ended is over before this, or nobody knows.
const SETTLE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);

/// Parameters of `rmr_add_leg`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AddLeg {
    /// Name, alias or UUID of a replicated bdev
    name: String,
    /// Number of the new member: 0 to 7; its store must be new
    #[schemars(range(max = 7))]
    member_id: u8,
    /// Ways to its node's listeners
    #[schemars(length(min = 1))]
    paths: Vec<String>,
    /// Name of the key that all nodes have for it
    #[schemars(length(min = 1))]
    key: Option<String>,
}

/// Parameters of `rmr_remove_leg`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RemoveLeg {
    /// Name, alias or UUID of a replicated bdev
    name: String,
    /// Number of the member that is to leave
    #[schemars(range(max = 7))]
    member_id: u8,
    /// Even though it may hold the last copy of some data, which is lost then; default false
    force: Option<bool>,
}

/// Parameters of `rmr_set_leg_maintenance`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Maintenance {
    /// Name, alias or UUID of a replicated bdev
    name: String,
    /// Number of the member
    #[schemars(range(max = 7))]
    member_id: u8,
    /// true: it leaves the set and stays out; false: it comes back and copies what it missed
    enable: bool,
}

/// Parameters of `rmr_replace_leg` and `rmr_discard_leg`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfLeg {
    /// Name, alias or UUID of a replicated bdev
    name: String,
    /// Number of the member
    #[schemars(range(max = 7))]
    member_id: u8,
    /// Even though it may hold the last copy of some data, which is lost then; default false
    force: Option<bool>,
}

/// Adds the methods of legs.
pub(super) fn register(registry: &mut Registry, devices: &Arc<Devices>) {
    let of = devices.clone();
    registry.add(
        Method::new("rmr_add_leg", "Add a member with a new store to a pool; it copies everything")
            .example(json!({"name": "Brmr0", "member_id": 2, "paths": ["ip:192.0.2.3:9400"]}))
            .result_example(json!(true)),
        move |AddLeg { name, member_id, paths, key }: AddLeg| {
            of.add_leg(&name, Peer { member: member_id, paths, key })
        },
    );
    let of = devices.clone();
    registry.add(
        Method::new("rmr_remove_leg", "Take a member out of a pool for good")
            .example(json!({"name": "Brmr0", "member_id": 2}))
            .result_example(json!(true)),
        move |RemoveLeg { name, member_id, force }: RemoveLeg| {
            of.remove_leg(&name, member_id, force.unwrap_or(false))
        },
    );
    let of = devices.clone();
    registry.add(
        Method::new(
            "rmr_set_leg_maintenance",
            "Keep a member out of the set while its node is worked on, or let it in again",
        )
        .example(json!({"name": "Brmr0", "member_id": 1, "enable": true}))
        .result_example(json!(true)),
        move |Maintenance { name, member_id, enable: on }: Maintenance| {
            let member = MemberId::at(usize::from(member_id));
            of.command(&name, Command::Maintenance { member, on })
        },
    );
    let of = devices.clone();
    registry.add(
        Method::new("rmr_replace_leg", "Say that a member has another, empty disk: it copies everything")
            .example(json!({"name": "Brmr0", "member_id": 1}))
            .result_example(json!(true)),
        move |OfLeg { name, member_id, force }: OfLeg| {
            let (member, force) = (MemberId::at(usize::from(member_id)), force.unwrap_or(false));
            of.command(&name, Command::Replace { member, force })
        },
    );
    let of = devices.clone();
    registry.add(
        Method::new(
            "rmr_discard_leg",
            "Give up what a member wrote in another history: it copies everything",
        )
        .example(json!({"name": "Brmr0", "member_id": 1}))
        .result_example(json!(true)),
        move |OfLeg { name, member_id, force }: OfLeg| {
            let (member, force) = (MemberId::at(usize::from(member_id)), force.unwrap_or(false));
            of.command(&name, Command::Discard { member, force })
        },
    );
}

/// How a command ended.
enum Ended {
    Done,
    Failed(CommandError),
    /// Not at all, as far as is known.
    Unknown,
}

impl Ended {
    fn told(self) -> Result<bool, RpcError> {
        match self {
            Ended::Done => Ok(true),
            Ended::Failed(error @ CommandError::NotMember { .. }) => {
                Err(RpcError::errno(ENODEV, error.to_string()))
            }
            Ended::Failed(error) => Err(RpcError::errno(EBUSY, error.to_string())),
            Ended::Unknown => Err(RpcError::errno(
                ETIMEDOUT,
                "the pool did not say how the command ended: look at its status",
            )),
        }
    }
}

/// What is to become of a leg that was connected to for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The pool names it, or may in a moment: without its leg it could never come back.
    Keep,
    Leave,
    /// A change is under way that may name it.
    LookAgain,
}

fn fate(status: Option<&Status>, member: MemberId) -> Fate {
    match status {
        Some(status) if status.members.has(member) => Fate::Keep,
        // What is proposed may name it although the command ended before it was adopted.
        Some(Status { phase: Phase::Changing | Phase::Assembling, .. }) => Fate::LookAgain,
        _ => Fate::Leave,
    }
}

impl Devices {
    fn add_leg(&self, name: &str, peer: Peer) -> Result<bool, RpcError> {
        let member = member(peer.member, "member_id")?;
        let bdev = self.find(name)?;
        let device = replicated(&bdev);
        let leg = self.leg(&peer)?;
        let ended = give(device, Command::Add { member }, Some(leg))?;
        if !matches!(ended, Ended::Done) && !is_named(device, member)? {
            pool::leave(&device.home, device.pool, member).map_err(no_answer)?;
            return ended.told();
        }
        device.members().push(peer);
        match ended {
            // The pool named it before; what it lacked here was a leg, and that it has now.
            Ended::Failed(CommandError::AlreadyMember { .. }) => Ok(true),
            Ended::Done => Ok(true),
            other => other.told().map_err(|mut error| {
                error
                    .message
                    .push_str("; the pool names it by now, so its leg stays, and it comes in by itself");
                error
            }),
        }
    }

    fn remove_leg(&self, name: &str, id: u8, force: bool) -> Result<bool, RpcError> {
        let member = member(id, "member_id")?;
        let bdev = self.find(name)?;
        let device = replicated(&bdev);
        let ended = give(device, Command::Remove { member, force }, None)?;
        let unnamed = matches!(ended, Ended::Failed(CommandError::NotMember { .. }));
        if !unnamed {
            ended.told()?;
        }
        let left = pool::leave(&device.home, device.pool, member).map_err(no_answer)?;
        device.members().retain(|peer| peer.member != id);
        // One that the pool does not name and that has no leg either was never here.
        if unnamed && !left {
            let text = format!("member {id} is not a member of pool {}, and has no leg here", device.pool);
            return Err(RpcError::errno(ENODEV, text));
        }
        Ok(true)
    }

    /// Gives the engine a command and waits for its end.
    fn command(&self, name: &str, command: Command) -> Result<bool, RpcError> {
        let bdev = self.find(name)?;
        give(replicated(&bdev), command, None)?.told()
    }
}

/// Gives the engine a command and waits for its end. An error: it was not given, and a leg for it was not connected to.
fn give(device: &Replicated, command: Command, leg: Option<pool::LegSpec>) -> Result<Ended, RpcError> {
    let told = pool::command(&device.home, device.pool, command, leg)
        .map_err(|error| RpcError::errno(EINVAL, error.to_string()))?;
    Ok(match told.recv_timeout(COMMAND) {
        Ok(Ok(())) => Ended::Done,
        Ok(Err(error)) => Ended::Failed(error),
        Err(_) => Ended::Unknown,
    })
}

/// Does the pool name this member, or may it?
fn is_named(device: &Replicated, member: MemberId) -> Result<bool, RpcError> {
    let until = Instant::now() + SETTLE;
    loop {
        let view = look(&device.home, device.pool)?;
        match fate(view.status.as_ref(), member) {
            Fate::Leave => return Ok(false),
            Fate::LookAgain if Instant::now() < until => std::thread::sleep(LOOK),
            Fate::Keep | Fate::LookAgain => return Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmr_proto::{Epoch, MemberSet};

    #[test]
    fn a_leg_is_let_go_only_when_the_pool_does_not_name_it_and_will_not() {
        let (named, other) = (MemberId::at(1), MemberId::at(2));
        let status = |phase| Status {
            phase,
            epoch: Epoch::default(),
            members: MemberSet::EMPTY.with(MemberId::at(0)).with(named),
            resting: MemberSet::EMPTY,
            set: MemberSet::EMPTY.with(MemberId::at(0)),
            to_copy: Vec::new(),
            waits_for: MemberSet::EMPTY,
            given_up: rmr_engine::client::GivenUp::default(),
            legs: Vec::new(),
        };
        for phase in [Phase::Idle, Phase::Assembling, Phase::Active, Phase::Changing, Phase::Fenced] {
            assert_eq!(fate(Some(&status(phase)), named), Fate::Keep, "{phase:?}");
            let open = matches!(phase, Phase::Assembling | Phase::Changing);
            let expect = if open { Fate::LookAgain } else { Fate::Leave };
            assert_eq!(fate(Some(&status(phase)), other), expect, "{phase:?}");
        }
        assert_eq!(fate(None, other), Fate::Leave);
    }
}
