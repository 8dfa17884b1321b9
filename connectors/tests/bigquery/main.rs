//! A store's rows in a real BigQuery emulator: each there once, whatever dies or is lost on the way. `make test-services`
//! runs it.

#[path = "../support/script.rs"]
mod script;
mod emulator;
mod fixture;
mod lively;
mod load;
#[path = "../store/logs.rs"]
mod logs;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../store/make.rs"]
mod make;
mod proxy;
mod queries;
mod setup;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../store/steps.rs"]
mod steps;
mod stream;
mod values;
