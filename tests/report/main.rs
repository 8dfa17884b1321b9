//! The report: complete windows over any history, and the same rows from a replay.

mod closing;
#[path = "../../connectors/tests/store/make.rs"]
mod make;
mod replay;
