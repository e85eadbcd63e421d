//! The drawing: a band of faults, an axis, and a lane for each host.
//!
//! Everything is placed in pixels of a drawing that is `width` wide. First all rows are laid out, because a label that does
//! not fit into its bar takes place beside it; then everything is drawn from the back to the front.

use std::fmt::{self, Write};

use super::layout::{Labelled, Scale, fitted, labelled, lines, pixels, sub_lanes, text_width, ticks};
use super::page::{escape, length, moment};
use super::{FaultSpan, Host, Kind, Mark, SessionBar, Span, Timeline, ViolationMark};

const BAR_HEIGHT: f64 = 16.0;
const BAR_ROW: f64 = 20.0;
const MARK_ROW: f64 = 16.0;
/// The place of one mark in its row.
const MARK_WIDTH: f64 = 13.0;
const FAULT_ROW: f64 = 19.0;
const AXIS_HEIGHT: f64 = 20.0;
const LINE: f64 = 15.0;
const PADDING: f64 = 7.0;
const GAP: f64 = 8.0;
/// In a lane, before the beginning of the picture and after its end: half a mark, and the tip of a bar.
const MARGIN: f64 = 8.0;
/// How much larger than other text the name of a host is.
const NAME_SIZE: f64 = 1.3;

/// The rows of marks, and what each is for.
const GROUPS: [(&str, &[Kind]); 3] = [
    ("connecting", &[Kind::Attempt, Kind::AttemptFailed]),
    ("callers", &[Kind::Waiting, Kind::Served, Kind::Interrupted, Kind::Cancelled]),
    ("other", &[Kind::Shutdown, Kind::Note]),
];

/// Draws a part of a run. `bracket` is shown under the axis.
pub(super) fn write(
    out: &mut String,
    timeline: &Timeline,
    part: Span,
    bracket: Option<Span>,
    width: f64,
) -> fmt::Result {
    Picture::new(timeline, part, width).write(out, bracket)
}

/// Whether a host is down at some time of a part of a run.
pub(super) fn is_down(host: &Host, part: Span) -> bool {
    !down(&host.up, part).is_empty()
}

/// The blocks of one manager.
struct Manager<'a> {
    name: &'a str,
    blocks: Vec<(&'a SessionBar, Labelled)>,
    rows: Vec<usize>,
    count: usize,
}

/// Marks of one kind that are too close to each other to be drawn one by one.
struct Cluster<'a> {
    x: f64,
    width: f64,
    marks: Vec<&'a Mark>,
}

/// A row of marks.
struct Group<'a> {
    name: &'static str,
    clusters: Vec<Cluster<'a>>,
    rows: Vec<usize>,
    count: usize,
}

struct Lane<'a> {
    name: &'a str,
    /// When the host was up; `None` when nothing is known of it.
    up: Option<&'a [Span]>,
    managers: Vec<Manager<'a>>,
    groups: Vec<Group<'a>>,
    top: f64,
    height: f64,
}

struct Band<'a> {
    /// With the number in the plan.
    faults: Vec<(usize, &'a FaultSpan, Labelled)>,
    rows: Vec<usize>,
    top: f64,
    height: f64,
}

struct Seen<'a> {
    violation: &'a ViolationMark,
    x: f64,
    anchor: &'static str,
    lines: Vec<String>,
}

struct Picture<'a> {
    scale: Scale,
    width: f64,
    seen: Option<Seen<'a>>,
    band: Band<'a>,
    axis: f64,
    lanes: Vec<Lane<'a>>,
    bottom: f64,
}

impl<'a> Picture<'a> {
    fn new(timeline: &'a Timeline, part: Span, width: f64) -> Self {
        let names = hosts(timeline).into_iter().map(|(name, _)| text_width(name) * NAME_SIZE);
        let gutter = names.fold(0.0, f64::max).clamp(70.0, width / 6.0) + 10.0;
        let scale = Scale { part, left: gutter + MARGIN, right: width - 8.0 - MARGIN };
        let seen = (timeline.violation.as_ref())
            .filter(|violation| scale.shows(violation.at_ms, violation.at_ms))
            .map(|violation| seen(timeline, violation, &scale));
        let seen_height = seen.as_ref().map_or(2.0, |seen| LINE * pixels(seen.lines.len()) + 6.0);
        let band = band(timeline, &scale, seen_height);
        let axis = band.top + band.height + AXIS_HEIGHT;
        let mut top = axis + 2.0;
        let mut lanes = Vec::new();
        for (name, up) in hosts(timeline) {
            let lane = lane(timeline, name, up, &scale, top);
            top += lane.height + GAP;
            lanes.push(lane);
        }
        Self { scale, width, seen, band, axis, lanes, bottom: top }
    }

    fn write(&self, out: &mut String, bracket: Option<Span>) -> fmt::Result {
        let (width, height) = (self.width, self.bottom + AXIS_HEIGHT + if bracket.is_some() { 8.0 } else { 0.0 });
        writeln!(out, "<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"The run as a picture\">")?;
        self.lanes.iter().try_for_each(|lane| lane.write_ground(out, &self.scale))?;
        self.write_grid(out)?;
        self.band.faults.iter().try_for_each(|(number, fault, bar)| self.write_shade(out, *number, fault, bar))?;
        // The line lies under all that is written, so that it hides nothing.
        self.write_line(out)?;
        self.write_axis(out)?;
        self.band.write(out)?;
        self.lanes.iter().try_for_each(|lane| lane.write(out, &self.scale))?;
        self.write_seen(out)?;
        if let Some(part) = bracket {
            let ((x, width), y) = (self.scale.span(part.from_ms, part.to_ms), self.bottom + AXIS_HEIGHT);
            let right = x + width;
            write!(out, "<g><title>This part is enlarged below.</title>")?;
            writeln!(out, "<path class=\"bracket\" d=\"M{x:.1} {y}v5H{right:.1}v-5\"/></g>")?;
        }
        writeln!(out, "</svg>")
    }

    fn ticks(&self) -> Vec<u64> {
        ticks(self.scale.part, if self.width > 900.0 { 14 } else { 8 })
    }

    /// The lines of the ticks, under all that may begin at the same moment.
    fn write_grid(&self, out: &mut String) -> fmt::Result {
        let (top, bottom) = (self.axis, self.bottom - GAP + 4.0);
        self.ticks().into_iter().try_for_each(|at_ms| {
            writeln!(out, "<path class=\"grid\" d=\"M{:.1} {top:.1}V{bottom:.1}\"/>", self.scale.x(at_ms))
        })
    }

    fn write_axis(&self, out: &mut String) -> fmt::Result {
        let (left, right) = (self.scale.left - MARGIN, self.scale.right + MARGIN);
        let (top, bottom) = (self.axis, self.bottom - GAP + 4.0);
        for at_ms in self.ticks() {
            let x = self.scale.x(at_ms);
            let text = length(at_ms);
            for (tick, y) in [(top - 4.0, top - 7.0), (bottom, bottom + 16.0)] {
                write!(out, "<path class=\"axis\" d=\"M{x:.1} {tick:.1}v4\"/>")?;
                writeln!(
                    out,
                    "<text class=\"label over tick\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{text}</text>"
                )?;
            }
        }
        writeln!(out, "<path class=\"axis\" d=\"M{left:.1} {top:.1}H{right:.1}M{left:.1} {bottom:.1}H{right:.1}\"/>")
    }

    /// Shades the lanes that a fault concerns.
    fn write_shade(&self, out: &mut String, number: usize, fault: &FaultSpan, bar: &Labelled) -> fmt::Result {
        let (x, right) = (bar.x, bar.x + bar.width);
        let concerned = |lane: &&Lane<'_>| fault.hosts.is_empty() || fault.hosts.iter().any(|host| host == lane.name);
        let title = escape(&title_of(number, fault));
        write!(out, "<g><title>{title}</title>")?;
        if let Some(lowest) = self.lanes.iter().rfind(concerned) {
            let (top, row) = (self.band.top, pixels(self.band.rows[self.band.index_of(number)]));
            let from = top + row * FAULT_ROW + FAULT_ROW - 3.0;
            write!(out, "<path class=\"guide\" d=\"M{x:.1} {from:.1}V{:.1}\"/>", lowest.top)?;
        }
        // A beginning or an end that is not in the picture has no edge.
        let Span { from_ms, to_ms } = self.scale.part;
        let edges = [(x, fault.from_ms >= from_ms), (right, fault.to_ms <= to_ms)];
        for lane in self.lanes.iter().filter(concerned) {
            let (top, height, width) = (lane.top, lane.height, bar.width);
            write!(
                out,
                "<rect class=\"shade\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
            )?;
            for (x, _) in edges.into_iter().filter(|(_, shown)| *shown) {
                write!(out, "<path class=\"edge\" d=\"M{x:.1} {top:.1}v{height:.1}\"/>")?;
            }
        }
        writeln!(out, "</g>")
    }

    fn write_line(&self, out: &mut String) -> fmt::Result {
        let Some(Seen { violation, x, lines, .. }) = &self.seen else { return Ok(()) };
        let (top, bottom) = (LINE * pixels(lines.len()), self.bottom - GAP + 4.0);
        writeln!(out, "<path class=\"elsewhere\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>")?;
        for lane in &self.lanes {
            if violation.host.as_deref().is_none_or(|host| host == lane.name) {
                let (top, bottom) = (lane.top, lane.top + lane.height);
                writeln!(out, "<path class=\"violation\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>")?;
            }
        }
        Ok(())
    }

    fn write_seen(&self, out: &mut String) -> fmt::Result {
        let Some(Seen { violation, x, anchor, lines }) = &self.seen else { return Ok(()) };
        let title = escape(&format!("at {}: {}", moment(violation.at_ms), violation.text));
        write!(out, "<g><title>{title}</title><text class=\"seen\" text-anchor=\"{anchor}\">")?;
        for (index, line) in lines.iter().enumerate() {
            let y = LINE * pixels(index) + 12.0;
            let class = if index == 0 { " class=\"first\"" } else { "" };
            write!(out, "<tspan{class} x=\"{x:.1}\" y=\"{y:.1}\">{}</tspan>", escape(line))?;
        }
        write!(out, "</text>")?;
        let host = violation.host.as_deref();
        if let Some(lane) = self.lanes.iter().find(|lane| host == Some(lane.name)) {
            let y = lane.top;
            write!(out, "<circle class=\"here\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"8\"/>")?;
            let (from, to, up, down) = (x - 3.0, x + 3.0, y - 3.0, y + 3.0);
            write!(
                out,
                "<path class=\"cross\" d=\"M{from:.1} {up:.1}L{to:.1} {down:.1}M{to:.1} {up:.1}L{from:.1} {down:.1}\"/>"
            )?;
        }
        writeln!(out, "</g>")
    }
}

/// All hosts: those that the timeline names, and those that only something on them names.
fn hosts(timeline: &Timeline) -> Vec<(&str, Option<&[Span]>)> {
    let mut hosts: Vec<_> = timeline.hosts.iter().map(|host| (host.name.as_str(), Some(host.up.as_slice()))).collect();
    let on_sessions = timeline.sessions.iter().map(|session| &session.host);
    let on_marks = timeline.marks.iter().map(|mark| &mark.host);
    for host in on_sessions.chain(on_marks) {
        if hosts.iter().all(|(name, _)| name != host) {
            hosts.push((host, None));
        }
    }
    hosts
}

fn title_of(number: usize, fault: &FaultSpan) -> String {
    let (kind, about) = (&fault.kind, &fault.about);
    format!("fault {number}, {kind}, from {} to {}: {about}", moment(fault.from_ms), moment(fault.to_ms))
}

fn seen<'a>(timeline: &Timeline, violation: &'a ViolationMark, scale: &Scale) -> Seen<'a> {
    let x = scale.x(violation.at_ms);
    let right_half = x > f64::midpoint(scale.left, scale.right);
    let room = if right_half { x } else { scale.right - x };
    let name = timeline.guarantee.as_deref().unwrap_or("guarantee");
    let mut text = vec![fitted(&format!("\u{2717} {name} broken at {}", moment(violation.at_ms)), room)];
    text.extend(lines(&violation.text, room.min(560.0), 4));
    Seen { violation, x, anchor: if right_half { "end" } else { "start" }, lines: text }
}

fn band<'a>(timeline: &'a Timeline, scale: &Scale, top: f64) -> Band<'a> {
    let mut faults = Vec::new();
    for (index, fault) in timeline.plan().into_iter().enumerate() {
        if scale.shows(fault.from_ms, fault.to_ms) {
            let number = index + 1;
            let bar = labelled(scale, scale.span(fault.from_ms, fault.to_ms), &format!("{number} {}", fault.kind), "");
            faults.push((number, fault, bar));
        }
    }
    let extents: Vec<_> = faults.iter().map(|(_, _, bar)| bar.extent).collect();
    let (rows, count) = sub_lanes(&extents);
    Band { faults, rows, top, height: FAULT_ROW * pixels(count) }
}

impl Band<'_> {
    fn index_of(&self, number: usize) -> usize {
        self.faults.iter().position(|(of, ..)| *of == number).expect("a fault of this band")
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        if !self.faults.is_empty() {
            writeln!(out, "<text class=\"row\" x=\"0\" y=\"{:.1}\">faults</text>", self.top + 12.0)?;
        }
        for ((number, fault, bar), row) in self.faults.iter().zip(&self.rows) {
            let (x, y, width) = (bar.x, self.top + FAULT_ROW * pixels(*row), bar.width);
            write!(out, "<g><title>{}</title>", escape(&title_of(*number, fault)))?;
            write!(
                out,
                "<rect class=\"fault\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"15\" rx=\"2\"/>"
            )?;
            bar.write_words(out, y + 12.0, "over", "over")?;
            writeln!(out, "</g>")?;
        }
        Ok(())
    }
}

fn lane<'a>(timeline: &'a Timeline, name: &'a str, up: Option<&'a [Span]>, scale: &Scale, top: f64) -> Lane<'a> {
    let mut managers: Vec<Manager<'a>> = Vec::new();
    for session in timeline.sessions.iter().filter(|session| session.host == name) {
        let to_ms = session.to_ms.unwrap_or(u64::MAX);
        if !scale.shows(session.from_ms, to_ms) {
            continue;
        }
        // An end that is later than the picture is not told in it.
        let ended = to_ms <= scale.part.to_ms;
        let end = session.end.as_deref().filter(|_| ended).unwrap_or_default();
        let bar = labelled(scale, scale.span(session.from_ms, to_ms), &session.id, end);
        let position = managers.iter().position(|manager| manager.name == session.manager);
        let index = position.unwrap_or(managers.len());
        if index == managers.len() {
            managers.push(Manager { name: &session.manager, blocks: Vec::new(), rows: Vec::new(), count: 0 });
        }
        managers[index].blocks.push((session, bar));
    }
    for manager in &mut managers {
        let extents: Vec<_> = manager.blocks.iter().map(|(_, bar)| bar.extent).collect();
        (manager.rows, manager.count) = sub_lanes(&extents);
    }
    let groups: Vec<_> = GROUPS
        .iter()
        .map(|(of, kinds)| group(timeline, name, of, kinds, scale))
        .filter(|group| group.count > 0)
        .collect();
    let blocks: usize = managers.iter().map(|manager| manager.count).sum();
    let marks: usize = groups.iter().map(|group| group.count).sum();
    // The name of the host is a row as well.
    let height = (2.0 * PADDING + BAR_ROW * pixels(blocks) + MARK_ROW * pixels(marks) + LINE).max(2.0 * BAR_ROW);
    Lane { name, up, managers, groups, top, height }
}

fn group<'a>(timeline: &'a Timeline, host: &str, name: &'static str, kinds: &[Kind], scale: &Scale) -> Group<'a> {
    let mut clusters = Vec::new();
    for kind in kinds {
        let shown = |mark: &&Mark| mark.host == host && mark.kind == *kind && scale.shows(mark.at_ms, mark.at_ms);
        let mut marks: Vec<_> = timeline.marks.iter().filter(shown).collect();
        marks.sort_by_key(|mark| mark.at_ms);
        let mut open: Vec<Cluster<'a>> = Vec::new();
        for mark in marks {
            let x = scale.x(mark.at_ms);
            match open.last_mut() {
                Some(cluster) if x < cluster.x + cluster.width => {
                    cluster.marks.push(mark);
                    cluster.width = MARK_WIDTH + 6.0 * pixels(cluster.marks.len().to_string().len());
                }
                _ => open.push(Cluster { x, width: MARK_WIDTH, marks: vec![mark] }),
            }
        }
        clusters.append(&mut open);
    }
    let extents: Vec<_> = clusters.iter().map(|cluster| (cluster.x, cluster.x + cluster.width)).collect();
    let (rows, count) = sub_lanes(&extents);
    Group { name, clusters, rows, count }
}

/// When a host that is up in `up` is down.
fn down(up: &[Span], part: Span) -> Vec<Span> {
    let mut up = up.to_vec();
    up.sort_by_key(|span| span.from_ms);
    let mut down = Vec::new();
    let mut since_ms = part.from_ms;
    for span in up {
        let from_ms = span.from_ms.min(part.to_ms);
        if since_ms < from_ms {
            down.push(Span { from_ms: since_ms, to_ms: from_ms });
        }
        since_ms = since_ms.max(span.to_ms);
    }
    if since_ms < part.to_ms {
        down.push(Span { from_ms: since_ms, to_ms: part.to_ms });
    }
    down
}

impl Lane<'_> {
    /// The ground, and when the host was down.
    fn write_ground(&self, out: &mut String, scale: &Scale) -> fmt::Result {
        let (top, height) = (self.top, self.height);
        let (left, width) = (scale.left - MARGIN, scale.width() + 2.0 * MARGIN);
        writeln!(
            out,
            "<rect class=\"lane\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        )?;
        for down in self.up.map_or_else(Vec::new, |up| down(up, scale.part)) {
            let (x, width) = scale.span(down.from_ms, down.to_ms);
            let host = escape(self.name);
            write!(out, "<g><title>{host} is down from {} to {}</title>", moment(down.from_ms), moment(down.to_ms))?;
            write!(
                out,
                "<rect class=\"down\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
            )?;
            if width > text_width("down") {
                let (x, y) = (x + width / 2.0, top + LINE);
                write!(out, "<text class=\"label\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">down</text>")?;
            }
            writeln!(out, "</g>")?;
        }
        Ok(())
    }

    fn write(&self, out: &mut String, scale: &Scale) -> fmt::Result {
        let room = scale.left - MARGIN - 6.0;
        let name = escape(self.name);
        let short = escape(&fitted(self.name, room / NAME_SIZE));
        let y = self.top + PADDING + 9.0;
        writeln!(out, "<g><title>{name}</title><text class=\"name\" x=\"0\" y=\"{y:.1}\">{short}</text></g>")?;
        let mut y = self.top + PADDING + LINE;
        for manager in &self.managers {
            let title = escape(&format!("sessions of {}", manager.name));
            let words = if self.managers.len() == 1 { "sessions" } else { manager.name };
            let (words, base) = (escape(&fitted(words, room)), y + 12.0);
            writeln!(out, "<g><title>{title}</title><text class=\"row\" x=\"0\" y=\"{base:.1}\">{words}</text></g>")?;
            for ((session, bar), row) in manager.blocks.iter().zip(&manager.rows) {
                write_bar(out, scale, session, bar, y + BAR_ROW * pixels(*row))?;
            }
            y += BAR_ROW * pixels(manager.count);
        }
        for group in &self.groups {
            writeln!(out, "<text class=\"row\" x=\"0\" y=\"{:.1}\">{}</text>", y + 12.0, group.name)?;
            for (cluster, row) in group.clusters.iter().zip(&group.rows) {
                cluster.write(out, y + MARK_ROW * (pixels(*row) + 0.5))?;
            }
            y += MARK_ROW * pixels(group.count);
        }
        Ok(())
    }
}

fn write_bar(out: &mut String, scale: &Scale, session: &SessionBar, bar: &Labelled, y: f64) -> fmt::Result {
    let SessionBar { host, manager, id, from_ms, to_ms, end } = session;
    let until = match to_ms {
        Some(to_ms) => format!("ended at {}: {}", moment(*to_ms), end.as_deref().unwrap_or("no reason is known")),
        None => "alive at the end of the run".to_owned(),
    };
    let title = escape(&format!("session {id} of {manager} on {host}, from {}, {until}", moment(*from_ms)));
    write!(out, "<g><title>{title}</title>")?;
    let (x, width, bottom) = (bar.x, bar.width, y + BAR_HEIGHT);
    let right = x + width;
    // A side is pointed when the session goes on there, outside of the picture.
    let (tail, tip, middle) = (x - 6.0, right + 6.0, y + BAR_HEIGHT / 2.0);
    let ended = to_ms.is_some_and(|to_ms| to_ms <= scale.part.to_ms);
    write!(out, "<path class=\"bar\" d=\"M{x:.1} {y:.1}H{right:.1}")?;
    if !ended {
        write!(out, "L{tip:.1} {middle:.1}L{right:.1} {bottom:.1}")?;
    }
    write!(out, "V{bottom:.1}H{x:.1}")?;
    if *from_ms < scale.part.from_ms {
        write!(out, "L{tail:.1} {middle:.1}")?;
    }
    write!(out, "Z\"/>")?;
    if ended {
        write!(out, "<path class=\"cap\" d=\"M{right:.1} {y:.1}V{bottom:.1}\"/>")?;
    }
    bar.write_words(out, y + 12.5, "inside", "")?;
    writeln!(out, "</g>")
}

impl Cluster<'_> {
    fn write(&self, out: &mut String, y: f64) -> fmt::Result {
        /// More are not read in a hover.
        const MOST: usize = 12;
        let Some(first) = self.marks.first() else { return Ok(()) };
        let (x, symbol) = (self.x, first.kind.symbol());
        let told = self.marks.iter().take(MOST);
        let mut title: Vec<_> =
            told.map(|mark| format!("{} {}: {}", moment(mark.at_ms), mark.kind.words(), mark.text)).collect();
        if self.marks.len() > MOST {
            title.push(format!("and {} more", self.marks.len() - MOST));
        }
        write!(out, "<g><title>{}</title>", escape(&title.join("\n")))?;
        write!(out, "<use href=\"#{symbol}\" class=\"{symbol}\" x=\"{x:.1}\" y=\"{y:.1}\"/>")?;
        if self.marks.len() > 1 {
            let (x, y) = (x + 7.0, y + 3.5);
            write!(out, "<text class=\"count\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", self.marks.len())?;
        }
        writeln!(out, "</g>")
    }
}

#[cfg(test)]
mod tests;
