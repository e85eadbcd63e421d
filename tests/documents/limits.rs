//! The table of limits in ARCHITECTURE.md says what the code does (G19).

use std::{fs, path::Path, time::Duration};

use evermux::{Config, ConfigBuilder, MuxManager};

/// A row of the table, by its columns.
struct Row {
    limit: String,
    default: String,
    bounds: String,
    at_it: String,
    tested_by: String,
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let (_, limits) = text.split_once("\n## Limits\n").expect("there is a section on limits");
    let (limits, _) = limits.split_once("\n## ").unwrap();
    let cells = limits
        .lines()
        .filter(|line| line.starts_with("| ") && !line.contains("---"))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
    let rows: Vec<_> = cells
        .filter(|cells| cells[0] != "limit")
        .map(|cells| match <[String; 6]>::try_from(cells) {
            Ok([limit, default, bounds, at_it, _memory, tested_by]) => Row { limit, default, bounds, at_it, tested_by },
            Err(cells) => panic!("a row has other columns: {cells:?}"),
        })
        .collect();
    assert!(rows.len() > 20, "{} rows", rows.len());
    rows
}

/// The settings that a row names.
fn settings(row: &Row) -> Vec<&str> {
    row.limit.split('`').skip(1).step_by(2).collect()
}

/// A number as the table has it: `16,384`, `64 MiB`.
fn number(text: &str) -> usize {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let factor = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        unit => panic!("{unit} is no unit"),
    };
    number.replace(',', "").parse::<usize>().unwrap_or_else(|_| panic!("{text} is no number")) * factor
}

fn duration(text: &str) -> Duration {
    match text.split_once(' ') {
        Some((number, "ms")) => Duration::from_millis(number.parse().unwrap()),
        Some((number, "s")) => Duration::from_secs(number.parse().unwrap()),
        _ => panic!("{text} is no duration"),
    }
}

type Get<T> = fn(&Config) -> T;
type Set<T> = fn(ConfigBuilder, T) -> ConfigBuilder;

fn count(name: &str) -> Option<(Get<usize>, Set<usize>)> {
    Some(match name {
        "max_concurrent_streams" => (
            |c| c.max_concurrent_streams() as usize,
            |b, n| b.max_concurrent_streams(u32::try_from(n).unwrap_or(u32::MAX)),
        ),
        "accept_backlog" => (Config::accept_backlog, ConfigBuilder::accept_backlog),
        "window_growth_budget" => (Config::window_growth_budget, ConfigBuilder::window_growth_budget),
        "max_streams_per_session" => (
            |c| c.max_streams_per_session() as usize,
            |b, n| b.max_streams_per_session(u32::try_from(n).unwrap_or(u32::MAX)),
        ),
        "max_handshakes_in_flight" => (Config::max_handshakes_in_flight, ConfigBuilder::max_handshakes_in_flight),
        "event_backlog" => (Config::event_backlog, ConfigBuilder::event_backlog),
        _ => return None,
    })
}

fn time(name: &str) -> Option<(Get<Duration>, Set<Duration>)> {
    Some(match name {
        "accept_timeout" => (Config::accept_timeout, ConfigBuilder::accept_timeout),
        "open_timeout" => (Config::open_timeout, ConfigBuilder::open_timeout),
        "heartbeat_idle" => (Config::heartbeat_idle, ConfigBuilder::heartbeat_idle),
        "heartbeat_timeout" => (Config::heartbeat_timeout, ConfigBuilder::heartbeat_timeout),
        "write_timeout" => (Config::write_timeout, ConfigBuilder::write_timeout),
        "handshake_timeout" => (Config::handshake_timeout, ConfigBuilder::handshake_timeout),
        "drain_timeout" => (Config::drain_timeout, ConfigBuilder::drain_timeout),
        _ => return None,
    })
}

#[tokio::test]
async fn the_defaults_and_the_bounds_of_the_table_are_those_of_the_code() {
    let config = Config::default();
    let mut looked_at = 0;
    for row in rows() {
        let defaults = row.default.split(", ");
        if row.bounds.is_empty() {
            continue;
        }
        for (name, default) in settings(&row).into_iter().zip(defaults) {
            looked_at += 1;
            let builds = |builder: ConfigBuilder| builder.build().is_ok();
            if let Some((get, set)) = count(name) {
                assert_eq!(get(&config), number(default), "{name}");
                let (least, most) = row.bounds.split_once(" to ").expect("bounds are from a number to a number");
                let (least, most) = (number(least), number(most));
                assert!(builds(set(Config::builder(), least)) && builds(set(Config::builder(), most)), "{name}");
                assert!(!builds(set(Config::builder(), most + 1)), "{name}");
                assert!(least == 0 || !builds(set(Config::builder(), least - 1)), "{name}");
            } else if let Some((get, set)) = time(name) {
                assert_eq!(get(&config), duration(default), "{name}");
                let least = duration(row.bounds.strip_suffix(" and up").expect("bounds are a time and up"));
                assert!(
                    builds(set(Config::builder(), least)) && builds(set(Config::builder(), Duration::MAX)),
                    "{name}"
                );
                assert!(!builds(set(Config::builder(), least.saturating_sub(Duration::from_nanos(1)))), "{name}");
            } else {
                assert_eq!((name, default, row.bounds.as_str()), ("sessions", "1", "1 to 1,024"));
                for (sessions, starts) in [(0, false), (1, true), (1024, true), (1025, false)] {
                    let started = MuxManager::receive("127.0.0.1:0").sessions(sessions).start().await;
                    assert_eq!(started.is_ok(), starts, "{sessions}");
                }
            }
        }
    }
    assert!(looked_at >= 15, "{looked_at}");
}

#[test]
fn each_row_says_what_happens_and_which_test_shows_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    let mut folders = vec![root.join("tests"), root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    for row in rows() {
        assert!(!row.at_it.is_empty(), "{}", row.limit);
        let test = row.tested_by.trim_matches('`');
        assert!(sources.contains(&format!("fn {test}()")), "{}: there is no test {test}", row.limit);
    }
}
