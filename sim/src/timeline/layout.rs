//! Where things go in a picture: times as places, labels beside their blocks, rows in which nothing lies on another.

use std::fmt::{self, Write};

use super::Span;
use super::page::escape;

/// Between two labels in one row.
pub(super) const BETWEEN: f64 = 5.0;

/// No bar and no fault is narrower, however short it was.
pub(super) const NARROWEST: f64 = 4.0;

/// From times to places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) part: Span,
    pub(super) left: f64,
    pub(super) right: f64,
}

impl Scale {
    /// Where a moment is. Moments that are not in the picture are at its edge.
    pub(super) fn x(&self, ms: u64) -> f64 {
        let since = ms.clamp(self.part.from_ms, self.part.to_ms) - self.part.from_ms;
        let all = (self.part.to_ms - self.part.from_ms).max(1);
        self.left + (self.right - self.left) * (pixels(since) / pixels(all))
    }

    /// Where a span begins, and how wide it is: at least [`NARROWEST`], and never past the edge.
    pub(super) fn span(&self, from_ms: u64, to_ms: u64) -> (f64, f64) {
        let width = (self.x(to_ms) - self.x(from_ms)).max(NARROWEST);
        (self.x(from_ms).min(self.right - width).max(self.left), width)
    }

    pub(super) fn shows(&self, from_ms: u64, to_ms: u64) -> bool {
        from_ms <= self.part.to_ms && to_ms >= self.part.from_ms
    }

    /// The widest label that fits anywhere.
    pub(super) fn width(&self) -> f64 {
        self.right - self.left
    }
}

/// A number of milliseconds or of things, as a length.
pub(super) fn pixels(count: impl TryInto<u32>) -> f64 {
    f64::from(count.try_into().unwrap_or(u32::MAX))
}

/// How wide a label is, about: the font is not known. Rather too wide than too narrow.
pub(super) fn text_width(text: &str) -> f64 {
    text.chars().map(|char| if char.is_ascii() { 6.8 } else { 12.0 }).sum()
}

/// The text, cut so that it is at most so wide.
pub(super) fn fitted(text: &str, width: f64) -> String {
    if text_width(text) <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    for char in text.chars() {
        if text_width(&cut) + text_width("\u{2026}m") > width {
            break;
        }
        cut.push(char);
    }
    cut.push('\u{2026}');
    cut
}

/// The text in lines that are at most so wide. What does not fit into `most` lines is cut.
pub(super) fn lines(text: &str, width: f64, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let full = lines.len() == most;
        match lines.last_mut() {
            Some(line) if text_width(line) + text_width(" ") + text_width(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(line) if full => {
                line.push_str(" \u{2026}");
                break;
            }
            _ => lines.push(fitted(word, width)),
        }
    }
    lines
}

/// The moments that the axis names, at most `most` of them: multiples of one round length of time.
pub(super) fn ticks(part: Span, most: u64) -> Vec<u64> {
    let all_ms = part.to_ms - part.from_ms;
    let fits = |step: &u64| all_ms / step < most.max(1);
    let rounds = (0..19).flat_map(|power| [1, 2, 5].map(|digit: u64| digit * 10_u64.pow(power)));
    let step_ms = rounds.into_iter().find(fits).unwrap_or(u64::MAX);
    let first = part.from_ms.div_ceil(step_ms);
    (first..=part.to_ms / step_ms).map(|count| count * step_ms).collect()
}

/// Puts things that each take place from one x to another into rows, so that none lies on another. Answers with the row of
/// each, and how many rows there are.
pub(super) fn sub_lanes(extents: &[(f64, f64)]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..extents.len()).collect();
    order.sort_by(|&a, &b| extents[a].0.total_cmp(&extents[b].0));
    let mut ends: Vec<f64> = Vec::new();
    let mut rows = vec![0; extents.len()];
    for index in order {
        let (from, to) = extents[index];
        let row = ends.iter().position(|&end| end <= from).unwrap_or(ends.len());
        if row == ends.len() {
            ends.push(to);
        } else {
            ends[row] = to;
        }
        rows[index] = row;
    }
    (rows, ends.len())
}

/// A bar with words at its beginning and at its end.
pub(super) struct Labelled {
    pub(super) x: f64,
    pub(super) width: f64,
    /// What is written, where, from which side, and whether that is inside of the bar.
    pub(super) words: Vec<(String, f64, &'static str, bool)>,
    /// From where to where nothing else may be.
    pub(super) extent: (f64, f64),
}

/// Writes into the bar what fits, and the rest beside it.
pub(super) fn labelled(scale: &Scale, (x, width): (f64, f64), first: &str, last: &str) -> Labelled {
    const INSET: f64 = 5.0;
    let mut words = Vec::new();
    let mut extent = (x, x + width);
    let room = width - 2.0 * INSET;
    let both = text_width(first) + if last.is_empty() { 0.0 } else { 8.0 + text_width(last) };
    let mut beside = String::new();
    if both <= room {
        words.push((first.to_owned(), x + INSET, "start", true));
        if !last.is_empty() {
            words.push((last.to_owned(), x + width - INSET, "end", true));
        }
    } else if text_width(first) <= room {
        words.push((first.to_owned(), x + INSET, "start", true));
        last.clone_into(&mut beside);
    } else {
        beside = [first, last].join(" ");
    }
    let beside = fitted(beside.trim(), scale.width() / 2.0 - width.min(scale.width() / 4.0));
    if !beside.is_empty() && both > room {
        let taken = text_width(&beside) + INSET;
        if extent.1 + taken <= scale.right {
            words.push((beside, extent.1 + INSET, "start", false));
            extent.1 += taken;
        } else if extent.0 - taken >= scale.left {
            words.push((beside, extent.0 - INSET, "end", false));
            extent.0 -= taken;
        } else {
            // A bar that is nearly as wide as the picture.
            words.push((fitted(&beside, room - text_width(first) - 8.0), x + width - INSET, "end", true));
        }
    }
    extent.1 += BETWEEN;
    Labelled { x, width, words, extent }
}

impl Labelled {
    /// `inside` and `beside` are the classes of words there.
    pub(super) fn write_words(&self, out: &mut String, y: f64, inside: &str, beside: &str) -> fmt::Result {
        for (text, x, anchor, is_inside) in &self.words {
            let class = if *is_inside { inside } else { beside };
            let text = escape(text);
            write!(
                out,
                "<text class=\"label {class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
