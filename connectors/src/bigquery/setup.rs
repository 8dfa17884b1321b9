//! Tables and views: made where they are missing, brought to our columns where they are older. Repeating it changes nothing.

use gcp_bigquery_client::model::clustering::Clustering;
use gcp_bigquery_client::model::table::Table as Resource;
use gcp_bigquery_client::model::table_schema::TableSchema;
use gcp_bigquery_client::model::time_partitioning::TimePartitioning;
use gcp_bigquery_client::model::view_definition::ViewDefinition;

use super::api::Api;
use super::error::BigQueryError;
use super::schema::{Migration, columns, migrated};
use super::tables::{TABLES, Table};
use super::views::VIEWS;

/// What was made or changed, a line each.
pub(super) type Made = Vec<String>;

/// Makes what is missing in the dataset; where it is, and what was made. An answer that was lost is made up for by doing
/// it again.
pub(super) async fn setup(api: &Api) -> Result<(Option<String>, Made), BigQueryError> {
    let (project, dataset) = (&api.to.project, &api.to.dataset);
    let what = format!("look at the dataset {project}.{dataset}");
    let location = match api.ask(&what, api.client.dataset().get(project, dataset)).await {
        Ok(found) => found.location,
        Err(error) if error.code() == Some(404) => {
            return Err(BigQueryError::NoDataset { project: project.clone(), dataset: dataset.clone() });
        }
        Err(error) => return Err(error),
    };
    let mut made = Vec::new();
    for table in &TABLES {
        made.extend(set_up_table(api, table).await?);
    }
    for (name, about, query) in VIEWS {
        made.extend(set_up_view(api, name, about, query).await?);
    }
    Ok((location, made))
}

/// The resource of a table or view, or `None` where there is none.
async fn look(api: &Api, name: &str) -> Result<Option<Resource>, BigQueryError> {
    let what = format!("look at {}", full_name(api, name));
    match api.ask(&what, api.client.table().get(&api.to.project, &api.to.dataset, name, None)).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates it. That somebody else did meanwhile is as good: what it is was looked at before, or is the next time.
async fn create(api: &Api, resource: Resource) -> Result<(), BigQueryError> {
    let what = format!("create {}", full_name(api, resource.table_id()));
    match api.ask(&what, api.client.table().create(resource)).await {
        Err(error) if error.code() != Some(409) => Err(error),
        _ => Ok(()),
    }
}

async fn patch(api: &Api, resource: Resource) -> Result<(), BigQueryError> {
    let name = resource.table_id().clone();
    let what = format!("change {}", full_name(api, &name));
    let patch = api.client.table().patch(&api.to.project, &api.to.dataset, &name, resource);
    api.ask(&what, patch).await.map(drop)
}

async fn set_up_table(api: &Api, table: &Table) -> Result<Made, BigQueryError> {
    let name = full_name(api, table.name);
    let resource = |fields| Resource::new(&api.to.project, &api.to.dataset, table.name, TableSchema::new(fields));
    let Some(found) = look(api, table.name).await? else {
        let cluster = table.cluster.iter().map(|column| (*column).to_owned()).collect();
        let resource = resource(columns(table))
            .description(table.about)
            .time_partitioning(TimePartitioning::per_day().field(table.day))
            .clustering(Clustering { fields: Some(cluster) });
        create(api, resource).await?;
        return Ok(vec![format!("table {name}")]);
    };
    expect_kind(&name, &found, "TABLE")?;
    let Some(Migration { fields, changes }) = migrated(&name, table, found.schema.fields.unwrap_or_default())? else {
        return Ok(Vec::new());
    };
    patch(api, resource(fields)).await?;
    Ok(changes.into_iter().map(|change| format!("table {name}: {change}")).collect())
}

async fn set_up_view(api: &Api, name: &str, about: &str, query: &str) -> Result<Made, BigQueryError> {
    let full = full_name(api, name);
    // The views are written for a dataset `tidemark`, so that they can be read and run as they are.
    let query = query.replace("tidemark.", &format!("`{}`.`{}`.", api.to.project, api.to.dataset));
    let mut resource =
        Resource::new(&api.to.project, &api.to.dataset, name, TableSchema { fields: None }).description(about);
    resource.view = Some(ViewDefinition {
        query: query.clone(),
        use_legacy_sql: Some(false),
        user_defined_function_resources: None,
    });
    match look(api, name).await? {
        None => {
            create(api, resource).await?;
            Ok(vec![format!("view {full}")])
        }
        Some(found) => {
            expect_kind(&full, &found, "VIEW")?;
            if found.view.is_some_and(|view| view.query == query) {
                return Ok(Vec::new());
            }
            patch(api, resource).await?;
            Ok(vec![format!("view {full}: its query")])
        }
    }
}

fn expect_kind(name: &str, found: &Resource, wanted: &'static str) -> Result<(), BigQueryError> {
    match found.r#type.as_deref() {
        Some(kind) if kind != wanted => {
            Err(BigQueryError::Kind { table: name.to_owned(), found: kind.to_owned(), wanted })
        }
        _ => Ok(()),
    }
}

/// As SQL names it.
pub(super) fn full_name(api: &Api, name: &str) -> String {
    format!("{}.{}.{name}", api.to.project, api.to.dataset)
}
