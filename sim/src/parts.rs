//! What may be unusual in the settings, the network and the usage of a plan, value by value.

use crate::plan::{Network, Plan, Settings};
use crate::usage::Usage;

/// Makes one value of a plan what it is there.
pub(crate) type Part = fn(&mut Plan, &Settings, &Network, &Usage);

/// Every value.
pub(crate) const PARTS: [Part; 32] = [
    |plan, settings, _, _| plan.settings.sessions = settings.sessions,
    |plan, settings, _, _| plan.settings.handshakes = settings.handshakes,
    |plan, settings, _, _| plan.settings.accept_backlog = settings.accept_backlog,
    |plan, settings, _, _| plan.settings.max_concurrent_streams = settings.max_concurrent_streams,
    |plan, settings, _, _| plan.settings.heartbeat_percent = settings.heartbeat_percent,
    |plan, settings, _, _| plan.settings.receiver_clock_percent = settings.receiver_clock_percent,
    |plan, settings, _, _| plan.settings.establisher_clock_percent = settings.establisher_clock_percent,
    |plan, settings, _, _| plan.settings.accept_timeout_ms = settings.accept_timeout_ms,
    |plan, settings, _, _| plan.settings.max_attempts = settings.max_attempts,
    |plan, settings, _, _| plan.settings.max_elapsed_ms = settings.max_elapsed_ms,
    |plan, settings, _, _| plan.settings.max_streams_per_session = settings.max_streams_per_session,
    |plan, settings, _, _| plan.settings.backoff_factor_percent = settings.backoff_factor_percent,
    |plan, settings, _, _| plan.settings.backoff_jitter_percent = settings.backoff_jitter_percent,
    |plan, settings, _, _| plan.settings.first_retry_jitter_ms = settings.first_retry_jitter_ms,
    |plan, settings, _, _| plan.settings.early_go_away = settings.early_go_away,
    |plan, settings, _, _| plan.settings.window_growth_kib = settings.window_growth_kib,
    |plan, settings, _, _| plan.settings.event_backlog = settings.event_backlog,
    |plan, _, network, _| plan.network.impairments = network.impairments,
    |plan, _, network, _| plan.network.latency_ms = network.latency_ms,
    |plan, _, network, _| plan.network.return_ms = network.return_ms,
    |plan, _, network, _| plan.network.bandwidth = network.bandwidth,
    |plan, _, network, _| plan.network.sockets = network.sockets,
    |plan, _, network, _| plan.network.chunk = network.chunk,
    |plan, _, network, _| plan.network.random_order = network.random_order,
    |plan, _, network, _| plan.network.handshake = network.handshake,
    |plan, _, network, _| plan.network.tick_ms = network.tick_ms,
    |plan, _, network, _| plan.network.dead_addresses = network.dead_addresses,
    |plan, _, _, usage| plan.usage.dials = usage.dials,
    |plan, _, _, usage| plan.usage.listens = usage.listens,
    |plan, _, _, usage| plan.usage.takes = usage.takes,
    |plan, _, _, usage| plan.usage.stops = usage.stops,
    |plan, _, _, usage| plan.usage.admits = usage.admits,
];
