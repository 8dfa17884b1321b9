//! What lies in a bucket.

use futures::TryStreamExt;
use object_store::ObjectStore;
use records::Fault;

use super::{Objects, fault, unreachable};

impl Objects {
    /// The addresses of all objects below `gs://BUCKET/PREFIX` or `s3://BUCKET/PREFIX` whose names end in `ending`, in the order
    /// of their names.
    ///
    /// # Errors
    /// A [`Fault`] as those of [`Self::fetch`].
    pub async fn list(&self, url: &str, ending: &str) -> Result<Vec<String>, Fault> {
        let (bucket, prefix) = self.open_folder(url).map_err(unreachable)?;
        let listed = self.in_time(url, async {
            bucket.list(Some(&prefix)).try_collect::<Vec<_>>().await.map_err(|error| fault::of(url, &error))
        });
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let name = rest.split('/').next().unwrap_or_default();
        let of_kind = |key: &String| key.ends_with(ending);
        let keys = listed.await?.into_iter().map(|object| object.location.as_ref().to_owned()).filter(of_kind);
        let mut addresses: Vec<String> = keys.map(|key| format!("{scheme}://{name}/{key}")).collect();
        addresses.sort();
        Ok(addresses)
    }
}
