//! Every setting works at both ends of what is allowed and in between, and what is not allowed is refused by name: a
//! manager is started with each, serves a stream and shuts down (G19).

use std::{net::SocketAddr, sync::mpsc, thread, time::Duration};

use evermux::{
    Accept, Config, ConfigBuilder, Connect, Connected, MuxManager, StartError,
    error::{AcceptError, ConnectError},
};
use proptest::{prelude::*, sample::select};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::Mutex,
    time::{sleep, timeout},
};

type Set = fn(ConfigBuilder) -> ConfigBuilder;

/// A setting, and values of it that are allowed and refused, beside the defaults of all others.
struct Setting {
    name: &'static str,
    allowed: Vec<Set>,
    refused: Vec<Set>,
}

macro_rules! settings {
    ($($name:ident: [$($allowed:expr),*], not [$($refused:expr),*];)*) => {
        vec![$(Setting {
            name: stringify!($name),
            allowed: vec![$(|builder| builder.$name($allowed)),*],
            refused: vec![$(|builder| builder.$name($refused)),*],
        }),*]
    };
}

const MS: Duration = Duration::from_millis(1);
const NS: Duration = Duration::from_nanos(1);
const ALMOST_MS: Duration = Duration::from_nanos(999_999);
const SECOND: Duration = Duration::from_secs(1);
const ALMOST_SECOND: Duration = Duration::from_millis(999);
const MAX: Duration = Duration::MAX;
const MAX_STREAMS: u32 = if usize::BITS >= 64 { 16_384 } else { 1_024 };
const STREAM_IDS: u32 = 2_147_352_576;

/// For each the ends of what is allowed, something between them, and what is just beyond them and far.
fn settings() -> Vec<Setting> {
    settings! {
        resolve_timeout: [MS, SECOND, MAX], not [Duration::ZERO, ALMOST_MS];
        connect_timeout: [MS, SECOND, MAX], not [Duration::ZERO, ALMOST_MS];
        handshake_timeout: [MS, SECOND, MAX], not [Duration::ZERO, ALMOST_MS];
        backoff_initial: [NS, MS, 30 * SECOND], not [Duration::ZERO];
        backoff_factor: [1.0, 2.5, 100.0],
            not [0.999, 100.1, -1.0, 0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE];
        backoff_max: [SECOND, 60 * SECOND, MAX], not [Duration::ZERO, ALMOST_SECOND];
        backoff_jitter: [0.0, -0.0, 0.5, 1.0],
            not [-0.001, 1.001, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX];
        stable_after: [Duration::ZERO, NS, SECOND, MAX], not [];
        first_retry_jitter: [Duration::ZERO, NS, SECOND, MAX], not [];
        max_attempts: [None, Some(1), Some(1000), Some(u32::MAX)], not [Some(0)];
        max_elapsed: [None, Some(NS), Some(SECOND), Some(MAX)], not [Some(Duration::ZERO)];
        heartbeat_idle: [MS, SECOND, MAX], not [Duration::ZERO, ALMOST_MS];
        heartbeat_timeout: [MS, SECOND, MAX], not [Duration::ZERO, ALMOST_MS];
        write_timeout: [MS, SECOND, MAX], not [Duration::ZERO, ALMOST_MS];
        takeover_probe_timeout: [MS, SECOND, MAX], not [Duration::ZERO, ALMOST_MS];
        max_handshakes_in_flight: [1, 1000, 65_536], not [0, 65_537, usize::MAX >> 3, (usize::MAX >> 3) + 1, usize::MAX];
        drain_timeout: [MS, SECOND, MAX], not [Duration::ZERO, ALMOST_MS];
        open_timeout: [MS, SECOND, MAX], not [Duration::ZERO, ALMOST_MS];
        accept_backlog: [1, 1000, 65_536], not [0, 65_537, usize::MAX >> 3, (usize::MAX >> 3) + 1, usize::MAX];
        accept_timeout: [MS, SECOND, MAX], not [Duration::ZERO, ALMOST_MS];
        max_concurrent_streams: [1, 1000, MAX_STREAMS], not [0, MAX_STREAMS + 1, u32::MAX];
        max_streams_per_session: [1, 1000, STREAM_IDS], not [0, STREAM_IDS + 1, u32::MAX];
        early_go_away: [false, true], not [];
        window_growth_budget: [0, 1, 1 << 20, 1 << 30], not [(1 << 30) + 1, usize::MAX];
        event_backlog: [1, 3, 65_536], not [0, 65_537, usize::MAX / 2, usize::MAX];
        seed: [None, Some(0), Some(u64::MAX)], not [];
    }
}

/// Dials by handing on the other end of a pipe.
struct Dial(tokio::sync::mpsc::UnboundedSender<DuplexStream>);
struct Listen(Mutex<tokio::sync::mpsc::UnboundedReceiver<DuplexStream>>);

impl Connect for Dial {
    type Io = DuplexStream;

    async fn connect(&self) -> Result<Connected<DuplexStream>, ConnectError> {
        let (near, far) = duplex(4 << 10);
        self.0.send(far).map_err(|_| ConnectError::transient("nobody listens"))?;
        Ok(Connected::anonymous(near))
    }
}

impl Accept for Listen {
    type Io = DuplexStream;
    type Pending = DuplexStream;

    async fn accept(&self) -> Result<DuplexStream, AcceptError> {
        self.0.lock().await.recv().await.ok_or_else(|| AcceptError::fatal("nobody dials"))
    }

    async fn finish(&self, io: DuplexStream) -> Result<Connected<DuplexStream>, AcceptError> {
        Ok(Connected::anonymous(io))
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }
}

/// Two managers with these settings serve a stream each way, and shut down. In paused time, where nothing is too slow
/// for a short time, and the end of a long one comes at once.
async fn works(config: Config, sessions: usize) {
    let (dial, listen) = tokio::sync::mpsc::unbounded_channel();
    let receiver = MuxManager::receive_with(Listen(Mutex::new(listen))).config(config.clone());
    let receiver = receiver.sessions(sessions).start().await.unwrap();
    let establisher = MuxManager::establish_with(Dial(dial)).config(config).sessions(sessions).start().await.unwrap();
    let _events = establisher.events();
    // A pause may be longer than the age of the world, and is cut short.
    let hurry = async {
        loop {
            sleep(SECOND).await;
            establisher.reconnect_now();
        }
    };
    tokio::select! {
        biased;
        () = serve_each_way(&establisher, &receiver) => {}
        () = hurry => {}
    }
    drop(establisher.status());
    tokio::join!(establisher.shutdown(), receiver.shutdown());
}

async fn serve_each_way(establisher: &MuxManager, receiver: &MuxManager) {
    for (here, there) in [(establisher, receiver), (receiver, establisher)] {
        let serve = async {
            let mut stream = there.incoming().next().await.unwrap();
            let mut request = Vec::new();
            stream.read_to_end(&mut request).await.unwrap();
            stream.write_all(&request).await.unwrap();
            stream.shutdown().await.unwrap();
            stream
        };
        let ask = async {
            let mut stream = here.open_stream().await.unwrap();
            stream.write_all(&[7; 10_000]).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut reply = Vec::new();
            stream.read_to_end(&mut reply).await.unwrap();
            reply
        };
        let (_served, reply) = tokio::join!(serve, ask);
        assert_eq!(reply, [7; 10_000]);
    }
}

/// Runs it on a thread of its own, so that what spins is found as well as what sleeps.
fn try_out(config: Config, sessions: usize) -> Result<(), String> {
    let text = format!("{sessions} sessions, {config:?}");
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let in_time = runtime.block_on(async { timeout(3600 * SECOND, works(config, sessions)).await });
        let _ = done.send(in_time.is_ok());
    });
    match ended.recv_timeout(Duration::from_secs(60)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("it sleeps: {text}")),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("it spins: {text}")),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(format!("it panicked: {text}")),
    }
}

#[test]
fn every_setting_is_tried() {
    let settings = settings();
    let names: Vec<_> = settings.iter().map(|setting| setting.name).collect();
    // As `Debug` has them: `Config { name: value, name: value }`.
    let shown = format!("{:?}", Config::default());
    let words = shown.trim_start_matches("Config { ").split(", ");
    let fields: Vec<_> = words.map(|word| word.split(':').next().unwrap()).collect();
    assert_eq!(names, fields);
}

#[test]
fn what_is_not_allowed_is_refused_by_name() {
    for Setting { name, refused, .. } in settings() {
        for (index, set) in refused.into_iter().enumerate() {
            let error = set(Config::builder()).build().expect_err(&format!("{name}, value {index}"));
            assert_eq!(error.setting(), name);
            let text = error.to_string();
            assert!(text.starts_with(&format!("{name} is ")) && text.contains(": it must "), "{text}");
        }
    }
    let error = Config::builder().accept_backlog(usize::MAX).build().unwrap_err();
    assert_eq!(error.to_string(), format!("accept_backlog is {}: it must be from 1 to 65536", usize::MAX));
    let error = Config::builder().backoff_factor(f32::NAN).build().unwrap_err();
    assert_eq!(error.to_string(), "backoff_factor is NaN: it must be from 1.0 to 100.0");
    // Two that do not go together: it names both.
    let error = Config::builder().backoff_initial(31 * SECOND).build().unwrap_err();
    assert_eq!(error.to_string(), "backoff_max is 30s: it must not be below backoff_initial, which is 31s");
}

#[test]
fn each_setting_works_at_each_end_and_between() {
    for Setting { name, allowed, .. } in settings() {
        for (index, set) in allowed.into_iter().enumerate() {
            let config =
                set(Config::builder()).build().unwrap_or_else(|error| panic!("{name}, value {index}: {error}"));
            try_out(config, 1).unwrap();
        }
    }
}

#[test]
fn all_settings_work_at_their_ends_together() {
    let ends = [|allowed: &[Set]| allowed[0], |allowed: &[Set]| allowed[allowed.len() - 1]];
    for end in ends {
        let settings = settings();
        let builder = settings.iter().fold(Config::builder(), |builder, setting| end(&setting.allowed)(builder));
        try_out(builder.build().unwrap(), 1).unwrap();
    }
}

#[test]
fn a_manager_holds_from_1_to_1024_sessions() {
    try_out(Config::default(), 1024).unwrap();
    for sessions in [0, 1025, usize::MAX] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (dial, _listen) = tokio::sync::mpsc::unbounded_channel();
        let started = runtime.block_on(MuxManager::establish_with(Dial(dial)).sessions(sessions).start());
        assert!(matches!(started, Err(StartError::Sessions { sessions: given }) if given == sessions));
    }
}

/// A value for every setting, and whether all of them are allowed; what `backoff_max` may be depends on another.
fn drawn() -> impl Strategy<Value = (ConfigBuilder, bool)> {
    let draws: Vec<_> = settings()
        .into_iter()
        .map(|Setting { name, allowed, refused }| {
            let allowed = select(allowed).prop_map(|set| (set, true)).boxed();
            if refused.is_empty() {
                return allowed;
            }
            // So that about half of the configurations have none.
            prop_oneof![24 => allowed, 1 => select(refused).prop_map(move |set| (set, name == "backoff_max"))].boxed()
        })
        .collect();
    draws.prop_map(|draws| {
        let all_allowed = draws.iter().all(|(_, allowed)| *allowed);
        (draws.into_iter().fold(Config::builder(), |builder, (set, _)| set(builder)), all_allowed)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever builds works, in any combination.
    #[test]
    fn what_builds_works((builder, all_allowed) in drawn()) {
        match builder.build() {
            Ok(config) => {
                prop_assert!(all_allowed, "{config:?}");
                prop_assert_eq!(try_out(config, 1), Ok(()));
            }
            Err(error) => prop_assert!(!all_allowed || error.setting() == "backoff_max", "{error}"),
        }
    }
}
