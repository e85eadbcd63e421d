//! What is done to the link, and how long each fault is felt.

use std::{sync::Arc, time::Duration};

use evermux::MuxManager;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use testkit::FaultProxy;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{DETECTION, PATIENCE, args::Args, progress::Progress, totals::Totals};

/// No fault comes earlier, so that work has begun.
const HEAD: Duration = Duration::from_millis(500);
/// The least time from a cut to the next fault.
const CUT_ROOM: Duration = Duration::from_millis(200);
/// The least time from the start of a freeze to the next fault.
const FREEZE_ROOM: Duration = Duration::from_millis(1500);
/// No fault comes later, so that work goes on after the last one.
const TAIL: Duration = Duration::from_secs(1);
/// By how much longer than heartbeats need a freeze lasts, in milliseconds.
const FREEZE_EXTRA_MS: std::ops::RangeInclusive<u64> = 100..=400;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Rst,
    Fin,
    Freeze(Duration),
}

impl Fault {
    fn name(self) -> String {
        match self {
            Self::Rst => "cut by RST".to_owned(),
            Self::Fin => "cut by FIN".to_owned(),
            Self::Freeze(length) => format!("frozen for {} ms", length.as_millis()),
        }
    }
}

/// What was done, and how long it took until a reply was checked on a newer session, backoff left out.
#[derive(Debug, Default)]
pub(crate) struct Felt {
    pub(crate) cuts: Vec<Duration>,
    pub(crate) freezes: Vec<Duration>,
    pub(crate) backoff: Duration,
}

/// Draws when to do what: a share of the time for each fault, in which its moment is drawn.
pub(crate) fn schedule(args: &Args, random: &mut ChaCha8Rng) -> Result<Vec<(Duration, Fault)>, String> {
    let (cuts, freezes) = (args.cuts(), args.freezes());
    if cuts == 0 && freezes == 0 {
        return Ok(Vec::new());
    }
    let total = Duration::from_secs(args.seconds.into());
    let least =
        (|| CUT_ROOM.checked_mul(cuts)?.checked_add(FREEZE_ROOM.checked_mul(freezes)?)?.checked_add(HEAD + TAIL))();
    let Some(spare) = least.and_then(|least| total.checked_sub(least)) else {
        return Err(format!(
            "{cuts} cuts and {freezes} freezes do not fit in {} s: a cut needs {} s, a freeze {} s, start and end {} s",
            args.seconds,
            CUT_ROOM.as_secs_f32(),
            FREEZE_ROOM.as_secs_f32(),
            (HEAD + TAIL).as_secs_f32(),
        ));
    };
    // No overflow: so many faults would not fit.
    let spacing = spare / (cuts + freezes);
    let cuts = (0..cuts).map(|at| if at % 2 == 0 { Fault::Rst } else { Fault::Fin });
    let lengths = (0..freezes).map(|_| DETECTION + Duration::from_millis(random.random_range(FREEZE_EXTRA_MS)));
    let mut faults = cuts.chain(lengths.map(Fault::Freeze)).collect::<Vec<_>>();
    for at in (1..faults.len()).rev() {
        faults.swap(at, random.random_range(0..=at));
    }
    let mut start = HEAD;
    Ok(faults
        .into_iter()
        .map(|fault| {
            let moment = start + spacing.mul_f64(random.random_range(0.0..1.0));
            start += spacing + if matches!(fault, Fault::Freeze(_)) { FREEZE_ROOM } else { CUT_ROOM };
            (moment, fault)
        })
        .collect())
}

/// Carries out the schedule, each fault when its moment has come and the one before is overcome.
pub(crate) async fn inflict(
    schedule: Vec<(Duration, Fault)>,
    start: Instant,
    proxy: &FaultProxy,
    manager: &MuxManager,
    totals: &Arc<Totals>,
    progress: &Progress,
    felt: &mut Felt,
) -> Result<(), String> {
    for (moment, fault) in schedule {
        sleep_until(start + moment).await;
        let name = fault.name();
        let session = match timeout(PATIENCE, manager.session()).await {
            Ok(Ok(session)) => session,
            Ok(Err(stopped)) => return Err(format!("the manager stopped: {stopped}")),
            Err(_) => return Err(format!("there was no session to be {name} within {PATIENCE:?}")),
        };
        let recovered = totals.next_session_after(session.id());
        let slept = manager.status().backoff_slept;
        let begin = Instant::now();
        match fault {
            Fault::Rst => {
                totals.cuts.add(1);
                proxy.cut_rst();
            }
            Fault::Fin => {
                totals.cuts.add(1);
                proxy.cut_fin();
            }
            Fault::Freeze(length) => {
                totals.freezes.add(1);
                proxy.freeze();
                sleep(length).await;
                // On a machine that is very busy the heartbeat may be late.
                let noticed = timeout(PATIENCE, session.closed()).await;
                proxy.thaw();
                noticed.map_err(|_| format!("no heartbeat noticed within {PATIENCE:?} that the link was frozen"))?;
            }
        }
        let Ok(Ok(recovery)) = timeout(PATIENCE, recovered).await else {
            return Err(format!("no reply on a newer session within {PATIENCE:?} after the link was {name}"));
        };
        let backoff = manager.status().backoff_slept.saturating_sub(slept);
        let took = recovery.saturating_duration_since(begin).saturating_sub(backoff);
        felt.backoff += backoff;
        let list = if matches!(fault, Fault::Freeze(_)) { &mut felt.freezes } else { &mut felt.cuts };
        list.push(took);
        let took = took.as_secs_f64() * 1000.0;
        let beside = match backoff.as_millis() {
            0 => String::new(),
            backoff => format!(", beside {backoff} ms of backoff"),
        };
        progress.event(&format!("{name:<20} first reply on the next session after {took:.1} ms{beside}"));
    }
    Ok(())
}
