//! `tidemark replay`: the past once more.

mod show;
mod uploads;
mod work;

use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use connectors::parquet::write_windows;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::SignedDuration;
use tidemark::report::replay::Replay as Outcomes;
use uuid::Uuid;

use super::{Common, Exit, windows};

pub(super) use show::tables;

#[derive(clap::Subcommand)]
pub(super) enum Replay {
    /// Describe uploads again, with another model, prompt or threshold, and compare
    Uploads(uploads::Uploads),
    /// Show what a replay of uploads came to so far
    Show(show::Show),
    /// Add outcomes up again, from their files
    #[command(after_help = "\
The rows are those that `tidemark windows` shows, and the same whatever the order of the files and the number of workers. They
are written to DIR/windows/run=ID/day=YYYY-MM-DD/windows.parquet; with --json they are printed as well.

Examples:
  tidemark replay outcomes data/outcomes --out replayed
  tidemark replay outcomes old.ndjson --out replayed --window 1h --json | jq .requests")]
    Outcomes {
        /// Parquet files as `serve` writes them, JSON with an outcome a line (.ndjson, .jsonl), and folders of these
        #[arg(required = true, value_name = "FILE_OR_DIR")]
        paths: Vec<PathBuf>,
        /// Where the rows go
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// How wide windows are
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = seconds)]
        window: u32,
        /// Threads
        #[arg(long, value_name = "N", default_value = "1")]
        workers: NonZeroUsize,
    },
}

fn seconds(text: &str) -> Result<u32, String> {
    let duration: SignedDuration = text.parse().map_err(|_| "is no duration like 60s, 5m or 1h")?;
    match u32::try_from(duration.as_secs()) {
        Ok(seconds) if seconds > 0 && duration.subsec_nanos() == 0 => Ok(seconds),
        _ => Err("a window is at least one second wide, and whole seconds".into()),
    }
}

impl Replay {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        let json = common.json;
        match self {
            Self::Uploads(uploads) => uploads.run(common).await,
            Self::Show(show) => show.run(common).await,
            Self::Outcomes { paths, out, window, workers } => {
                tokio::task::spawn_blocking(move || outcomes(&paths, &out, window, workers.get(), json)).await?
            }
        }
    }
}

fn outcomes(
    paths: &[PathBuf],
    out: &std::path::Path,
    window_s: u32,
    workers: usize,
    json: bool,
) -> anyhow::Result<Exit> {
    let replay = Outcomes::new(paths, window_s)?;
    let progress = progress(replay.bytes());
    let (begun, bar) = (Instant::now(), progress.clone());
    let replayed = replay.run(workers, move |bytes| bar.inc(bytes))?;
    progress.finish_and_clear();
    let seconds = begun.elapsed().as_secs_f64();
    let run = Uuid::now_v7().to_string();
    let folder = out.join("windows").join(format!("run={run}"));
    write_windows(&folder, &replayed.rows)?;
    if json {
        return windows::show_rows(&replayed.rows, true).map(|()| Exit::Success).map_err(Into::into);
    }
    let (count, rows) = (replayed.outcomes, replayed.rows.len());
    let sentence = format!(
        "{count} outcomes in {seconds:.1} s ({:.0} a second): {rows} rows in {}",
        count as f64 / seconds,
        folder.display()
    );
    super::show::line(&sentence)?;
    Ok(Exit::Success)
}

/// On a terminal, how far the work is; else nothing.
fn progress(bytes: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}, {binary_bytes_per_sec}, {eta} left");
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
