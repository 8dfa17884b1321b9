//! Doors to outside systems, one a file: the store, the spool, Parquet files.
