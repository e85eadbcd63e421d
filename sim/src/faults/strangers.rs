//! Others who come to the receiver's port.

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evermux::{Connected, MuxManager};
use tokio::io::{AsyncWriteExt, copy};
use tokio::time::{sleep, timeout};

use super::kind::{Blocks, Concerns, FaultState, Harm, Kind, nothing};
use crate::context::{OTHER, PORT, RECEIVER};
use crate::history::{What, note};
use crate::interpose::elapsed;
use crate::net::{Conditions, Socket};
use crate::plan::{Settings, Side};

pub(super) const RIVAL: Kind = Kind {
    name: "rival",
    about: "A second client of the same receiver, which wants the only place too",
    concerns: Concerns::Others,
    harm: Harm::None,
    blocks: Blocks::Meanwhile,
    begin: |world, fault| {
        let context = Rc::clone(&world.context);
        let (fault_begin, ends) = (fault.begin(), fault.end());
        // Two that come at the same event have different names.
        let (lasts_ms, severity) = (fault.lasts_ms, fault.severity);
        // Nobody starts it again.
        let settings = Settings { max_attempts: 0, max_elapsed_ms: 0, ..context.plan.settings };
        let config = settings.config(Side::Establisher, context.seed ^ 1);
        world.spawn_on(OTHER, async move {
            let name = format!("rival since {} for {lasts_ms} ms, {severity}", fault_begin.as_millis());
            let connector = context.connector(OTHER, Arc::new(Mutex::new(RECEIVER)), Conditions::default());
            // A transport without addresses.
            let dial = move || {
                let connector = connector.clone();
                async move { Ok(Connected::anonymous(connector.dial().await?)) }
            };
            let manager = MuxManager::establish_with(dial).name(name.as_str()).config(config).start().await;
            let Ok(manager) = manager else { return };
            note(&name, What::Starts);
            let _rival = Rival(name.clone());
            sleep(ends.saturating_sub(elapsed())).await;
            note(&name, What::ShutsDown);
            manager.shutdown().await;
            note(&name, What::HasShutDown);
        });
        FaultState::default()
    },
    end: nothing,
};

/// A rival that runs. It may end with its host, and without a word.
struct Rival(String);

impl Drop for Rival {
    fn drop(&mut self) {
        note(&self.0, What::Down);
    }
}

/// How many come at most.
const STRANGERS_MAX: u64 = 24;

pub(super) const STRANGERS: Kind = Kind {
    name: "strangers",
    about: "Up to 24 connections that say nothing, or no yamux, or what they hear, or close at once, as a port scan does",
    concerns: Concerns::Others,
    harm: Harm::None,
    blocks: Blocks::Never,
    begin: |world, fault| {
        let kernel = world.context.kernel(OTHER).clone();
        let (ends, many, severity) = (fault.end(), fault.between(1, STRANGERS_MAX), fault.severity);
        for stranger in 0..many {
            let kernel = kernel.clone();
            world.spawn_on(OTHER, async move {
                let conditions = Conditions::default();
                sleep(Duration::from_millis(stranger * 7)).await;
                let Ok(receiver) = kernel.address_of(RECEIVER) else { return };
                let connected = Socket::connect(&kernel, (receiver, PORT).into(), &conditions).await;
                let Ok(mut socket) = connected else { return };
                match (stranger + u64::from(severity)) % 6 {
                    0..=2 => sleep(ends.saturating_sub(elapsed())).await,
                    3 => {
                        let _ = socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
                        sleep(ends.saturating_sub(elapsed())).await;
                    }
                    4 => {
                        let (mut reader, mut writer) = tokio::io::split(socket);
                        let _ = timeout(ends.saturating_sub(elapsed()), copy(&mut reader, &mut writer)).await;
                    }
                    _ => {}
                }
            });
        }
        FaultState::default()
    },
    end: nothing,
};
