//! What each type shows of itself in a log.

use std::fmt::Debug;

use super::*;
use crate::sync::{Arrivals, Bell, Gate, Handed, LaneLimits, Latch, LazyLatch, Life, Queue, Relay, Std, Ticket};

struct Nothing;

impl Queue for Nothing {
    type Item = ();

    fn next(&mut self) -> Option<()> {
        None
    }
}

impl Ending for Nothing {
    type Reason = ();

    fn clear(&mut self) {}

    fn publish(&mut self, (): &()) {}

    fn report(&mut self, (): &()) {}

    fn abandoned(&mut self) {}
}

#[test]
fn each_type_shows_its_name_and_what_matters() {
    let slot = slot(2);
    let id = install(&slot, "a");
    let claim: Claim<_, _, ()> = Claim::new(&slot);
    let (latch, lazy, life) = (Arc::new(Latch::<()>::default()), LazyLatch::<()>::default(), Life::<(), ()>::new());
    let gate = Arc::new(Gate::new());
    let arrivals: Arc<Arrivals<()>> = Arc::new(Arrivals::new(1));
    let lane = arrivals.lane(LaneLimits { waiting: 1, taken: 1 });
    let reservation = slot.reserve();
    let types: [(&str, &dyn Debug); 22] = [
        ("SessionSlot", &slot),
        ("SlotReader", &slot.reader()),
        ("Wait", &slot.wait()),
        ("Reservation", &reservation),
        ("ClearHook", &reservation.clear_hook()),
        ("Claim", &claim),
        ("Departure", &claim.departure()),
        ("Hold", &Hold::<()>::new()),
        ("StopGuard", &StopGuard::new(Arc::clone(&slot), "over", |_| {})),
        ("SessionEnd", &SessionEnd::new(Nothing)),
        ("Latch", &latch),
        ("Latched", &latch.wait()),
        ("LazyLatch", &lazy),
        ("Life", &life),
        ("Ends", &Ends::new()),
        ("Handed", &Handed::<Std>::default()),
        ("Gate", &gate),
        ("Ticket", &Ticket::new(&gate)),
        ("Arrivals", &arrivals),
        ("Lane", &lane),
        ("Bell", &Bell::<Std>::default()),
        ("Relay", &Relay::new(Nothing)),
    ];
    for (name, value) in types {
        let text = format!("{value:?}");
        assert!(text.starts_with(name), "{name} shows {text:?}");
    }
    assert!(format!("{:?}", lane.taker()).starts_with("Taker"));
    assert!(format!("{:?}", Repoll::new()).starts_with("Repoll"));
    let number = id.as_u64().to_string();
    assert!(format!("{id:?}").contains(&number) && id.to_string() == number);
}
