//! How far a sink has come: kept by its name, and never going back.

use crate::{Fixture, fixture};

#[tokio::test]
async fn each_sink_has_a_place_of_its_own_that_never_goes_back() {
    let Fixture { store, folder: _folder } = fixture().await;
    assert_eq!(store.sink_position("pubsub").await.expect("read"), 0, "it has nothing yet");
    store.advance_sink("pubsub", 7).await.expect("noted");
    store.advance_sink("kafka", 3).await.expect("noted");
    store.advance_sink("pubsub", 5).await.expect("a late note is no error");
    assert_eq!(store.sink_position("pubsub").await.expect("read"), 7);
    assert_eq!(store.sink_position("kafka").await.expect("read"), 3);
}
