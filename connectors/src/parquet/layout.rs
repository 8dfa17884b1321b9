//! How our Parquet files are laid out. What is not said here is as the library does it, statistics of column chunks and pages
//! among it.

use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::file::properties::WriterProperties;

/// Columns in which nearly every row has a value of its own: a dictionary of them takes time, memory and room, and gives nothing.
const UNIQUE: [&str; 7] =
    ["upload_id", "source", "metadata", "field_confidence", "confidence", "arrived_at", "completed_at"];

/// Rows of a row group. In one of a million an outcome takes 10 % less; but a group is in memory while it is written, and is what
/// readers share out among their threads.
const ROWS: usize = 131_072;

/// As `benches/parquet.rs` measured it: of the codecs Zstandard's first level gives the smallest files, and its higher levels no smaller ones;
/// a bloom filter of `upload_id`, for a byte an outcome, lets whoever looks for an upload pass over the files without it. One of
/// `customer_id` helps nobody, as a customer is in most files.
pub fn layout() -> WriterProperties {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROWS))
        .set_column_bloom_filter_enabled("upload_id".into(), true);
    UNIQUE.iter().fold(properties, |all, column| all.set_column_dictionary_enabled((*column).into(), false)).build()
}
