//! The report: complete windows over any history, and the same rows from a replay; and replays of uploads.

mod closing;
mod difference;
#[path = "../../connectors/tests/store/make.rs"]
mod make;
mod replay;
mod uploads;
