//! `tidemark windows`: what became of the uploads of each window, by experiment, arm, model, lane, tier and region.

use records::{Tier, UtcMicros, WindowRow};
use tidemark::clock::now;
use tidemark::config::Config;
use tidemark::report::live::Live;

use super::{Common, Exit, show, start};

/// Outcomes that are read at once.
const PAGE: usize = 4096;

#[derive(clap::Args)]
#[command(after_help = "\
A window of arrivals is shown once every upload that arrived in it has ended. `tidemark serve` writes them.

Examples:
  tidemark windows
  tidemark windows --live                        what ended in the last minute
  tidemark windows --json | jq -r '[.start, .arm, .requests, .total_p99_ms] | @tsv'")]
pub(super) struct Windows {
    /// What ended in the window that ends now, whenever it arrived
    #[arg(long)]
    live: bool,
    /// The newest so many rows
    #[arg(long, default_value_t = 100, conflicts_with = "live")]
    limit: usize,
}

impl Windows {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        let store = start::existing_store(common).await?;
        let rows = if self.live {
            let mut live = Live::new(Config::load(common.config.as_deref())?.report.window_s);
            let mut seq = live.begin(&store, now()).await?;
            loop {
                let page = store.outcomes_after(seq, PAGE).await?;
                let Some((last, _)) = page.last() else { break };
                seq = *last;
                page.iter().for_each(|(_, outcome)| live.add(outcome, now()));
            }
            live.rows(now())
        } else {
            store.newest_windows(UtcMicros(0), self.limit).await?
        };
        show_rows(&rows, common.json)?;
        store.close().await;
        Ok(Exit::Success)
    }
}

const HEADER: [&str; 17] = [
    "start",
    "width_s",
    "experiment",
    "arm",
    "model",
    "lane",
    "tier",
    "region",
    "requests",
    "dead",
    "fallback",
    "unsure",
    "queued p99",
    "total p50",
    "total p99",
    "confidence",
    "cost",
];

/// Rows as objects, or as a table.
pub(super) fn show_rows(rows: &[WindowRow], json: bool) -> std::io::Result<()> {
    if json { show::json_lines(rows) } else { show::table(&HEADER, rows.iter().map(row)) }
}

fn row(row: &WindowRow) -> Vec<String> {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let ms = |ms: Option<u64>| ms.map_or(String::new(), |ms| format!("{ms} ms"));
    vec![
        row.start.to_string()[..19].replace('T', " "),
        row.width_s.to_string(),
        text(row.key.experiment.as_deref()),
        text(row.key.arm.as_deref()),
        text(row.key.model.as_deref()),
        row.key.lane.to_string(),
        text(row.key.tier.map(Tier::as_str)),
        text(row.key.region.as_deref()),
        row.requests.to_string(),
        row.dead_lettered.to_string(),
        row.fallbacks.to_string(),
        row.below_threshold.to_string(),
        ms(row.queued_p99_ms),
        ms(row.total_p50_ms),
        ms(row.total_p99_ms),
        row.confidence_mean.map_or(String::new(), |mean| format!("{mean:.3}")),
        format!("{:.6} USD", row.cost_micro_usd.0 as f64 / 1e6),
    ]
}
