use super::*;

#[test]
fn a_host_is_down_when_it_is_not_up() {
    let up = [Span { from_ms: 0, to_ms: 10 }, Span { from_ms: 20, to_ms: 100 }];
    assert_eq!(down(&up, Span { from_ms: 0, to_ms: 100 }), [Span { from_ms: 10, to_ms: 20 }]);
    assert_eq!(down(&up, Span { from_ms: 15, to_ms: 18 }), [Span { from_ms: 15, to_ms: 18 }]);
    assert_eq!(down(&up, Span { from_ms: 30, to_ms: 200 }), [Span { from_ms: 100, to_ms: 200 }]);
    assert_eq!(down(&[], Span { from_ms: 0, to_ms: 1 }), [Span { from_ms: 0, to_ms: 1 }]);
}
