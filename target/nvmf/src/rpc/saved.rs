//! The calls that bring the target back: transport, referrals, subsystems with their hosts and namespaces, and last the listeners,
//! so that no host comes in before all is there.

use super::address;
use super::transport::shown;
use crate::model::{AnaState, Listener, Namespace, Subsystem};
use crate::options::TransportOptions;
use crate::service::Nvmf;
use rpc_registry::ConfigEntry;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use uuid::Uuid;

pub(super) fn saved(nvmf: &Nvmf) -> Vec<ConfigEntry> {
    let tables = nvmf.tables();
    let most = |most| ConfigEntry::new("nvmf_set_max_subsystems", json!({"max_subsystems": most}));
    let mut calls: Vec<ConfigEntry> = tables.max_subsystems().map(most).into_iter().collect();
    calls.extend(tables.options().iter().map(transport));
    calls.extend(tables.referrals().iter().map(|referral| {
        let params = json!({
            "address": address(referral.address),
            "secure_channel": referral.secure_channel,
            "subnqn": referral.subnqn,
        });
        ConfigEntry::new("nvmf_discovery_add_referral", params)
    }));
    let subsystems = tables.subsystems();
    for subsystem in &subsystems {
        calls.extend(contents(subsystem));
    }
    for subsystem in &subsystems {
        let listeners = subsystem.state().listeners.clone();
        calls.extend(listeners.iter().flat_map(|one| listener(subsystem, one)));
    }
    calls
}

fn transport(options: &TransportOptions) -> ConfigEntry {
    ConfigEntry::new("nvmf_create_transport", shown(options))
}

/// A subsystem, its hosts, its namespaces.
fn contents(of: &Subsystem) -> Vec<ConfigEntry> {
    let (nqn, spec, state) = (of.nqn(), &of.spec, of.state());
    let params = json!({
        "nqn": nqn,
        "serial_number": spec.serial,
        "model_number": spec.model,
        "max_namespaces": spec.max_namespaces,
        "allow_any_host": state.allow_any_host,
        "ana_reporting": spec.ana_reporting,
        "min_cntlid": spec.min_cntlid,
        "max_cntlid": spec.max_cntlid,
    });
    let mut calls = vec![ConfigEntry::new("nvmf_create_subsystem", params)];
    calls.extend(
        state
            .hosts
            .iter()
            .map(|host| ConfigEntry::new("nvmf_subsystem_add_host", json!({"nqn": nqn, "host": host}))),
    );
    calls.extend(state.namespaces.values().map(|one| {
        let params = json!({"nqn": nqn, "namespace": namespace(one, spec.ana_reporting)});
        ConfigEntry::new("nvmf_subsystem_add_ns", params)
    }));
    calls
}

fn namespace(of: &Namespace, ana: bool) -> Value {
    let mut saved = json!({
        "nsid": of.nsid,
        "bdev_name": of.bdev().name(),
        "nguid": Uuid::from_bytes(of.identity.nguid).simple().to_string().to_uppercase(),
        "uuid": of.identity.uuid,
    });
    if of.identity.eui64 != [0; 8] {
        saved["eui64"] = json!(format!("{:016X}", u64::from_be_bytes(of.identity.eui64)));
    }
    if ana {
        saved["anagrpid"] = json!(of.ana_group.load(Relaxed));
    }
    saved
}

/// A listener, and the groups whose state is not that of most.
fn listener(subsystem: &Arc<Subsystem>, of: &Listener) -> Vec<ConfigEntry> {
    let nqn = subsystem.nqn();
    let mut params = json!({"nqn": nqn, "listen_address": address(of.address), "secure_channel": false});
    if !subsystem.spec.ana_reporting {
        return vec![ConfigEntry::new("nvmf_subsystem_add_listener", params)];
    }
    let states: Vec<AnaState> = (1..=of.groups()).map(|group| of.state(group)).collect();
    let count = |state: &AnaState| states.iter().filter(|other| *other == state).count();
    let usual = AnaState::ALL.into_iter().max_by_key(count).unwrap_or(AnaState::Optimized);
    params["ana_state"] = json!(usual.name());
    let mut calls = vec![ConfigEntry::new("nvmf_subsystem_add_listener", params)];
    for (index, state) in states.iter().enumerate().filter(|(_, state)| **state != usual) {
        let params = json!({
            "nqn": nqn,
            "listen_address": address(of.address),
            "ana_state": state.name(),
            "anagrpid": index + 1,
        });
        calls.push(ConfigEntry::new("nvmf_subsystem_listener_set_ana_state", params));
    }
    calls
}
