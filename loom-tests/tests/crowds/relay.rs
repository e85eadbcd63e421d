//! G3 G7: the events of many tasks, sent in one order.

use std::{collections::VecDeque, sync::Arc};

use evermux::sync::{Queue, Relay};
use loom_tests::{Shuttle, assert_unlocked, sample};
use shuttle::sync::Mutex;

use super::{each, join};

/// Events, of which some wait for a departure.
struct Outbox {
    queue: VecDeque<u32>,
    departed: bool,
}

impl Queue for Outbox {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        // Odd ones wait, and those behind them.
        self.queue.front().filter(|event| self.departed || *event % 2 == 0)?;
        self.queue.pop_front()
    }
}

/// Five tasks with two events each, of which the second has to wait for a sixth task. All are sent, and those of a task
/// in their order.
#[test]
fn the_events_of_many_are_sent_in_their_order() {
    sample("the_events_of_many_are_sent_in_their_order", || {
        let outbox = Outbox { queue: VecDeque::new(), departed: false };
        let relay = Arc::new(Relay::<_, Shuttle>::with_primitives(outbox));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let tasks = each(6, {
            let (relay, sent) = (Arc::clone(&relay), Arc::clone(&sent));
            move |number| {
                let send_all = || {
                    relay.send_all(|event| {
                        assert_unlocked::<Shuttle>();
                        sent.lock().unwrap().push(event);
                    });
                };
                if number == 5 {
                    relay.change(|outbox| outbox.departed = true);
                    return send_all();
                }
                for event in [2 * number, 2 * number + 1] {
                    relay.change(|outbox| outbox.queue.push_back(event));
                    send_all();
                }
            }
        });
        join(tasks);
        let sent = sent.lock().unwrap();
        let at = |event| sent.iter().position(|sent| *sent == event).unwrap_or_else(|| panic!("{event} is left"));
        assert!((0..5).all(|number| at(2 * number) < at(2 * number + 1)), "{sent:?}");
        assert_eq!(sent.len(), 10);
    });
}
