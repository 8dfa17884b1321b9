//! `tidemark replay show`: what a replay came to, beside the past.

use anyhow::bail;
use connectors::store::Store;
use operators::compare::{FEWEST, Interval, TooEarly};
use records::PairState;
use serde_json::Value;
use tidemark::replay::{Change, Definition, Difference, FieldRow, MeasureRow, Run, pairs};
use tokio::runtime::Handle;

use crate::cli::{Common, Exit, show};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  tidemark replay show short-prompt\n  tidemark replay show short-prompt --json | jq .fields"
)]
pub(in crate::cli) struct Show {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
}

impl Show {
    pub(in crate::cli) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        let run = Run::new(&common.data, &self.run)?;
        let Some(definition) = run.definition()? else {
            let names = Run::names(&common.data).join(", ");
            bail!("there is no run {} in {}; there are: {names}", self.run, common.data.display());
        };
        if run.uploads()?.is_none() {
            bail!("run {0} has not chosen its uploads yet: go on with `tidemark replay uploads --run {0}`", self.run);
        }
        let store = run.store().await?;
        print(&run, &definition, &store, common.json).await?;
        store.close().await;
        Ok(Exit::Success)
    }
}

/// Compares and prints.
pub(super) async fn print(run: &Run, definition: &Definition, store: &Store, json: bool) -> anyhow::Result<()> {
    let (of, with, runtime) = (run.clone(), store.clone(), Handle::current());
    let difference = tokio::task::spawn_blocking(move || {
        let mut difference = Difference::new(of.uploads()?.unwrap_or_default());
        pairs(&of, &with, &runtime, |page| {
            page.iter().for_each(|pair| difference.add(pair));
            Ok(())
        })?;
        anyhow::Ok(difference)
    });
    let difference = difference.await??;
    if json {
        let mut object = difference.to_json();
        object["run"] = run.name().into();
        object["definition"] = serde_json::to_value(definition)?;
        return Ok(show::json_lines(&[object])?);
    }
    show::line(&describe(run, definition))?;
    let count = |state| difference.uploads(state);
    show::line(&format!(
        "{} uploads compared; {} not replayed yet, {} whose audio is gone, {} whose event could not be read",
        count(PairState::Compared),
        count(PairState::Open),
        count(PairState::AudioGone),
        count(PairState::NoEvent)
    ))?;
    Ok(tables(&difference, ["original", "replay"], "95")?)
}

/// Measures and fields, under the names of both sides.
pub(in crate::cli) fn tables(difference: &Difference, sides: [&str; 2], level: &str) -> std::io::Result<()> {
    let interval = format!("{level} % interval, at all times");
    let header = ["measure", "uploads", sides[0], sides[1], "difference", &interval];
    show::table(&header, difference.measures().map(|row| measure(&row)))?;
    show::table(&["field", "uploads", "equal", "most frequent changes"], difference.fields().map(|row| field(&row)))
}

/// What the run does, in words.
pub(super) fn describe(run: &Run, definition: &Definition) -> String {
    let checkpoint = definition.checkpoint.as_ref().map_or("nano".into(), |path| path.to_string_lossy());
    let paid = if definition.wanted.fallback { "the paid model asked in doubt" } else { "the paid model not asked" };
    let (name, threshold, prompt) = (run.name(), definition.threshold, &definition.prompt);
    format!("run {name}: {checkpoint}, threshold {threshold:.2}, {paid}, prompt {prompt:?}")
}

fn measure(row: &MeasureRow) -> Vec<String> {
    let signed = |value: f64| format!("{}{}", if value > 0.0 { "+" } else { "" }, row.unit.number(value));
    let (means, difference) = match row.means {
        None => ([const { String::new() }; 2], String::new()),
        Some([before, after]) => {
            let difference = format!("{} {}", signed(after - before), row.unit.counts()).trim_end().to_owned();
            ([before, after].map(|mean| row.unit.show(mean)), difference)
        }
    };
    let interval = match &row.difference {
        Ok(Interval { low, high, .. }) => format!("{} to {}", signed(*low), signed(*high)),
        Err(TooEarly::NoVariance) if row.means.is_none_or(|[before, after]| before == after) => {
            "none: no upload differs".to_owned()
        }
        Err(TooEarly::NoVariance) => "none: all differ by the same".to_owned(),
        Err(TooEarly::Few(uploads)) => {
            format!("none: as much as {uploads:.1} uploads differ, and it takes {FEWEST:.0}")
        }
    };
    let [original, replay] = means;
    vec![row.name.to_owned(), row.uploads.to_string(), original, replay, difference, interval]
}

fn field(row: &FieldRow) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let change = |it: &Change| format!("{} → {} ({})", text(&it.from), text(&it.to), it.uploads);
    let share = format!("{:.2} %", 100.0 * row.equal as f64 / row.uploads as f64);
    let changes: Vec<String> = row.changes.iter().map(change).collect();
    vec![row.name.clone(), row.uploads.to_string(), share, changes.join("\n")]
}
