//! Several workers on one real Postgres, through the command: `make test-services` runs it.

#[path = "../system/harness.rs"]
#[allow(dead_code, reason = "the harness is the system tests', which need more of it")]
mod harness;
#[path = "../../connectors/tests/postgres/server.rs"]
mod server;
mod workers;
