//! The ledger beside a model that keeps every frame of every stream.

use std::collections::VecDeque;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::Semaphore;

use super::*;
use crate::error::StreamError;
use crate::sync::{Arrivals, LaneLimits};

const WINDOW: u64 = 256 << 10;

fn ledger(config: &Config) -> Ledger {
    let lane = Arc::new(Arrivals::new(16)).lane(LaneLimits { waiting: 16, taken: 16 });
    Ledger::new(config, lane, Arc::default(), Arc::default())
}

fn permit() -> OpenPermit {
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    OpenPermit { permit, load: LoadGuard::new(&Arc::default()) }
}

fn data(stream_id: u32, flags: u16, length: u32) -> Header {
    Header { kind: Kind::Data, flags, stream_id, length }
}

fn update(stream_id: u32, flags: u16, length: u32) -> Header {
    Header { kind: Kind::WindowUpdate, flags, stream_id, length }
}

/// What is known of a stream that is open on the wire.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Known {
    outbound: bool,
    announced: bool,
    acknowledged: bool,
    fin_out: Option<u64>,
    reset_after_fin: bool,
    granted: u64,
    carried: u64,
    allowance: u64,
    read: u64,
    /// Where the frames end that were not read.
    unread: VecDeque<u64>,
    entry: Arc<Entry>,
}

struct Model {
    ledger: Ledger,
    open: BTreeMap<u32, Known>,
    backlog: usize,
    refuses: bool,
    by_evermux: bool,
    said: u64,
    sent: u64,
    /// The entries of streams that have ended, with what is known of their end.
    over: Vec<(Arc<Entry>, Option<u64>, Option<StreamError>)>,
}

impl Model {
    fn new(backlog: usize, by_evermux: bool) -> Self {
        let config = Config::builder().accept_backlog(backlog).max_concurrent_streams(8).build().unwrap();
        let (open, over) = (BTreeMap::new(), Vec::new());
        Self { ledger: ledger(&config), open, backlog, refuses: false, by_evermux, said: 0, sent: 0, over }
    }

    fn insert(&mut self, id: u32, outbound: bool, carried: u64, credit: u64) {
        let known = Known {
            outbound,
            announced: !outbound,
            acknowledged: false,
            fin_out: None,
            reset_after_fin: false,
            granted: WINDOW,
            carried: 0,
            allowance: WINDOW + credit,
            read: 0,
            unread: VecDeque::new(),
            entry: self.ledger.entry(id).unwrap(),
        };
        assert!(carried == 0 || !outbound);
        self.open.insert(id, known);
    }

    fn unacknowledged(&self, outbound: bool) -> usize {
        self.open.values().filter(|known| known.outbound == outbound && !known.acknowledged).count()
    }

    fn remove(&mut self, id: u32, error: Option<StreamError>) {
        let known = self.open.remove(&id).unwrap();
        let finished = known.entry.ends.is_finished().then_some(known.carried);
        if let (Some(fin_out), Some(_), None) = (known.fin_out, finished, error) {
            self.said = self.said.max(fin_out);
        }
        self.over.push((known.entry, finished, error));
    }

    fn frame_in(&mut self, header: Header) {
        let id = header.stream_id;
        let body = u64::from(header.body_len());
        let is_new = header.has(flags::SYN) && !header.has(flags::RST) && !self.open.contains_key(&id);
        let is_full = self.refuses || self.unacknowledged(false) >= self.backlog;
        let expected = match self.open.get_mut(&id) {
            None if is_new && is_full => Ruling::Refuse(Header::reset(id)),
            None if is_new => Ruling::Pass,
            None => Ruling::Drop,
            Some(known) => {
                known.allowance += header.credit();
                let is_late = header.kind == Kind::Data && !header.has(flags::RST) && known.entry.ends.is_finished();
                if is_late { Ruling::Drop } else { Ruling::Pass }
            }
        };
        assert_eq!(self.ledger.rule_in(&header), expected, "{header:?}");
        if expected != Ruling::Pass {
            return;
        }
        if is_new {
            self.insert(id, false, body, header.credit());
        }
        self.ledger.book_in(&header, self.by_evermux);
        let known = self.open.get_mut(&id).unwrap();
        known.acknowledged |= known.outbound && (header.has(flags::ACK) || !header.has(flags::RST));
        if header.has(flags::RST) {
            let error = if known.outbound && !known.acknowledged && self.by_evermux {
                StreamError::Refused
            } else if header.length == FLOODED && self.by_evermux {
                StreamError::Flooding
            } else {
                StreamError::ResetByPeer
            };
            return self.remove(id, Some(error));
        }
        known.carried += body;
        if body > 0 {
            known.unread.push_back(known.carried);
        }
        if header.has(flags::FIN) && known.fin_out.is_some() {
            self.remove(id, None);
        }
    }

    fn frame_out(&mut self, header: Header) {
        let id = header.stream_id;
        self.sent += 12 + u64::from(header.body_len());
        let expected = match self.open.get_mut(&id) {
            None => Ruling::Drop,
            Some(known) => {
                known.announced = true;
                known.acknowledged |= !known.outbound && header.has(flags::ACK);
                if header.has(flags::RST) {
                    Ruling::Pass
                } else {
                    known.granted += header.credit();
                    known.allowance = known.allowance.saturating_sub(header.body_len().into());
                    let is_fin = header.has(flags::FIN);
                    if is_fin && known.entry.is_gone() && !known.entry.is_fin_queued() {
                        Ruling::Reset
                    } else if is_fin && known.reset_after_fin && !known.entry.ends.is_finished() {
                        Ruling::PassThenReset
                    } else {
                        Ruling::Pass
                    }
                }
            }
        };
        assert_eq!(self.ledger.rule_out(&header, self.sent), expected, "{header:?}");
        let sent = self.sent;
        let Some(known) = self.open.get_mut(&id) else { return };
        let is_reset = header.has(flags::RST) || matches!(expected, Ruling::Reset | Ruling::PassThenReset);
        if header.has(flags::FIN) && expected != Ruling::Reset && !header.has(flags::RST) {
            known.fin_out = Some(sent);
        }
        if is_reset {
            self.remove(id, Some(StreamError::ResetHere));
        } else if known.fin_out.is_some() && known.entry.ends.is_finished() {
            self.remove(id, None);
        }
    }

    fn check(&mut self) {
        let ledger = &mut self.ledger;
        let open = &self.open;
        assert_eq!((ledger.len(), ledger.is_empty()), (open.len(), open.is_empty()));
        assert_eq!(ledger.is_used(), open.values().any(|known| !known.outbound || known.acknowledged));
        assert_eq!(ledger.is_announced(), open.values().all(|known| known.announced));
        assert_eq!(ledger.said(), self.said);
        let frames = ledger.records.values().map(|record| record.unread.frames());
        let left = ledger.left.iter().map(|(_, unread)| unread.frames());
        assert_eq!(ledger.unread, frames.chain(left).sum::<u32>(), "the frames of all streams are those of each");
        for (id, known) in open {
            let credit = (!known.entry.ends.is_finished()).then_some(known.granted - known.carried);
            assert_eq!(ledger.credit(*id), credit, "credit of {id}");
            assert_eq!(ledger.allowance(*id), Some(known.allowance), "allowance of {id}");
            assert!(ledger.is_open(*id) && ledger.entry(*id).is_some());
            let counted = ledger.records[id].unread.frames() as usize;
            assert!(counted >= known.unread.len(), "{counted} count, and {} are unread", known.unread.len());
        }
        assert!(!ledger.is_open(u32::MAX) && ledger.credit(u32::MAX).is_none() && ledger.allowance(u32::MAX).is_none());
        assert_eq!(ledger.unacknowledged(), self.unacknowledged(true));
        assert_eq!(self.ledger.unacknowledged_in, self.unacknowledged(false));
        settle(&mut self.ledger);
        for (entry, finished, error) in self.over.drain(..) {
            assert_eq!(entry.finished_at(), finished);
            let told = error.filter(|error| *error != StreamError::ResetHere);
            assert_eq!(entry.error(), told);
            let mut wait = std::pin::pin!(entry.end.latch().wait());
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            let outcome = std::future::Future::poll(wait.as_mut(), &mut cx);
            assert_eq!(outcome, std::task::Poll::Ready(error.map_or(Ok(()), Err)), "it has ended, and says how");
        }
    }
}

#[test]
fn whatever_comes_and_goes_is_booked_as_it_is() {
    for seed in 0..100 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut model = Model::new(rng.random_range(1..4), rng.random());
        let (mut next_out, mut next_in) = (1, 2);
        for _ in 0..200 {
            let known: Vec<u32> = model.open.keys().copied().collect();
            let id = match known.len() {
                0 => 77,
                len => known[rng.random_range(0..len)],
            };
            let length = *[0, 1, 100, 4_000].get(rng.random_range(0..4)).unwrap();
            match rng.random_range(0..16) {
                0 | 1 if model.open.len() < 8 => {
                    model.ledger.open(next_out, permit());
                    model.insert(next_out, true, 0, 0);
                    next_out += 2;
                }
                2 | 3 => {
                    let header = if rng.random() {
                        data(next_in, flags::SYN, length)
                    } else {
                        update(next_in, flags::SYN, length)
                    };
                    let fin = if rng.random_ratio(1, 4) { flags::FIN } else { 0 };
                    model.frame_in(Header { flags: header.flags | fin, ..header });
                    next_in += 2;
                }
                4 | 5 => model.frame_in(data(id, 0, length)),
                6 => model.frame_in(update(id, *[0, flags::ACK].get(rng.random_range(0..2)).unwrap(), length)),
                7 => model.frame_in(data(id, flags::FIN, length)),
                8 => {
                    let ack = if rng.random() { flags::ACK } else { 0 };
                    let code = if rng.random_ratio(1, 3) { FLOODED } else { 0 };
                    model.frame_in(update(id, flags::RST | ack, code));
                }
                9 | 10 => model.frame_out(data(id, 0, length)),
                11 => model.frame_out(update(id, *[0, flags::ACK].get(rng.random_range(0..2)).unwrap(), length)),
                12 => {
                    if let Some(known) = model.open.get(&id) {
                        match rng.random_range(0..3) {
                            0 => known.entry.set_gone(),
                            _ => known.entry.set_fin_queued(),
                        }
                        if known.fin_out.is_none() {
                            model.frame_out(data(id, flags::FIN, length));
                        }
                    }
                }
                13 if rng.random_ratio(1, 4) => model.frame_out(update(id, flags::RST, 0)),
                14 => {
                    let Some(known) = model.open.get_mut(&id) else { continue };
                    let is_now = known.fin_out.is_some();
                    known.reset_after_fin |= !is_now;
                    assert_eq!(model.ledger.give_up(id), is_now);
                    if is_now {
                        model.remove(id, Some(StreamError::ResetHere));
                    }
                }
                _ => {
                    let Some(known) = model.open.get_mut(&id) else { continue };
                    let more = rng.random_range(0..=known.carried - known.read);
                    known.entry.add_read(usize::try_from(more).unwrap());
                    known.read += more;
                    let read = known.read;
                    known.unread.retain(|end| *end > read);
                }
            }
            model.check();
        }
        model.ledger.refuse_all();
        model.refuses = true;
        model.frame_in(data(next_in, flags::SYN, 0));
        let known: Vec<u32> = model.open.iter().filter(|(_, known)| known.announced).map(|(id, _)| *id).collect();
        let resets: Vec<u32> = model.ledger.close_all().iter().map(|reset| reset.stream_id).collect();
        assert_eq!(resets, known, "the peer is told of the end of each stream that it knows");
        assert!(model.ledger.is_empty());
    }
}

fn settle(ledger: &mut Ledger) {
    let lane = ledger.lane.clone();
    ledger.take_ended().settle(&lane);
}

/// Takes so many frames of one byte on a stream of the peer.
fn takes(ledger: &mut Ledger, id: u32, frames: u32) {
    for frame in 0..frames {
        let flags = if frame == 0 && !ledger.is_open(id) { flags::SYN } else { 0 };
        assert_eq!(ledger.rule_in(&data(id, flags, 1)), Ruling::Pass, "frame {frame} of stream {id}");
        ledger.book_in(&data(id, flags, 1), true);
    }
}

#[test]
fn the_stream_with_most_unread_frames_is_given_up_when_they_are_too_many_together() {
    // One stream may hold 65,536, and all together twice as many.
    let mut ledger = ledger(&Config::builder().max_concurrent_streams(1).accept_backlog(8).build().unwrap());
    takes(&mut ledger, 2, 30_000);
    takes(&mut ledger, 4, 60_000);
    takes(&mut ledger, 6, 41_071);
    assert_eq!(ledger.relieve(), None, "one less than too many");
    // What was read does not count, however many came since.
    ledger.entry(6).unwrap().add_read(41_071);
    takes(&mut ledger, 6, 10_000);
    assert_eq!(ledger.relieve(), None);
    takes(&mut ledger, 6, 31_072);
    let entry = ledger.entry(4).unwrap();
    assert_eq!(ledger.relieve(), Some(Header { length: FLOODED, ..Header::reset(4) }));
    assert_eq!((ledger.is_open(4), entry.error()), (false, Some(StreamError::Flooded)));
    assert_eq!((ledger.unread, ledger.relieve()), (71_072, None), "there is room again");
    // One that has ended on the wire holds its frames for as long as its handle is there, and is given up without RST.
    let left = ledger.entry(2).unwrap();
    ledger.book_in(&update(2, flags::RST, 0), true);
    assert_eq!(ledger.unread, 71_072);
    settle(&mut ledger);
    drop(left);
    takes(&mut ledger, 8, 60_000);
    assert_eq!(ledger.relieve(), None, "its handle is gone, and with it 30,000");
    assert_eq!(ledger.unread, 101_072);
    let held = ledger.entry(8).unwrap();
    ledger.book_in(&update(8, flags::RST, 0), true);
    settle(&mut ledger);
    takes(&mut ledger, 10, 30_000);
    assert_eq!((ledger.relieve(), held.error()), (None, Some(StreamError::Flooded)));
    assert_eq!(ledger.unread, 71_072);
}

#[test]
fn one_stream_holds_as_many_unread_frames_as_its_window_lets_an_honest_peer_send() {
    let mut ledger = ledger(&Config::builder().max_concurrent_streams(64).build().unwrap());
    takes(&mut ledger, 2, 65_536);
    assert_eq!(ledger.rule_in(&data(2, 0, 1)), Ruling::Refuse(Header { length: FLOODED, ..Header::reset(2) }));
    assert_eq!((ledger.is_open(2), ledger.unacknowledged_in, ledger.unread), (false, 0, 0));
    // One that is read may go on, and one whose window has grown may hold more.
    takes(&mut ledger, 4, 65_536);
    ledger.entry(4).unwrap().add_read(65_536);
    takes(&mut ledger, 4, 1);
    assert_eq!(ledger.rule_out(&update(4, flags::ACK, 16 << 20), 12), Ruling::Pass);
    takes(&mut ledger, 4, 70_000);
}
