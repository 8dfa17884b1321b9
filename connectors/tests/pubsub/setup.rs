//! Topics and subscriptions are made once, and never changed behind anybody's back.

use connectors::pubsub::{Found, Layout, setup};

use crate::emulator::{emulator, layout};

#[tokio::test]
async fn a_second_setup_finds_everything_as_it_should_be() {
    for (exactly_once, ordering) in [(false, false), (true, true)] {
        let connection = emulator().new_project().connection();
        let layout = Layout { exactly_once, ordering, ..layout() };
        let first = setup(&connection, &layout).await.expect("set up");
        assert!(first.len() == 8 && first.iter().all(|it| matches!(it, Found::Made(_))), "{first:?}");
        let second = setup(&connection, &layout).await.expect("set up");
        assert!(second.len() == 8 && second.iter().all(|it| matches!(it, Found::There(_))), "{second:?}");
    }
}

#[tokio::test]
async fn what_is_missing_is_made_and_what_differs_is_told_and_left() {
    let project = emulator().new_project();
    let first = Layout { published: Vec::new(), lease_s: 30, ..layout() };
    project.set_up(&first).await;
    let wanted = Layout { exactly_once: true, undeliverable: "elsewhere".into(), ..layout() };
    for made in [4, 0] {
        let found = setup(&project.connection(), &wanted).await.expect("set up");
        assert_eq!(found.iter().filter(|it| matches!(it, Found::Made(_))).count(), made, "{found:?}");
        let differs: Vec<String> =
            found.iter().filter(|it| matches!(it, Found::Differs(..))).map(ToString::to_string).collect();
        assert_eq!(differs.len(), 2, "{found:?}");
        for what in [
            "subscriptions/tidemark-high",
            "ack_deadline_seconds is \"30\", not \"60\"",
            "enable_exactly_once_delivery is \"false\", not \"true\"",
            "topics/elsewhere",
        ] {
            assert!(differs[0].contains(what), "{what}: {}", differs[0]);
        }
    }
}
