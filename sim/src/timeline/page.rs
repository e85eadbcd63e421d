//! The page around the pictures, in words.

use std::fmt::{self, Write};

use super::{ENLARGED_MS, Kind, SessionBar, Span, Timeline, guarantees, picture};

/// Between two events, a time longer than this is called quiet.
const QUIET_MS: u64 = 10_000;

/// Writes the page.
pub(super) fn write(out: &mut String, timeline: &Timeline) -> fmt::Result {
    let verdict = if timeline.failed() { "failed" } else { "passed" };
    let title = escape(&format!("{}, seed {}: {verdict}", timeline.scenario, timeline.seed));
    writeln!(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
    writeln!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")?;
    writeln!(out, "<meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>")?;
    writeln!(out, "<style>\n{}</style>\n</head>\n<body>\n<main>", include_str!("style.css"))?;
    out.push_str(include_str!("symbols.svg"));
    write_headline(out, timeline)?;
    write_plan(out, timeline)?;
    write_pictures(out, timeline)?;
    write_replay(out, timeline)?;
    write_guarantees(out, timeline)?;
    write_events(out, timeline)?;
    writeln!(out, "</main>\n</body>\n</html>")
}

fn write_headline(out: &mut String, timeline: &Timeline) -> fmt::Result {
    let name = timeline.guarantee.as_deref();
    let guarantee = name.and_then(guarantees::find);
    let verdict = if timeline.failed() { "failed" } else { "passed" };
    let sign = if timeline.failed() { "\u{2717} failed" } else { "\u{2713} passed" };
    writeln!(
        out,
        "<header class=\"{verdict}\">\n<p class=\"verdict\"><b>{sign}</b> evermux on a simulated network</p>"
    )?;
    match (guarantee, name, timeline.failed()) {
        (Some(guarantee), ..) => writeln!(out, "<h1>{}</h1>", escape(guarantee.broken))?,
        (None, Some(name), _) => writeln!(out, "<h1>{} was broken.</h1>", escape(name))?,
        (None, None, true) => writeln!(out, "<h1>The run failed.</h1>")?,
        (None, None, false) => writeln!(out, "<h1>All guarantees held in this run.</h1>")?,
    }
    if let Some(what) = timeline.what() {
        write!(out, "<p class=\"what\"><b>What was seen:</b> {}", escape(what))?;
        if let Some(violation) = &timeline.violation {
            let host = violation.host.as_ref().map_or(String::new(), |host| format!(", on {}", escape(host)));
            write!(out, " (<a href=\"#violation\">at {}{host}</a>)", moment(violation.at_ms))?;
        }
        writeln!(out, "</p>")?;
    }
    if let Some(guarantee) = guarantee {
        writeln!(out, "<p><b>The rule, {}:</b> {}</p>", guarantee.name, escape(guarantee.rule))?;
    }
    write!(out, "<dl><div><dt>scenario</dt><dd>{}</dd></div>", escape(&timeline.scenario))?;
    write!(out, "<div><dt>seed</dt><dd>{}</dd></div>", timeline.seed)?;
    write!(out, "<div><dt>simulated time</dt><dd>{}</dd></div>", length(timeline.end_ms))?;
    if let Some(revision) = &timeline.revision {
        write!(out, "<div><dt>revision</dt><dd><code>{}</code></dd></div>", escape(revision))?;
    }
    writeln!(out, "</dl>")?;
    writeln!(
        out,
        "<p class=\"intro\">evermux keeps a connection between two programs alive: when one is lost, it makes the next. Each \
         such connection is a <i>session</i>, a <i>manager</i> makes them, and <i>callers</i> ask it for the one that is \
         alive. Here all of that ran on simulated computers (<i>hosts</i>), with a simulated clock, over a network in which \
         things go wrong on purpose. The seed decides what and when, so the same seed gives the same run every \
         time.</p>\n</header>"
    )
}

fn write_plan(out: &mut String, timeline: &Timeline) -> fmt::Result {
    writeln!(out, "<section>\n<h2>What went wrong on purpose</h2>")?;
    if timeline.faults.is_empty() {
        return writeln!(out, "<p>Nothing: the network and the hosts worked all the time.</p>\n</section>");
    }
    writeln!(out, "<ol class=\"plan\">")?;
    for fault in timeline.plan() {
        let lasts = if fault.from_ms > timeline.last_ms() {
            ", which the run did not reach".to_owned()
        } else if fault.to_ms <= fault.from_ms {
            String::new()
        } else if fault.to_ms >= timeline.last_ms() {
            ", until the end".to_owned()
        } else {
            format!(", for {}", length(fault.to_ms - fault.from_ms))
        };
        let about = if fault.about.is_empty() { &fault.kind } else { &fault.about };
        let (at, about, kind) = (moment(fault.from_ms), escape(about), escape(&fault.kind));
        writeln!(out, "<li><span class=\"kind\">{kind}</span> <b>at {at}</b>{lasts}: {about}</li>")?;
    }
    writeln!(out, "</ol>\n</section>")
}

fn write_pictures(out: &mut String, timeline: &Timeline) -> fmt::Result {
    let whole = Span { from_ms: 0, to_ms: timeline.last_ms() };
    let enlarged = timeline.enlarged();
    writeln!(out, "<section>\n<h2>What happened</h2>\n<figure>")?;
    write_picture(out, timeline, whole, enlarged)?;
    write!(out, "<figcaption>The whole run. Time goes from left to right, in seconds; each host has a lane.")?;
    if enlarged.is_some() {
        write!(out, " The bracket under the picture shows which part is enlarged below.")?;
    }
    writeln!(out, " Point at anything to read more about it.</figcaption>\n</figure>")?;
    if let Some(part) = enlarged {
        writeln!(out, "<figure>\n<h3>The last {} before it was seen</h3>", length(ENLARGED_MS))?;
        write_picture(out, timeline, part, None)?;
        let (from, to) = (moment(part.from_ms), moment(part.to_ms));
        writeln!(out, "<figcaption>The same run from {from} to {to}, enlarged.</figcaption>\n</figure>")?;
    }
    write_legend(out, timeline, whole)?;
    writeln!(out, "</section>")
}

/// Draws it twice: for a wide window and for a narrow one. The style shows one of them.
fn write_picture(out: &mut String, timeline: &Timeline, part: Span, bracket: Option<Span>) -> fmt::Result {
    for (class, width) in [("wide", 1180.0), ("narrow", 660.0)] {
        writeln!(out, "<div class=\"{class}\">")?;
        picture::write(out, timeline, part, bracket, width)?;
        writeln!(out, "</div>")?;
    }
    Ok(())
}

fn write_legend(out: &mut String, timeline: &Timeline, whole: Span) -> fmt::Result {
    writeln!(out, "<ul class=\"legend\">")?;
    let mut line = |drawing: &str, text: &str| {
        writeln!(
            out,
            "<li><svg width=\"34\" height=\"18\" viewBox=\"0 0 34 18\" aria-hidden=\"true\">{drawing}</svg> {text}</li>"
        )
    };
    line(
        "<rect class=\"bar\" x=\"1\" y=\"2\" width=\"30\" height=\"14\" rx=\"2\"/><path class=\"cap\" d=\"M31 2V16\"/>",
        "a session, with its id, and the reason why it ended",
    )?;
    line(
        "<path class=\"bar\" d=\"M1 2H25L32 9L25 16H1Z\"/>",
        "a session that is pointed goes on there, outside of the picture",
    )?;
    if !timeline.faults.is_empty() {
        line(
            "<rect class=\"fault\" x=\"1\" y=\"1\" width=\"32\" height=\"16\"/>\
             <path class=\"edge\" d=\"M1 1V17M33 1V17\"/>",
            "a fault, in the lanes of the hosts that it concerns; its number is that of the list above",
        )?;
    }
    if timeline.hosts.iter().any(|host| picture::is_down(host, whole)) {
        line("<rect class=\"down\" x=\"1\" y=\"1\" width=\"32\" height=\"16\"/>", "the host is down")?;
    }
    if timeline.violation.is_some() {
        line("<path class=\"violation\" d=\"M17 0V18\"/>", "here it was seen that the guarantee was broken")?;
    }
    for kind in Kind::ALL {
        if timeline.marks.iter().any(|mark| mark.kind == kind) {
            let symbol = kind.symbol();
            line(&format!("<use href=\"#{symbol}\" class=\"{symbol}\" x=\"17\" y=\"9\"/>"), kind.meaning())?;
        }
    }
    if !timeline.marks.is_empty() {
        line("<text class=\"count\" x=\"14\" y=\"13\">3</text>", "beside a sign: there are so many of them")?;
    }
    writeln!(out, "</ul>")
}

fn write_replay(out: &mut String, timeline: &Timeline) -> fmt::Result {
    writeln!(out, "<section>\n<h2>How to replay it</h2>")?;
    write!(out, "<p>In a checkout of evermux")?;
    if let Some(revision) = &timeline.revision {
        write!(out, " at revision <code>{}</code>", escape(revision))?;
    }
    writeln!(out, ", this command repeats the same run, to the last byte. One click selects it.</p>")?;
    writeln!(out, "<pre class=\"command\">{}</pre>\n</section>", escape(&timeline.replay))
}

fn write_guarantees(out: &mut String, timeline: &Timeline) -> fmt::Result {
    writeln!(out, "<section>\n<details>\n<summary>All the guarantees that are checked</summary>\n<table>")?;
    for guarantee in &guarantees::ALL {
        let broken = timeline.guarantee.as_deref() == Some(guarantee.name);
        let (class, note) = if broken { (" class=\"violated\"", " <b>Violation in this run.</b>") } else { ("", "") };
        let (name, rule) = (guarantee.name, escape(guarantee.rule));
        writeln!(out, "<tr{class}><th scope=\"row\">{name}</th><td>{rule}{note}</td></tr>")?;
    }
    writeln!(out, "</table>\n</details>\n</section>")
}

/// A row of the list of events.
struct Event {
    at_ms: u64,
    host: String,
    symbol: Option<&'static str>,
    text: String,
    violation: bool,
}

impl Event {
    fn new(at_ms: u64, host: impl Into<String>, text: impl Into<String>) -> Self {
        Self { at_ms, host: host.into(), symbol: None, text: text.into(), violation: false }
    }
}

fn events(timeline: &Timeline) -> Vec<Event> {
    let mut events = Vec::new();
    let last_ms = timeline.last_ms();
    for host in &timeline.hosts {
        for up in &host.up {
            events.push(Event::new(up.from_ms, &host.name, "The host starts."));
            if up.to_ms < last_ms {
                events.push(Event::new(up.to_ms, &host.name, "The host goes down."));
            }
        }
    }
    for (index, fault) in timeline.plan().into_iter().enumerate() {
        if fault.from_ms > last_ms {
            continue;
        }
        let hosts = if fault.hosts.is_empty() { "(network)".to_owned() } else { fault.hosts.join(", ") };
        let (number, kind, about) = (index + 1, &fault.kind, &fault.about);
        events.push(Event::new(fault.from_ms, &hosts, format!("Fault {number} begins ({kind}): {about}")));
        if fault.from_ms < fault.to_ms && fault.to_ms <= last_ms {
            events.push(Event::new(fault.to_ms, &hosts, format!("Fault {number} ends ({kind}).")));
        }
    }
    for session in &timeline.sessions {
        let SessionBar { host, manager, id, from_ms, .. } = session;
        events.push(Event::new(*from_ms, host, format!("Session {id} of {manager} begins.")));
        if let Some(to_ms) = session.to_ms {
            let end = session.end.as_deref().unwrap_or("no reason is known");
            events.push(Event::new(to_ms, host, format!("Session {id} of {manager} ends: {end}.")));
        }
    }
    for mark in &timeline.marks {
        let words = mark.kind.words();
        let text = if mark.text.is_empty() { words.to_owned() } else { format!("{words}: {}", mark.text) };
        events.push(Event { symbol: Some(mark.kind.symbol()), ..Event::new(mark.at_ms, &mark.host, text) });
    }
    if let Some(violation) = &timeline.violation {
        let name = timeline.guarantee.as_deref().unwrap_or("A guarantee");
        let text = format!("{name} is broken: {}", violation.text);
        let host = violation.host.as_deref().unwrap_or_default();
        events.push(Event { violation: true, ..Event::new(violation.at_ms, host, text) });
    }
    // At the same moment, in the order in which they were pushed.
    events.sort_by_key(|event| event.at_ms);
    events.push(Event::new(timeline.end_ms.max(last_ms), "", "The run ends."));
    events
}

fn write_events(out: &mut String, timeline: &Timeline) -> fmt::Result {
    writeln!(out, "<section>\n<h2>Everything in order</h2>\n<table class=\"events\">")?;
    writeln!(out, "<thead><tr><th>time</th><th>host</th><th></th><th>what happened</th></tr></thead>\n<tbody>")?;
    let mut before_ms = 0;
    for event in events(timeline) {
        let quiet_ms = event.at_ms.saturating_sub(before_ms);
        if quiet_ms > QUIET_MS {
            writeln!(out, "<tr class=\"quiet\"><td></td><td colspan=\"3\">quiet for {}</td></tr>", length(quiet_ms))?;
        }
        before_ms = event.at_ms;
        let row = if event.violation { " class=\"violated\" id=\"violation\"" } else { "" };
        let (at, host, text) = (moment(event.at_ms), escape(&event.host), escape(&event.text));
        let sign = match (event.symbol, event.violation) {
            (Some(symbol), _) => format!(
                "<svg width=\"14\" height=\"14\" viewBox=\"-7 -7 14 14\" aria-hidden=\"true\">\
                 <use href=\"#{symbol}\" class=\"{symbol}\"/></svg>"
            ),
            (None, true) => "\u{2717}".to_owned(),
            (None, false) => String::new(),
        };
        writeln!(out, "<tr{row}><td>{at}</td><td>{host}</td><td>{sign}</td><td>{text}</td></tr>")?;
    }
    writeln!(out, "</tbody>\n</table>\n</section>")
}

/// The text, safe in HTML: in an element and in an attribute.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(char),
            // HTML has no way to write these.
            _ if char.is_control() => safe.push('\u{fffd}'),
            _ => safe.push(char),
        }
    }
    safe
}

/// A moment, in seconds.
pub(super) fn moment(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1000, ms % 1000)
}

/// A length of time, in seconds, without what says nothing.
pub(super) fn length(ms: u64) -> String {
    let seconds = format!("{}.{:03}", ms / 1000, ms % 1000);
    format!("{} s", seconds.trim_end_matches('0').trim_end_matches('.'))
}
