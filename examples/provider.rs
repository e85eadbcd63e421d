//! A provider of one's own: sessions over the standard input and output of a command, as `ssh` has it with
//! `ProxyCommand`. When the command ends, it is run again.
//!
//! ```console
//! $ cargo run --example provider                                # the command is this program itself
//! $ cargo run --example provider -- --command 'ssh HOST provider --serve'
//! ```

use std::{error::Error, io, process::Stdio, time::Duration};

use clap::Parser;
use evermux::{
    CloseReason, Config, Connected, MuxManager, MuxStream, Provide, Session,
    provider::{Backoff, Installer, Retry},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Join, join, stdin, stdout},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep},
};

type BoxError = Box<dyn Error + Send + Sync>;

/// Keeps a session to a command alive, and sends it a request each second.
#[derive(Debug, Parser)]
struct Arguments {
    /// The command that serves the other side on its standard input and output, for `sh -c`. Without it this program is
    /// started with --serve
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
    /// How many requests to send. After every third the command is killed, to see it come back
    #[arg(long, value_name = "N", default_value_t = 10)]
    requests: u32,
    /// Serve on standard input and output: send back in capitals what comes
    #[arg(long)]
    serve: bool,
}

/// Runs a command whenever there is no session.
struct Run {
    command: Option<String>,
}

impl Run {
    fn start(&self) -> io::Result<Child> {
        let mut command = match &self.command {
            Some(line) => {
                let mut command = Command::new("sh");
                command.args(["-c", line]);
                command
            }
            None => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("--serve");
                command
            }
        };
        // What is dropped is killed: an attempt that a shutdown ends, for example.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()
    }

    /// One life of the command, from its start to the end of its session.
    async fn live(&self, installer: &Installer) -> Result<Duration, BoxError> {
        let mut child = self.start()?;
        let io: Join<ChildStdout, ChildStdin> =
            join(child.stdout.take().ok_or("no output")?, child.stdin.take().ok_or("no input")?);
        let mut candidate = installer.client(Connected::anonymous(io)).await;
        let session = candidate.install().await?;
        let since = Instant::now();
        let reason = tokio::select! {
            reason = session.closed() => reason,
            status = child.wait() => {
                println!("the command has ended: {}", status?);
                session.closed().await
            }
        };
        println!("session {} has ended: {reason}", session.id());
        Ok(since.elapsed())
    }
}

impl Provide for Run {
    async fn provide(self, installer: Installer) -> Result<(), BoxError> {
        let mut backoff = Backoff::seeded(installer.config(), 0, Instant::now());
        loop {
            let outcome = tokio::select! {
                () = installer.stopped() => return Ok(()),
                outcome = self.live(&installer) => outcome,
            };
            let pause = match outcome {
                Ok(lived) => backoff.after_session(lived, Instant::now()),
                Err(error) => match backoff.after_failure(Instant::now()) {
                    Retry::After(pause) => {
                        println!("no session: {error}");
                        pause
                    }
                    Retry::GiveUp => return Err(error),
                },
            };
            tokio::select! {
                () = installer.stopped() => return Ok(()),
                () = sleep(pause) => {}
            }
        }
    }
}

async fn serve() -> Result<(), CloseReason> {
    let session = Session::server(join(stdin(), stdout()), &Config::default()).await?;
    loop {
        tokio::spawn(answer(session.accept_stream().await?));
    }
}

async fn answer(mut stream: MuxStream) -> io::Result<()> {
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    if text == "die" {
        std::process::exit(7);
    }
    stream.write_all(text.to_uppercase().as_bytes()).await?;
    stream.shutdown().await
}

async fn request(manager: &MuxManager, text: &str) -> Result<String, BoxError> {
    let mut stream = manager.open_stream().await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    Ok(reply)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let arguments = Arguments::parse();
    if arguments.serve {
        // Whoever has started us is gone, or has said goodbye.
        let _ = serve().await;
        return Ok(());
    }
    let config = Config::builder().backoff_initial(Duration::from_millis(100)).build()?;
    let manager = MuxManager::provide_with(Run { command: arguments.command }).config(config).start().await?;
    for number in 1..=arguments.requests {
        let reply = request(&manager, &format!("request {number}")).await?;
        println!("{reply}");
        if number % 3 == 0 {
            // An error, never an empty reply.
            let Err(error) = request(&manager, "die").await else { return Err("a dead command replied".into()) };
            println!("killed: {error}");
        }
    }
    manager.shutdown().await;
    Ok(())
}
