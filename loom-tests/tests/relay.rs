//! Events that several tasks send in one order: none is left behind (G3), and nobody sends under the lock (G7).

use std::{collections::VecDeque, sync::Arc};

use evermux::sync::Queue;
use loom::{sync::Mutex, thread};
use loom_tests::{Loom, Preemptions::Unbounded, assert_unlocked, explore};

type Relay = evermux::sync::Relay<Outbox, Loom>;

/// Events, of which the first may wait for the departure of a session.
#[derive(Default)]
struct Outbox {
    queue: VecDeque<(u32, bool)>,
}

impl Queue for Outbox {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.queue.front().filter(|(_, waits)| !waits)?;
        self.queue.pop_front().map(|(event, _)| event)
    }
}

struct Progress {
    relay: Relay,
    sent: Mutex<Vec<u32>>,
}

impl Progress {
    fn new() -> Arc<Self> {
        Arc::new(Self { relay: Relay::with_primitives(Outbox::default()), sent: Mutex::default() })
    }

    fn change(&self, change: impl FnOnce(&mut VecDeque<(u32, bool)>)) {
        self.relay.change(|outbox| change(&mut outbox.queue));
        self.relay.send_all(|event| {
            assert_unlocked::<Loom>();
            self.sent.lock().unwrap().push(event);
        });
    }

    fn sends(self: &Arc<Self>, events: &'static [u32]) -> thread::JoinHandle<()> {
        let this = Arc::clone(self);
        thread::spawn(move || {
            for event in events {
                this.change(|queue| queue.push_back((*event, false)));
            }
        })
    }

    fn sent(&self) -> Vec<u32> {
        self.sent.lock().unwrap().clone()
    }
}

/// One adds an event while another one sends, or has just found nothing more to send.
#[test]
fn an_event_beside_the_end_of_a_sender() {
    explore("an_event_beside_the_end_of_a_sender", Unbounded, 45, || {
        let progress = Progress::new();
        let other = progress.sends(&[1]);
        progress.change(|queue| queue.push_back((2, false)));
        other.join().unwrap();
        let sent = progress.sent();
        assert!(matches!(sent[..], [1, 2] | [2, 1]), "{sent:?}");
    });
}

/// The events of one task are sent in their order, whoever sends them.
#[test]
fn events_are_sent_in_their_order() {
    explore("events_are_sent_in_their_order", Unbounded, 35, || {
        let progress = Progress::new();
        let other = progress.sends(&[1, 2]);
        progress.change(|queue| queue.push_back((3, false)));
        other.join().unwrap();
        let sent = progress.sent();
        assert_eq!(sent.len(), 3, "{sent:?}");
        let at = |event| sent.iter().position(|sent| *sent == event);
        assert!(at(1) < at(2), "{sent:?}");
    });
}

/// An event waits for the departure of a session, which is reported while another event comes.
#[test]
fn an_event_that_waits_is_sent_when_it_may() {
    explore("an_event_that_waits_is_sent_when_it_may", Unbounded, 35, || {
        let progress = Progress::new();
        progress.change(|queue| queue.push_back((1, true)));
        assert!(progress.sent().is_empty());
        let other = progress.sends(&[2]);
        progress.change(|queue| queue.iter_mut().for_each(|(_, waits)| *waits = false));
        other.join().unwrap();
        assert_eq!(progress.sent(), [1, 2]);
    });
}
