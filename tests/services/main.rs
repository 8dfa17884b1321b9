//! Serving processes with real services around them, through the command: `make test-services` runs it.

#[path = "../../connectors/tests/pubsub/emulator.rs"]
mod emulator;
#[path = "../system/harness.rs"]
#[allow(dead_code, reason = "the harness is the system tests', which need more of it")]
mod harness;
mod pubsub;
#[path = "../../connectors/tests/postgres/server.rs"]
mod server;
mod workers;
