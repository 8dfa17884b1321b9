//! `tidemark bigquery`: the tables that analysts query.

use anyhow::Context;
use clap::Subcommand;
use connectors::bigquery::{BigQuery, Destination, new_stream};
use tidemark::clock::now;
use tidemark::config::Config;

use super::{Common, Exit, show, start};

#[derive(Subcommand)]
pub(super) enum BigQueryCommand {
    /// Make the tables and views that are missing, and bring older ones up to date; doing it again changes nothing
    #[command(after_help = "\
Example:
  bq --location=EU mk --dataset my-project:tidemark
  tidemark bigquery setup")]
    Setup,
    /// Give up a write stream with an append in doubt, once you have looked whether its rows are in the table
    NewStream {
        /// Its name, as the error says it
        table: String,
        /// How many of the append's rows are there: all, as the error says, or 0
        #[arg(long, value_name = "N")]
        written: u64,
    },
}

impl BigQueryCommand {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        let config = Config::load(common.config.as_deref())?;
        let to: Destination =
            config.bigquery.destination().context("bigquery.project is not set in the configuration")?;
        match self {
            Self::Setup => {
                let (_, made) = BigQuery::connect(to).await?.setup().await?;
                if made.is_empty() {
                    show::line("everything is there")?;
                }
                made.iter().try_for_each(|line| show::line(&format!("made {line}")))?;
            }
            Self::NewStream { table, written } => {
                new_stream(&start::existing_store(common).await?, &to, &table, written, now()).await?;
                show::line(&format!("the next append to {table} goes to another stream"))?;
            }
        }
        Ok(Exit::Success)
    }
}
