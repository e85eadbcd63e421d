//! What is looked at. Each behaviour is a script for two programs; who of them dials, and who acts, is the cast's.

mod close;
mod crowd;
mod flow;
mod life;
mod manager;

use std::{future::Future, pin::Pin, time::Duration};

use crate::{
    cast::{Cast, Options},
    verdict::Failure,
};

/// What a script gives: a fact worth telling, or nothing, or why it failed.
pub(crate) type Outcome = Result<String, Failure>;

type Script = for<'a> fn(&'a Cast) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// One thing that is looked at.
pub(crate) struct Behaviour {
    pub(crate) name: &'static str,
    /// What happens, and what must hold, in one sentence. `A` acts, `B` is the other.
    pub(crate) about: &'static str,
    /// How long a run may take, beside the programs' start.
    pub(crate) deadline: Duration,
    /// Whether both sides act, in turn. If not, the behaviour says who does.
    pub(crate) acts: Acts,
    pub(crate) controls: Controls,
    /// Whether what a library does where it goes well is worth a line in the README.
    pub(crate) tells: bool,
    pub(crate) run: Script,
}

/// What in our place says anything about whose a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Controls {
    None,
    /// The peer's own library, and third ones.
    Libraries,
    /// The yamux crate as well, where the peer acts: if it opens more at once than any peer with a limit takes, it fails
    /// there too.
    LibrariesAndCrate,
}

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acts {
    Both,
    Us,
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// All of them, in the order of the table.
pub(crate) const ALL: &[Behaviour] = &[
    Behaviour {
        name: "echo-1",
        about: "A opens a stream and sends 1 byte and a FIN; B echoes them.",
        deadline: seconds(10),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(echo(cast, 1)),
    },
    Behaviour {
        name: "echo-1k",
        about: "The same with 1 KiB.",
        deadline: seconds(10),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(echo(cast, 1 << 10)),
    },
    Behaviour {
        name: "echo-64k",
        about: "The same with 64 KiB.",
        deadline: seconds(10),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(echo(cast, 64 << 10)),
    },
    Behaviour {
        name: "echo-1m",
        about: "The same with 1 MiB, which is four windows; a FIN may come when all is back.",
        deadline: seconds(20),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(echo(cast, 1 << 20)),
    },
    Behaviour {
        name: "echo-10m",
        about: "The same with 10 MiB.",
        deadline: seconds(40),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(echo(cast, 10 << 20)),
    },
    Behaviour {
        name: "streams-100",
        about: "A opens 100 streams at once, with 4 KiB on each; all are echoed.",
        deadline: seconds(20),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(crowd::streams(cast, 100, 100)),
    },
    Behaviour {
        name: "streams-5000",
        about: "A opens 5,000 streams, one after the other (500 with `--quick`); all are echoed.",
        deadline: seconds(60),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(crowd::streams(cast, if cast.is_quick { 500 } else { 5000 }, 1)),
    },
    Behaviour {
        name: "half-close-opener",
        about: "A opens a stream, sends, and says FIN; then B sends 100 KiB and says FIN. All must arrive.",
        deadline: seconds(15),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(close::half_close(cast, close::First::Opener, close::LATE_BYTES)),
    },
    Behaviour {
        name: "half-close-acceptor",
        about: "A opens a stream; B sends and says FIN first, then A sends 100 KiB and says FIN. All must arrive.",
        deadline: seconds(15),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(close::half_close(cast, close::First::Acceptor, close::LATE_BYTES)),
    },
    Behaviour {
        name: "half-close-both",
        about: "A opens a stream; both send 100 KiB and say FIN at the same time. All must arrive.",
        deadline: seconds(15),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(close::half_close(cast, close::First::Both, close::LATE_BYTES)),
    },
    Behaviour {
        name: "half-close-1m",
        about: "A opens a stream, sends, and says FIN; then B sends 1 MiB, which is four windows, and says FIN. All must \
                arrive.",
        deadline: seconds(15),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(close::half_close(cast, close::First::Opener, close::MANY_LATE_BYTES)),
    },
    Behaviour {
        name: "reset-opener",
        about: "A opens a stream and resets it. B must read an error after the bytes that came, and cannot write.",
        deadline: seconds(15),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(close::reset(cast, close::Who::Opener, close::After::Nothing)),
    },
    Behaviour {
        name: "reset-acceptor",
        about: "A opens a stream and B resets it. A must read an error, and cannot write.",
        deadline: seconds(15),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(close::reset(cast, close::Who::Acceptor, close::After::Nothing)),
    },
    Behaviour {
        name: "reset-opener-after-own-fin",
        about: "A opens a stream, says FIN, then resets it. B cannot write any more.",
        deadline: seconds(15),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(close::reset(cast, close::Who::Opener, close::After::OwnFin)),
    },
    Behaviour {
        name: "reset-acceptor-after-own-fin",
        about: "A opens a stream; B says FIN, then resets it. A cannot write any more.",
        deadline: seconds(15),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(close::reset(cast, close::Who::Acceptor, close::After::OwnFin)),
    },
    Behaviour {
        name: "reset-opener-after-other-fin",
        about: "A opens a stream, B says FIN, then A resets it. B must read an error, never end of file.",
        deadline: seconds(15),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(close::reset(cast, close::Who::Opener, close::After::OtherFin)),
    },
    Behaviour {
        name: "reset-acceptor-after-other-fin",
        about: "A opens a stream and says FIN, then B resets it. A must read an error, never end of file.",
        deadline: seconds(15),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(close::reset(cast, close::Who::Acceptor, close::After::OtherFin)),
    },
    Behaviour {
        name: "paused-reader",
        about: "A writes 2 MiB in one write while B does not read for a while; then all must arrive, in order, and other \
                streams work meanwhile.",
        deadline: seconds(20),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(flow::paused_reader(cast)),
    },
    Behaviour {
        name: "bulk-20ms",
        about: "A sends 16 MiB in one write, over a link with a round trip of 20 ms.",
        deadline: seconds(60),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(flow::bulk(cast, Duration::from_millis(20))),
    },
    Behaviour {
        name: "ping",
        about: "A pings ten times, and each is answered.",
        deadline: seconds(15),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(life::ping(cast)),
    },
    Behaviour {
        name: "go-away",
        about: "A closes cleanly while a stream is in flight in each direction. evermux never takes what was cut for \
                complete, and lets its own streams finish if the other side does.",
        deadline: seconds(40),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: true,
        run: |cast| Box::pin(life::go_away(cast, false)),
    },
    Behaviour {
        name: "early-go-away",
        about: "The same from evermux with `early_go_away`: what the peer does with its streams is told.",
        deadline: seconds(40),
        acts: Acts::Us,
        controls: Controls::None,
        tells: true,
        run: |cast| Box::pin(life::go_away(cast, true)),
    },
    Behaviour {
        name: "killed",
        about: "The peer dies by SIGKILL with a stream in flight that A has opened. evermux must notice within 3 s, and its \
                streams end in errors.",
        deadline: seconds(15),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(life::killed(cast)),
    },
    Behaviour {
        name: "stopped",
        about: "The peer is stopped by SIGSTOP. The heartbeat of evermux, set to 500 ms and 500 ms, must end the session, and \
                its streams end in errors.",
        deadline: seconds(15),
        acts: Acts::Us,
        controls: Controls::None,
        tells: false,
        run: |cast| Box::pin(life::stopped(cast)),
    },
    Behaviour {
        name: "backlog-200",
        about: "A opens 200 streams with a request on each, and B accepts none for a while; then B serves. None may be lost.",
        deadline: seconds(25),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(crowd::backlog(cast, 200)),
    },
    Behaviour {
        name: "backlog-256",
        about: "The same with 256, which is the backlog of hashicorp's yamux. None may be lost.",
        deadline: seconds(25),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(crowd::backlog(cast, 256)),
    },
    Behaviour {
        name: "backlog-300",
        about: "The same with 300. Some may be refused, and no more than 300 - 256: the session lives.",
        deadline: seconds(25),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: true,
        run: |cast| Box::pin(crowd::backlog(cast, 300)),
    },
    Behaviour {
        name: "burst-250",
        about: "A opens 250 streams at once, as soon as it has a session, with a request on each; all must be \
                answered. Three sessions, one after the other.",
        deadline: seconds(40),
        acts: Acts::Both,
        controls: Controls::LibrariesAndCrate,
        tells: false,
        run: |cast| Box::pin(crowd::burst(cast, 250)),
    },
    Behaviour {
        name: "burst-600",
        about: "The same with 600.",
        deadline: seconds(40),
        acts: Acts::Both,
        controls: Controls::LibrariesAndCrate,
        tells: false,
        run: |cast| Box::pin(crowd::burst(cast, 600)),
    },
    Behaviour {
        name: "burst-1000",
        about: "The same with 1,000.",
        deadline: seconds(40),
        acts: Acts::Both,
        controls: Controls::LibrariesAndCrate,
        tells: false,
        run: |cast| Box::pin(crowd::burst(cast, 1000)),
    },
    Behaviour {
        name: "twenty-lives",
        about: "A `MuxManager` (an establisher where we dial, a receiver where the peer does), and a peer that dies and is \
                started again 20 times: requests go on each time.",
        deadline: seconds(120),
        acts: Acts::Both,
        controls: Controls::Libraries,
        tells: false,
        run: |cast| Box::pin(manager::twenty_lives(cast)),
    },
];

/// How long streams may take all together, where they must not hang.
const ECHO_LIMIT: Duration = Duration::from_secs(8);

async fn echo(cast: &Cast, size: usize) -> Outcome {
    let pair = cast.pair(Options { serve: true, ..Options::default() }).await?;
    let within = if size > 1 << 20 { Duration::from_secs(30) } else { ECHO_LIMIT };
    pair.all_echo(1, 1, size, within).await?;
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_one_of_a_kind_and_every_behaviour_says_what_it_is() {
        let names: BTreeSet<_> = ALL.iter().map(|behaviour| behaviour.name).collect();
        assert_eq!(names.len(), ALL.len());
        for behaviour in ALL {
            assert!(behaviour.about.ends_with('.'), "{}", behaviour.name);
            assert!(behaviour.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{}", behaviour.name);
        }
    }
}
