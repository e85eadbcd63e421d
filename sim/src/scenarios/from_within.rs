//! A task that the shutdown joins calls the shutdown, and waits for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evermux::error::ConnectError;
use evermux::{Connect, Connected, MuxManager, Stopped};
use proptest::prelude::{Just, Strategy};
use tokio::io::DuplexStream;
use tokio::time::{sleep, timeout};

use super::scenario::{Group, Scenario};
use crate::plan::{Network, Plan, Settings, Side, Yields};
use crate::stage::Run;
use crate::usage::Usage;
use crate::verdict::Violation;

pub(super) static SCENARIO: Scenario = Scenario {
    name: "shutdown_from_within",
    about: "A connector calls its manager's shutdown and waits for it: the shutdown ends, and what follows in it does not run",
    group: Group::Scripted,
    plans: || {
        let (network, settings) = (Network::default(), Settings::default());
        let usage = Usage::default();
        Just(Plan {
            network,
            settings,
            usage,
            foreign: None,
            fleet: 0,
            callers: Vec::new(),
            faults: Vec::new(),
            calm_ms: 0,
            yields: Yields::default(),
        })
        .boxed()
    },
    run,
};

/// How long the shutdown takes: nothing has to drain.
const BOUND: Duration = Duration::from_secs(1);

/// Shuts its manager down at the first attempt.
struct Within {
    manager: Arc<Mutex<Option<MuxManager>>>,
    went_on: Arc<AtomicBool>,
}

impl Connect for Within {
    type Io = DuplexStream;

    async fn connect(&self) -> Result<Connected<DuplexStream>, ConnectError> {
        // The manager is there once `start` has returned.
        sleep(Duration::from_millis(100)).await;
        let manager = self.manager.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(manager) = manager {
            manager.shutdown().await;
            self.went_on.store(true, Ordering::Relaxed);
        }
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into())
    }
}

fn run(run: &mut Run) -> Result<(), Violation> {
    let config = run.plan().config(Side::Establisher, run.seed());
    let kernel = run.kernel();
    run.client("establisher", &kernel, async move {
        let (shared, went_on) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let within = Within { manager: Arc::clone(&shared), went_on: Arc::clone(&went_on) };
        let manager = MuxManager::establish_with(within).config(config).start().await?;
        *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(manager.clone());
        // A caller that waits is freed by it.
        let freed = timeout(BOUND, manager.session()).await;
        if !matches!(freed, Ok(Err(Stopped::ShutDown))) {
            return Err(Violation::new("G4", "a caller was not freed by a shutdown from within").into());
        }
        if timeout(BOUND, manager.shutdown()).await.is_err() {
            return Err(Violation::new("G5", format!("a shutdown from within took longer than {BOUND:?}")).into());
        }
        // The connector holds the manager that holds the connector.
        shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        if went_on.load(Ordering::Relaxed) {
            return Err(Violation::new("G5", "a task of the manager ran on after its shutdown had returned").into());
        }
        Ok(())
    });
    run.finish_before(BOUND * 5)
}
