//! notify_get_types, notify_get_notifications.

use crate::{Bdevs, Notification, NotificationKind};
use rpc_registry::{Method, Registry};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;

/// Parameters of `notify_get_notifications`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GetNotifications {
    /// Number of the first to show; the oldest kept without it
    id: Option<u64>,
    /// How many to show at most; all without it
    max: Option<u64>,
}

/// One notification, its members in SPDK's order.
#[derive(Serialize)]
struct Shown {
    r#type: &'static str,
    ctx: String,
    id: u64,
}

pub(super) fn register(registry: &mut Registry, bdevs: &Arc<Bdevs>) {
    registry.add_no_params(
        Method::new("notify_get_types", "List the kinds of notifications")
            .spdk(true)
            .result_example(json!(NotificationKind::ALL.map(NotificationKind::name))),
        || Ok(NotificationKind::ALL.map(NotificationKind::name)),
    );
    let bdevs = bdevs.clone();
    registry.add(
        Method::new("notify_get_notifications", "List what happened, oldest first; the newest 1024 are kept")
            .spdk(true)
            .example(json!({"id": 1, "max": 10}))
            .result_example(json!([{"type": "bdev_register", "ctx": "Malloc0", "id": 1}])),
        move |params: GetNotifications| {
            let (id, max) = (params.id.unwrap_or(0), params.max.unwrap_or(u64::MAX));
            Ok(bdevs.notifications().since(id, max).into_iter().map(shown).collect::<Vec<_>>())
        },
    );
}

fn shown(Notification { id, kind, name }: Notification) -> Shown {
    Shown { r#type: kind.name(), ctx: name, id }
}
