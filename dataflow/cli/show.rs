//! What commands print: tables for people, one JSON object a line for machines.

use std::io::{self, Write};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use records::{Metadata, Outcome};
use serde::Serialize;
use serde_json::Value;

/// A table under `header`, as wide as the terminal at most.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table.add_rows(rows);
    line(&table.to_string())
}

/// One object a line.
pub(super) fn json_lines<T: Serialize>(rows: &[T]) -> io::Result<()> {
    rows.iter().try_for_each(|row| line(&serde_json::to_string(row)?))
}

/// Outcomes, with their metadata in a column a field.
pub(super) fn outcomes(outcomes: &[Outcome], json: bool) -> io::Result<()> {
    if json {
        return json_lines(outcomes);
    }
    let mut fields: Vec<&str> = Vec::new();
    for field in outcomes.iter().flat_map(|outcome| outcome.metadata.keys()) {
        if !fields.contains(&field.as_str()) {
            fields.push(field);
        }
    }
    let mut header = vec!["file", "lane", "status", "branch", "confidence"];
    header.extend(&fields);
    header.extend(["total_ms", "error"]);
    table(&header, outcomes.iter().map(|outcome| row(outcome, &fields)))
}

fn row(outcome: &Outcome, fields: &[&str]) -> Vec<String> {
    let source = outcome.source.as_deref().unwrap_or(outcome.upload_id.as_str());
    let confidence = outcome.confidence.map_or(String::new(), |sure| format!("{:.2}", sure.get()));
    let mark = if outcome.below_threshold { " (below threshold)" } else { "" };
    let mut row = vec![
        source.rsplit('/').next().unwrap_or(source).to_owned(),
        outcome.lane.to_string(),
        outcome.status.to_string(),
        outcome.branch.map_or(String::new(), |branch| branch.to_string()),
        format!("{confidence}{mark}"),
    ];
    row.extend(fields.iter().map(|field| value(&outcome.metadata, field)));
    row.push(outcome.total_ms.to_string());
    row.push(outcome.error.clone().unwrap_or_default());
    row
}

fn value(metadata: &Metadata, field: &str) -> String {
    match metadata.get(field) {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(values)) => values
            .iter()
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(", "),
        Some(other) => other.to_string(),
    }
}

/// A sentence for people, an object for machines.
pub(super) fn say(object: &Value, sentence: &str, json: bool) -> io::Result<()> {
    if json { line(&object.to_string()) } else { line(sentence) }
}

/// An object over several lines.
pub(super) fn pretty(object: &Value) -> io::Result<()> {
    line(&serde_json::to_string_pretty(object)?)
}

/// A line on standard output. Fails where nobody reads on, which `println!` would take for a defect.
pub(super) fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}
