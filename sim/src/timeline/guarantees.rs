//! What each guarantee says, for someone who reads of it for the first time.

/// One guarantee in two plain sentences.
pub(super) struct Guarantee {
    /// `G1` to `G19`, `panic`, `hang` or `scenario`.
    pub(super) name: &'static str,
    /// What must always be true.
    pub(super) rule: &'static str,
    /// What is true when it is broken.
    pub(super) broken: &'static str,
}

/// The guarantee with this name.
pub(super) fn find(name: &str) -> Option<&'static Guarantee> {
    ALL.iter().find(|guarantee| guarantee.name == name)
}

const fn guarantee(name: &'static str, rule: &'static str, broken: &'static str) -> Guarantee {
    Guarantee { name, rule, broken }
}

/// All of them, in order.
pub(super) const ALL: [Guarantee; 23] = [
    guarantee(
        "G1",
        "Whoever asks for a session gets one: nobody waits while a live session is there.",
        "Somebody waited for a session although a live one was there.",
    ),
    guarantee(
        "G2",
        "When a session becomes ready, everyone who waits for it is woken, tasks and threads alike.",
        "A session became ready, and somebody who waited for it was not woken.",
    ),
    guarantee(
        "G3",
        "Nobody is given a session that they can already know to be dead.",
        "Somebody was given a session that they could already know to be dead.",
    ),
    guarantee("G4", "A shutdown frees everyone who waits, now and later.", "Somebody still waited after the shutdown."),
    guarantee(
        "G5",
        "When a shutdown has returned, nothing is left: no task, no open socket, no session that comes later.",
        "A shutdown returned, and something was left behind or came afterwards.",
    ),
    guarantee(
        "G6",
        "A session that is replaced is closed exactly once, and a slow close delays nobody.",
        "A session that was replaced was not closed exactly once, or its close delayed others.",
    ),
    guarantee(
        "G7",
        "No code of the user runs while a lock of the core is held.",
        "Code of the user ran while a lock of the core was held.",
    ),
    guarantee(
        "G8",
        "News of an old session's death never removes a newer session.",
        "News of an old session's death removed a newer session.",
    ),
    guarantee(
        "G9",
        "Any call can be cancelled while it waits: it leaves nothing behind, and takes no wake-up from others.",
        "A call that was cancelled left something behind, or took a wake-up from others.",
    ),
    guarantee(
        "G10",
        "A dead peer is found in time, and a live one is not taken for dead.",
        "A dead peer was not found in time, or a live one was taken for dead.",
    ),
    guarantee(
        "G11",
        "After a stable session the first retry comes at once; other retries come with growing pauses.",
        "A retry came too late, or retries came without the pauses that must be between them.",
    ),
    guarantee(
        "G12",
        "When reconnecting ends for good, everyone who waits is told so, with the cause.",
        "Reconnecting ended for good, and somebody who waited was not told, or not told the cause.",
    ),
    guarantee(
        "G13",
        "Accepting never stalls: clients that connect and stay silent do not keep others out.",
        "A listener stalled, and a client that should have got in was kept out.",
    ),
    guarantee(
        "G14",
        "A peer that comes back gets the place of its own dead session; a stranger never takes a live one's place.",
        "A peer that came back was locked out, or a session that was alive lost its place to another.",
    ),
    guarantee(
        "G15",
        "A session is handed out only after a message has gone over it and an answer has come back.",
        "A session was handed out before it had proved that it works.",
    ),
    guarantee(
        "G16",
        "A limit on streams hurts one stream, and never the whole session.",
        "A limit on streams hurt more than the one stream that met it.",
    ),
    guarantee(
        "G17",
        "A transfer that was cut off never looks complete.",
        "A transfer that was cut off looked complete, or the end of a stream was told wrongly.",
    ),
    guarantee(
        "G18",
        "On every stream all bytes arrive once and in order.",
        "Bytes were lost, came twice, or came in the wrong order.",
    ),
    guarantee(
        "G19",
        "Nothing grows without bound: queues, buffers, retries and lists all have a limit.",
        "A queue, a buffer or a list grew past its limit.",
    ),
    guarantee(
        "liveness",
        "When the last fault is over, everybody is served again, within a time that the settings decide.",
        "Somebody was not served in time after the last fault was over.",
    ),
    guarantee(
        "panic",
        "No part of the program panics, which is to say: meets an error that it was not made for, and stops.",
        "A part of the program panicked.",
    ),
    guarantee(
        "hang",
        "All that was started comes to its end in time.",
        "Something that was started did not come to its end in time.",
    ),
    guarantee(
        "scenario",
        "What this scenario expects of its own run, apart from the numbered guarantees, comes true.",
        "Something that this scenario expects of its own run did not come true.",
    ),
];
