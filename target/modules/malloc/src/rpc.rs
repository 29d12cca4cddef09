//! bdev_malloc_create, bdev_malloc_delete. Control threads.

use crate::{CreateError, MallocSpec, PRODUCT_NAME, create};
use rpc_registry::{Method, Registry, RpcError, codes};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use tgt_bdev::{Bdevs, RegisterError, rpc};
use tgt_env::cores;
use uuid::Uuid;

const ENOMEM: i32 = 12;
const EINVAL: i32 = 22;

/// Parameters of `bdev_malloc_create`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Create {
    /// Name of the new bdev; without it the first free one of Malloc0, Malloc1, ...
    #[schemars(length(min = 1))]
    name: Option<String>,
    /// Number of blocks
    num_blocks: u64,
    /// Bytes per block: a multiple of 512 from 512 to 65536
    block_size: u32,
    /// Bytes that hardware would write at once: a multiple of 512; checked, no effect
    physical_block_size: Option<u32>,
    /// UUID; drawn at random without it
    uuid: Option<Uuid>,
    /// Split reads and writes at multiples of this many blocks; default 0: never
    optimal_io_boundary: Option<u32>,
    /// Bytes of metadata per block: only 0
    md_size: Option<u32>,
    /// Whether metadata stands between the data: only false
    md_interleave: Option<bool>,
    /// Protection information: only 0
    dif_type: Option<i32>,
    /// Format of protection information: only 0
    dif_pi_format: Option<u32>,
    /// Where protection information stands: only false
    dif_is_head_of_md: Option<bool>,
    /// NUMA node to take the memory from; default -1: where the call happens to run
    #[schemars(range(min = -1))]
    numa_id: Option<i32>,
}

/// Parameters of `bdev_malloc_delete`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Delete {
    /// Name, alias or UUID of a malloc bdev
    name: String,
}

impl From<CreateError> for RpcError {
    fn from(error: CreateError) -> RpcError {
        match error {
            CreateError::Register(error) => error.into(),
            CreateError::Memory(error) => RpcError::errno(ENOMEM, error.to_string()),
        }
    }
}

/// Adds the methods of the malloc bdev.
pub fn register(registry: &mut Registry, bdevs: &Arc<Bdevs>) {
    let of = bdevs.clone();
    registry.add(
        Method::new("bdev_malloc_create", "Make a bdev in memory; its content goes with the process")
            .spdk(true)
            .decode_error(codes::INTERNAL)
            .aliases(&["construct_malloc_bdev"])
            .example(json!({"name": "Malloc0", "num_blocks": 20480, "block_size": 512}))
            .result_example(json!("Malloc0")),
        move |params: Create| malloc_create(&of, params),
    );
    let of = bdevs.clone();
    registry.add(
        Method::new("bdev_malloc_delete", "Delete a malloc bdev and what it holds")
            .spdk(true)
            .decode_error(codes::INTERNAL)
            .aliases(&["delete_malloc_bdev"])
            .example(json!({"name": "Malloc0"}))
            .result_example(json!(true)),
        move |params: Delete| malloc_delete(&of, &params.name),
    );
}

fn malloc_create(bdevs: &Bdevs, params: Create) -> Result<String, RpcError> {
    check(&params)?;
    let spec = MallocSpec {
        name: String::new(),
        uuid: params.uuid,
        block_size: params.block_size,
        num_blocks: params.num_blocks,
        optimal_io_boundary: params.optimal_io_boundary.unwrap_or(0),
    };
    on_node(params.numa_id.unwrap_or(-1), || match params.name {
        Some(name) => Ok(create(bdevs, MallocSpec { name, ..spec })?.name().to_owned()),
        None => create_unnamed(bdevs, &spec),
    })?
}

/// Takes the first free name; again, if another call takes it first.
fn create_unnamed(bdevs: &Bdevs, spec: &MallocSpec) -> Result<String, RpcError> {
    loop {
        let name = (0..).map(|number: u64| format!("Malloc{number}")).find(|name| bdevs.get(name).is_none());
        let name = name.expect("there are more numbers than bdevs");
        match create(bdevs, MallocSpec { name: name.clone(), ..spec.clone() }) {
            Err(CreateError::Register(RegisterError::Exists(taken, _))) if taken == name => {}
            made => return Ok(made?.name().to_owned()),
        }
    }
}

fn check(params: &Create) -> Result<(), RpcError> {
    rpc::physical_block_size(params.physical_block_size)?;
    rpc::only_zero(
        "bdevs of this target have no metadata",
        &[
            ("md_size", params.md_size.unwrap_or(0).into()),
            ("md_interleave", params.md_interleave.unwrap_or(false).into()),
            ("dif_type", params.dif_type.unwrap_or(0).into()),
            ("dif_pi_format", params.dif_pi_format.unwrap_or(0).into()),
            ("dif_is_head_of_md", params.dif_is_head_of_md.unwrap_or(false).into()),
        ],
    )
}

/// Runs `work` where memory comes from NUMA node `numa_id`; -1: here.
fn on_node<T: Send>(numa_id: i32, work: impl FnOnce() -> T + Send) -> Result<T, RpcError> {
    let Ok(node) = u32::try_from(numa_id) else { return Ok(work()) };
    let usable = cores::usable_cores().map_err(|error| RpcError::internal(error.to_string()))?;
    // A machine that does not tell has one node: 0.
    let node_of = |core| cores::numa_node_of(core).unwrap_or(0);
    let Some(core) = usable.iter().find(|core| node_of(*core) == node) else {
        let mut nodes: Vec<u32> = usable.iter().map(node_of).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let accepted = format!("-1 or a node of the cores this process may use: {nodes:?}");
        let text = format!("numa_id {numa_id}, accepted: {accepted}");
        return Err(RpcError::errno(EINVAL, text).parameter("numa_id", numa_id, accepted));
    };
    let there = move || cores::pin_current_thread(core).map(|()| work());
    let done = std::thread::scope(|scope| scope.spawn(there).join());
    let done = done.map_err(|_| RpcError::internal("the thread that makes the bdev panicked"))?;
    done.map_err(|error| RpcError::errno(EINVAL, error.to_string()))
}

fn malloc_delete(bdevs: &Bdevs, name: &str) -> Result<bool, RpcError> {
    let bdev = rpc::find(bdevs, name)?;
    rpc::owned_by(PRODUCT_NAME, &bdev)?;
    bdevs.remove_this(&bdev).map_err(|error| rpc::removal_refused(bdevs, error))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use test_bdevs::rig::Rig;

    fn rig() -> Rig {
        Rig::new(register)
    }

    fn with(member: &str, value: Value) -> Value {
        let mut params = json!({"num_blocks": 128, "block_size": 512});
        params[member] = value;
        params
    }

    #[test]
    fn without_a_name_the_lowest_free_one_is_taken() {
        let rig = rig();
        let unnamed = || rig.call("bdev_malloc_create", json!({"num_blocks": 128, "block_size": 4096}));
        assert_eq!(unnamed(), Ok(json!("Malloc0")));
        assert_eq!(rig.call("bdev_malloc_create", with("name", json!("Malloc2"))), Ok(json!("Malloc2")));
        assert_eq!([unnamed(), unnamed()], [Ok(json!("Malloc1")), Ok(json!("Malloc3"))]);
        assert_eq!(rig.call("bdev_malloc_delete", json!({"name": "Malloc1"})), Ok(json!(true)));
        assert_eq!(unnamed(), Ok(json!("Malloc1")));
    }

    #[test]
    fn many_calls_at_once_without_a_name_all_succeed() {
        let rig = rig();
        std::thread::scope(|scope| {
            let calls = [(); 8].map(|()| {
                scope.spawn(|| rig.call("bdev_malloc_create", json!({"num_blocks": 8, "block_size": 512})))
            });
            calls.into_iter().for_each(|call| drop(call.join().expect("no panic").expect("a name")));
        });
        assert!((0..8).all(|number| rig.bdevs.get(&format!("Malloc{number}")).is_some()));
    }

    #[test]
    fn memory_of_a_node_is_had_or_refused() {
        let rig = rig();
        let usable = cores::usable_cores().expect("cores");
        let node = usable.iter().find_map(cores::numa_node_of).unwrap_or(0);
        rig.call("bdev_malloc_create", with("numa_id", json!(node))).expect("this node");
        rig.refused("bdev_malloc_create", with("numa_id", json!(4711)), -22, "numa_id 4711");
        rig.refused("bdev_malloc_create", with("numa_id", json!(-2)), -32603, "numa_id");
    }

    #[test]
    fn what_cannot_be_made_is_refused_by_name_and_value_and_leaves_nothing() {
        let rig = rig();
        rig.call("bdev_malloc_create", with("name", json!("a"))).expect("the first");
        rig.refused("bdev_malloc_create", with("name", json!("a")), -17, "\"a\"");
        rig.refused("bdev_malloc_create", with("block_size", json!(0)), -22, "multiples of 512");
        rig.refused("bdev_malloc_create", with("num_blocks", json!(0)), -22, "0 blocks");
        rig.refused("bdev_malloc_create", with("num_blocks", json!(u64::MAX)), -22, "2^63");
        rig.refused(
            "bdev_malloc_create",
            with("num_blocks", json!(1_u64 << 52)),
            -12,
            "Cannot allocate memory",
        );
        rig.refused("bdev_malloc_create", with("md_size", json!(8)), -22, "md_size is 8");
        rig.refused("bdev_malloc_create", with("md_interleave", json!(true)), -22, "md_interleave");
        rig.refused("bdev_malloc_create", with("uuid", json!("x")), -32603, "\"uuid\"");
        rig.refused("bdev_malloc_delete", json!({"name": "b"}), -19, "no bdev named \"b\"");
    }
}
