//! `tidemark pubsub`: makes what Pub/Sub needs to have.

use connectors::pubsub::{Found, setup};
use serde_json::json;
use tidemark::config::Config;

use super::{Common, Exit, show, start};

#[derive(clap::Subcommand)]
pub(super) enum PubSub {
    /// Make the topics and subscriptions of the configuration; what is there already is left as it is
    #[command(after_help = "\
Pub/Sub's own service account has to be allowed to move what is undeliverable: roles/pubsub.publisher on
pubsub.undeliverable_topic, roles/pubsub.subscriber on both subscriptions.

Example:
  tidemark pubsub setup --config tidemark.toml")]
    Setup,
}

impl PubSub {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        let Self::Setup = self;
        let config = Config::load(common.config.as_deref())?;
        let found = setup(&start::pubsub(&config)?, &config.pubsub.layout()).await?;
        for it in &found {
            let object = match it {
                Found::Made(name) => json!({ "name": name, "state": "made" }),
                Found::There(name) => json!({ "name": name, "state": "there" }),
                Found::Differs(name, how) => json!({ "name": name, "state": "differs", "differences": how }),
            };
            show::say(&object, &it.to_string(), common.json)?;
        }
        let differs = found.iter().any(|it| matches!(it, Found::Differs(..)));
        if differs {
            eprintln!("tidemark: what differs was left as it is: change it with `gcloud pubsub subscriptions update`");
        }
        Ok(if differs { Exit::Failure } else { Exit::Success })
    }
}
