//! How our Parquet files are laid out.

use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::file::properties::WriterProperties;

/// Zstandard, and what the library does by itself.
pub fn layout() -> WriterProperties {
    WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build()
}
