//! A fleet: many clients of one receiver, on the host of everybody else, each with a manager of its own.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evermux::MuxManager;
use rand::{Rng, RngExt};
use tokio::time::{sleep, timeout};

use crate::bounds;
use crate::context::{OTHER, RunContext};
use crate::history::{What, broken, note};
use crate::interpose::elapsed;
use crate::plan::{Plan, Settings, Side};
use crate::random::rng;
use crate::serve::serve_session;
use crate::verdict::Violation;
use crate::work::{Failed, exchange_over};
use crate::yields::yielding;

/// The longest pause between two requests of a member.
const PAUSE_MS: u64 = 8_000;
/// How many bytes a request has at most.
const BYTES_MAX: usize = 2_000;
/// A request that takes longer is made again.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a fleet of this plan takes at most: a session at each of its ends, and one that drains.
pub(crate) fn heap_bytes(plan: &Plan) -> usize {
    const MEMBER: usize = 768 << 10;
    usize::from(plan.fleet) * MEMBER
}

/// Lets the fleet of a plan run until the run ends.
pub(crate) fn begin(context: &Rc<RunContext>) {
    for number in 0..context.plan.fleet {
        let this = Rc::clone(context);
        context.spawn_on(OTHER, async move {
            if let Err(what) = member(&this, number).await {
                note(OTHER, What::Violation(what));
            }
            this.fleet_runs.send_modify(|runs| *runs -= 1);
        });
    }
}

async fn member(context: &Rc<RunContext>, number: u16) -> Result<(), Violation> {
    let name = format!("member {number}");
    let mut rng = rng(context.seed, &name);
    let connector = context.connector(OTHER, Arc::clone(&context.target), context.conditions(OTHER).clone());
    // Nobody starts it again.
    let settings = Settings { max_attempts: 0, max_elapsed_ms: 0, ..context.plan.settings };
    let config = settings.config(Side::Establisher, rng.next_u64());
    let bound = bounds::drain(&config);
    let (conditions, counters) = (context.conditions(OTHER).clone(), context.counters.clone());
    let builder = MuxManager::establish_with(connector).name(name.as_str()).config(config).on_session(move |session| {
        yielding(serve_session(session, conditions.clone(), counters.clone(), (OTHER, Side::Establisher)))
    });
    let manager = builder.start().await.map_err(|error| Violation::new("scenario", error.to_string()))?;
    note(&name, What::Starts);
    let mut end = context.end.subscribe();
    let works = works(context, &manager, number, &mut rng);
    tokio::select! {
        biased;
        _ = end.wait_for(|end| *end) => {}
        worked = works => worked?,
    }
    note(&name, What::ShutsDown);
    if timeout(bound, manager.shutdown()).await.is_err() {
        broken(&name, "G5", format!("the shutdown of {name} took longer than {bound:?}"));
    }
    note(&name, What::HasShutDown);
    Ok(())
}

/// Makes one request after the other. After the last fault each is served in time.
async fn works(context: &RunContext, manager: &MuxManager, number: u16, rng: &mut impl Rng) -> Result<(), Violation> {
    let faults_end = context.plan.faults_end();
    let bound = bounds::service(&context.plan, PATIENCE, u64::from(context.plan.fleet) * BYTES_MAX as u64);
    loop {
        sleep(Duration::from_millis(rng.random_range(0..PAUSE_MS))).await;
        let begun = elapsed();
        let late = begun.max(faults_end) + bound;
        loop {
            let (seed, bytes) = (rng.next_u64(), rng.random_range(0..BYTES_MAX));
            let request = async {
                let stream = manager.open_stream().await.map_err(std::io::Error::from)?;
                let (reader, writer) = stream.into_split();
                exchange_over(reader, writer, seed, bytes).await
            };
            match timeout(PATIENCE, request).await {
                Ok(Ok(())) => break,
                Ok(Err(Failed::Violation(what))) => return Err(what),
                Ok(Err(Failed::Interrupted(_))) | Err(_) => {}
            }
            if elapsed() > late {
                let text = format!("member {number} of the fleet was not served within {bound:?}");
                return Err(Violation::new("liveness", text));
            }
            sleep(Duration::from_millis(200)).await;
        }
        context.counters.add("a member of a fleet was served", 1);
        if begun >= faults_end {
            context.fleet_served.borrow_mut().insert(number);
        }
    }
}
