use super::*;

fn scale(from_ms: u64, to_ms: u64) -> Scale {
    Scale { part: Span { from_ms, to_ms }, left: 100.0, right: 1_100.0 }
}

#[test]
fn what_lies_apart_shares_a_row() {
    assert_eq!(sub_lanes(&[]), (vec![], 0));
    assert_eq!(sub_lanes(&[(0.0, 10.0), (10.0, 20.0), (20.0, 30.0)]), (vec![0, 0, 0], 1));
    assert_eq!(sub_lanes(&[(0.0, 10.0), (5.0, 20.0), (10.0, 30.0)]), (vec![0, 1, 0], 2));
    assert_eq!(sub_lanes(&[(9.0, 12.0), (0.0, 10.0), (1.0, 2.0)]), (vec![1, 0, 1], 2));
}

#[test]
fn the_axis_has_round_numbers_and_not_too_many() {
    assert_eq!(ticks(Span { from_ms: 0, to_ms: 12_000 }, 8), [0, 2_000, 4_000, 6_000, 8_000, 10_000, 12_000]);
    assert_eq!(ticks(Span { from_ms: 565_125, to_ms: 575_625 }, 4), [570_000, 575_000]);
    assert_eq!(ticks(Span { from_ms: 0, to_ms: 1 }, 8), [0, 1]);
    for to_ms in [1, 7, 999, 12_345, 600_000, u64::MAX / 2] {
        let count = ticks(Span { from_ms: 0, to_ms }, 14).len();
        assert!((2..=15).contains(&count), "{count} up to {to_ms}");
    }
}

#[test]
fn the_shortest_things_can_be_seen() {
    let scale = scale(0, 600_000);
    assert_eq!(scale.span(300_000, 300_001), (600.0, NARROWEST));
    assert_eq!(scale.span(600_000, 600_000), (1_100.0 - NARROWEST, NARROWEST));
    assert_eq!(scale.span(0, 600_000), (100.0, 1_000.0));
}

#[test]
fn a_label_is_in_its_bar_or_beside_it_and_never_outside_of_the_picture() {
    let scale = scale(0, 10_000);
    for from_ms in (0..10_000).step_by(250) {
        for to_ms in (from_ms..=10_000).step_by(500) {
            let bar = labelled(&scale, scale.span(from_ms, to_ms), "12", "HeartbeatTimeout");
            let (from, to) = bar.extent;
            assert!(from >= scale.left && to <= scale.right + BETWEEN, "{from} {to}");
            assert!(from <= bar.x && bar.x + bar.width <= to);
            for (text, x, anchor, _) in &bar.words {
                let (left, right) =
                    if *anchor == "start" { (*x, x + text_width(text)) } else { (x - text_width(text), *x) };
                assert!(from <= left && right <= to, "{text} from {left} to {right}");
            }
        }
    }
}

#[test]
fn long_text_is_cut_and_wrapped() {
    assert_eq!(fitted("short", 100.0), "short");
    assert!(fitted("a long name of a host", 60.0).ends_with('\u{2026}'));
    assert!(text_width(&fitted("a long name of a host", 60.0)) <= 60.0);
    assert_eq!(lines("one two three", text_width("one two"), 4), ["one two", "three"]);
    assert_eq!(lines("one two three four", text_width("three"), 2), ["one", "two \u{2026}"]);
}
