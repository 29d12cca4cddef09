//! spdk_get_version, rmr_get_version.

use crate::VERSION;
use rpc_registry::{Method, Phase, Registry};
use serde::Serialize;
use serde_json::json;

/// The version of SPDK whose methods this target answers.
const SPDK: (u32, u32, u32) = (26, 9, 0);

#[derive(Serialize)]
struct SpdkVersion {
    version: String,
    fields: SpdkFields,
}

#[derive(Serialize)]
struct SpdkFields {
    major: u32,
    minor: u32,
    patch: u32,
    suffix: &'static str,
}

#[derive(Serialize)]
struct OwnVersion {
    version: &'static str,
}

pub(super) fn register(registry: &mut Registry) {
    registry.add_no_params(
        Method::new(
            "spdk_get_version",
            "Show the version of SPDK whose methods this target answers, and its own",
        )
        .spdk(true)
        .phase(Phase::Any)
        .result_example(json!(spdk_version())),
        || Ok(spdk_version()),
    );
    registry.add_no_params(
        Method::new("rmr_get_version", "Show the version of this target")
            .phase(Phase::Any)
            .result_example(json!({"version": VERSION})),
        || Ok(OwnVersion { version: VERSION }),
    );
}

/// That version as text: `26.09`.
pub(crate) fn spdk() -> String {
    let (major, minor, _) = SPDK;
    format!("{major}.{minor:02}")
}

fn spdk_version() -> SpdkVersion {
    let (major, minor, patch) = SPDK;
    SpdkVersion {
        version: format!("SPDK v{} (rmr_tgt {VERSION})", spdk()),
        fields: SpdkFields { major, minor, patch, suffix: "" },
    }
}
