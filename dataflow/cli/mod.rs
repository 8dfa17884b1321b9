//! The command line: what it takes, and which command does it.

mod alerts;
mod audit;
mod bigquery;
mod calibrate;
mod distil;
mod dlq;
mod doctor;
mod enqueue;
mod experiment;
mod labels;
mod measure;
mod model;
mod outcomes;
mod process;
mod pubsub;
mod replay;
mod serve;
mod show;
mod sinks;
mod start;
mod train;
mod windows;

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use models::exit_now;
use tracing_subscriber::EnvFilter;

/// Audio uploads in, trustworthy metadata out.
#[derive(Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  tidemark process song.mp3                      describe a file now
  tidemark enqueue --tier enterprise uploads/    put files in the queue
  tidemark serve                                 work the queue until stopped
  tidemark outcomes --json                       what became of them
  tidemark windows                               how it went, minute by minute
  tidemark dlq list                              what could not be described, and why"
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Args)]
struct Common {
    /// The configuration; ./tidemark.toml where it exists, else the defaults
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the store, the spool and the Parquet files are
    #[arg(long, global = true, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Describe audio files now; exits with 1 if one could not be described
    Process(process::Process),
    /// Work the queue until a signal to stop
    Serve(serve::Serve),
    /// Put audio files in the queue
    Enqueue(enqueue::Enqueue),
    /// Show outcomes, the newest first
    Outcomes(outcomes::Outcomes),
    /// Show what became of the uploads of each window of time
    Windows(windows::Windows),
    /// Show alerts: what somebody is told of, and how it stands
    Alerts(alerts::Alerts),
    /// Go through the past once more
    #[command(subcommand)]
    Replay(replay::Replay),
    /// Dead letters: what could not be described
    #[command(subcommand)]
    Dlq(dlq::Dlq),
    /// Experiments: which arms uploads are drawn into, and which one is better
    #[command(subcommand)]
    Experiment(experiment::Experiment),
    /// Show what was done to the data, and by whom, the newest first
    Audit(audit::Audit),
    /// Google Cloud Pub/Sub: what has to be there
    #[command(subcommand, name = "pubsub")]
    PubSub(pubsub::PubSub),
    /// Checkpoints of Qwen2-Audio
    #[command(subcommand)]
    Model(model::Model),
    /// Make a checkpoint from labelled audio
    Train(train::Train),
    /// The tables in BigQuery that analysts query
    #[command(subcommand, name = "bigquery")]
    BigQuery(bigquery::BigQueryCommand),
    /// Say what is wrong with this set-up, and how to mend it
    Doctor(doctor::Doctor),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// All went well: 0.
    Success,
    /// Something did not: 1.
    Failure,
}

/// Runs the command and ends the process: 0 where all went well, 1 where something did not, 2 for a command line that
/// cannot be read.
pub(crate) fn run() -> ! {
    let code = match command() {
        Exit::Success => 0,
        Exit::Failure => 1,
    };
    // Commands write whole lines, and standard output holds no more than a part of one.
    std::io::stdout().flush().ok();
    exit_now(code)
}

fn command() -> Exit {
    let Cli { common, command } = Cli::parse();
    connectors::tls::choose_cryptography();
    // What decoders remark about a file stands in its fault, if there is one.
    let level = if matches!(command, Command::Serve(_)) { "info,symphonia=off" } else { "warn,symphonia=off" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let is_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_terminal).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let done = runtime.block_on(async {
        match command {
            Command::Process(command) => command.run(&common).await,
            Command::Serve(command) => command.run(&common).await,
            Command::Enqueue(command) => command.run(&common).await,
            Command::Outcomes(command) => command.run(&common).await,
            Command::Windows(command) => command.run(&common).await,
            Command::Alerts(command) => command.run(&common).await,
            Command::Replay(command) => command.run(&common).await,
            Command::Dlq(command) => command.run(&common).await,
            Command::Experiment(command) => command.run(&common).await,
            Command::Audit(command) => command.run(&common).await,
            Command::PubSub(command) => command.run(&common).await,
            Command::Model(command) => command.run(&common).await,
            Command::Train(command) => command.run(&common).await,
            Command::BigQuery(command) => command.run(&common).await,
            Command::Doctor(command) => command.run(&common).await,
        }
    });
    // Whoever is still at work, a model with an answer that nobody waits for, is not waited for.
    runtime.shutdown_background();
    done.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &anyhow::Error) -> Exit {
    if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        // Whoever read our output has seen enough.
        return Exit::Success;
    }
    eprintln!("tidemark: {error:#}");
    Exit::Failure
}
