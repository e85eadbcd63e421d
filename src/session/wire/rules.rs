//! What each frame means, in and out.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::trace;

use super::WireCore;
use crate::{
    error::CloseReason,
    session::{
        frame::{HEADER_LEN, Header, Kind, flags},
        goodbye,
        input::InputState,
        ledger::Ruling,
        pings,
        record::WINDOW,
        role::Role,
    },
};

/// A Data frame with a shorter body may be all that a task waits for.
const SMALL_BODY_BYTES: usize = 4 << 10;

impl<Io> WireCore<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    /// Decides on the frame whose header is next in the input.
    pub(super) fn on_header(&mut self, header: Header) {
        self.input.consume_header();
        let body = header.body_len() as usize;
        let state = match header.kind {
            Kind::Ping if header.has(flags::ACK) => {
                trace!(?header, "frame in");
                self.pings.on_pong(header.length, Instant::now());
                InputState::Boundary
            }
            Kind::Ping => {
                trace!(?header, "frame in");
                self.on_ping(header.length);
                InputState::Boundary
            }
            Kind::GoAway => {
                trace!(?header, "frame in");
                match goodbye::reason_of(header.length, self.peer_is_evermux()) {
                    None => {
                        self.is_guest |= !self.go_away_out;
                        self.go_away_in = true;
                    }
                    Some(reason) => self.fail(reason),
                }
                InputState::Boundary
            }
            Kind::Data | Kind::WindowUpdate => {
                let is_small = header.kind == Kind::Data && body < SMALL_BODY_BYTES;
                if is_small || header.has(flags::SYN) || header.has(flags::FIN) {
                    self.output.expect_answer();
                }
                self.check_stream(&header);
                if let Some(reset) = self.ledger.relieve() {
                    self.push_reset(reset);
                }
                let ruling = self.ledger.rule_in(&header);
                trace!(?header, ?ruling, "frame in");
                match ruling {
                    Ruling::Refuse(reset) => {
                        self.push_reset(reset);
                        InputState::Dropping(body)
                    }
                    Ruling::Pass => InputState::passing(header),
                    Ruling::Reset | Ruling::PassThenReset | Ruling::Drop => InputState::Dropping(body),
                }
            }
        };
        self.input.set_state(state);
    }

    /// Finds what the crate would answer with a GoAway of its own, to report it more clearly.
    fn check_stream(&mut self, header: &Header) {
        let (id, body) = (header.stream_id, header.body_len());
        if id == 0 {
            return self.fail_protocol(format!("a {:?} frame for stream 0", header.kind));
        }
        let (credit, allowance) = if header.has(flags::SYN) {
            let theirs = id.is_multiple_of(2) == (self.role == Role::Client);
            if !theirs {
                let text = format!("stream {id} was opened by the peer, whose ids have the other parity");
                return self.fail_protocol(text);
            }
            if self.ledger.is_open(id) {
                return self.fail_protocol(format!("stream {id} was opened twice"));
            }
            (Some(WINDOW.into()), Some(WINDOW.into()))
        } else {
            (self.ledger.credit(id), self.ledger.allowance(id))
        };
        if let Some(credit) = credit
            && u64::from(body) > credit
        {
            self.fail_protocol(format!("a frame of {body} bytes on stream {id}, whose credit is {credit} bytes"));
        }
        if let Some(allowance) = allowance
            && allowance + header.credit() > u32::MAX.into()
        {
            let more = header.credit();
            let text =
                format!("a credit of {more} bytes more on stream {id}, which has {allowance}: 4 GiB is too much");
            self.fail_protocol(text);
        }
    }

    fn on_ping(&mut self, value: u32) {
        if value == self.role.proof() {
            self.fail_protocol(
                "the peer sends our own words back: it is an echo, or a program that has the same role as this one",
            );
        }
        // Only the first one counts.
        if pings::is_proof(value) && self.proof_came.is_none() {
            self.proof_came = Some(Instant::now());
            self.output.cut_frames_short(&self.io);
        }
        if self.peer_is_evermux() && self.pings.tells(value) {
            return;
        }
        if let Err(reason) = self.output.push_pong(Header::pong(value)) {
            self.fail(reason);
        }
    }

    pub(super) fn on_header_out(&mut self, header: Header) {
        if header.body_len() > 0 {
            self.ledger.on_bytes_out(header.stream_id);
        }
        let ruling = match header.kind {
            Kind::Ping => {
                if let Some(ping) = self.pings.on_ping_of_the_crate(header.length, Instant::now()) {
                    self.push_control(ping);
                }
                Ruling::Drop
            }
            Kind::GoAway => {
                // The crate sends one only after an error of its own, and goes on.
                self.fail_refused();
                Ruling::Drop
            }
            // What is thrown away was not sent.
            Kind::Data | Kind::WindowUpdate if self.output.error().is_some() => Ruling::Drop,
            Kind::Data | Kind::WindowUpdate => self.ledger.rule_out(&header, self.output.end() + HEADER_LEN as u64),
        };
        if ruling != Ruling::Pass {
            trace!(?header, ?ruling, "frame of the crate");
        }
        self.output.begin_body(header.body_len(), !matches!(ruling, Ruling::Pass | Ruling::PassThenReset));
        match ruling {
            Ruling::Pass => self.output.push_frame(header),
            Ruling::PassThenReset => {
                self.output.push_frame(header);
                self.push_control(Header::reset(header.stream_id));
            }
            Ruling::Reset => self.output.push_frame(Header::reset(header.stream_id)),
            Ruling::Refuse(_) | Ruling::Drop => {}
        }
    }
    /// Fails the session, with a GoAway for the peer, if it still reads.
    pub(super) fn fail_protocol(&mut self, what: impl Into<Arc<str>>) {
        if self.failure.is_none() {
            self.push_control(Header::go_away(1));
        }
        self.fail(CloseReason::Protocol(what.into()));
    }

    /// Fails the session: the crate refuses the frame it was given last.
    pub(super) fn fail_refused(&mut self) {
        let Header { kind, flags, stream_id, length } = self.polls.last;
        let frame = format!("{kind:?} frame of stream {stream_id}, of length {length} and with the flags {flags:#x}");
        self.fail_protocol(format!("the yamux crate refuses its last frame, a {frame}"));
    }

    /// Queues an RST. Its reason is only for a peer to whom it means something.
    fn push_reset(&mut self, reset: Header) {
        let length = if self.peer_is_evermux() { reset.length } else { 0 };
        self.push_control(Header { length, ..reset });
    }
}
