//! Serving processes with real services around them, through the command: `make test-services` runs it.

#[path = "../../connectors/tests/kafka/broker.rs"]
#[allow(dead_code, reason = "the broker's own tests need more of it")]
mod broker;
#[path = "../../connectors/tests/pubsub/emulator.rs"]
#[allow(dead_code, reason = "the connector's tests need more of it")]
mod emulator;
#[path = "../../connectors/tests/buckets/gcs.rs"]
#[allow(dead_code, reason = "the tests of buckets need more of it")]
mod gcs;
#[path = "../system/harness.rs"]
#[allow(dead_code, reason = "the harness is the system tests', which need more of it")]
mod harness;
mod kafka;
mod pubsub;
#[path = "../../connectors/tests/support/script.rs"]
mod script;
#[path = "../../connectors/tests/postgres/server.rs"]
mod server;
#[path = "../../models/tests/openai/llmock.rs"]
#[allow(dead_code, reason = "the tests of the OpenAI branch need more of it")]
mod llmock;
mod objects;
mod workers;
