//! Layouts of Parquet files of outcomes, one a row: what an outcome takes, how fast they are written and read, and what it takes to
//! find one upload or one customer. `cargo bench --workspace --bench parquet -- [MILLIONS]`.
//!
//! Rates are thousands of outcomes a second of a core, look-ups milliseconds of a core.

#![expect(clippy::print_stdout, reason = "a benchmark's table is its answer")]

#[path = "support/outcomes.rs"]
mod outcomes;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use connectors::parquet::layout;
use parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowFilter,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use records::{Outcome, outcome_batch, outcome_schema};

/// Rows that are handed to the writer at once, as an export does.
const PAGE: usize = 2_000;

/// Rows of a row group, where a layout does not say.
const GROUP: usize = 131_072;

/// Uploads and customers that are looked for.
const LOOKUPS: usize = 8;

fn zstd(level: i32) -> Compression {
    Compression::ZSTD(ZstdLevel::try_new(level).expect("a level"))
}

fn with(compression: Compression, rows: usize) -> WriterPropertiesBuilder {
    WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(rows))
}

/// Zstandard at its first level, but for what a row is about.
fn base() -> WriterPropertiesBuilder {
    with(zstd(1), GROUP)
}

/// Columns in which nearly every row has a text or a moment of its own.
const UNIQUE: [&str; 7] =
    ["upload_id", "source", "metadata", "field_confidence", "confidence", "arrived_at", "completed_at"];

fn without_dictionaries(columns: &[&str]) -> WriterPropertiesBuilder {
    columns.iter().fold(base(), |all, column| all.set_column_dictionary_enabled((*column).into(), false))
}

fn with_differences() -> WriterPropertiesBuilder {
    ["arrived_at", "completed_at"].into_iter().fold(without_dictionaries(&UNIQUE), |all, column| {
        all.set_column_encoding(column.into(), Encoding::DELTA_BINARY_PACKED)
    })
}

fn with_bloom(columns: &[&str]) -> WriterPropertiesBuilder {
    columns.iter().fold(base(), |all, column| all.set_column_bloom_filter_enabled((*column).into(), true))
}

/// Every layout by its name.
fn layouts() -> Vec<(&'static str, WriterPropertiesBuilder)> {
    vec![
        ("no compression", with(Compression::UNCOMPRESSED, GROUP)),
        ("snappy", with(Compression::SNAPPY, GROUP)),
        ("lz4_raw", with(Compression::LZ4_RAW, GROUP)),
        ("zstd 1", base()),
        ("zstd 3", with(zstd(3), GROUP)),
        ("zstd 9", with(zstd(9), GROUP)),
        ("zstd 1, groups of 10,000", with(zstd(1), 10_000)),
        ("zstd 1, groups of 50,000", with(zstd(1), 50_000)),
        ("zstd 1, groups of 1,048,576", with(zstd(1), 1 << 20)),
        ("zstd 1, no dictionaries", base().set_dictionary_enabled(false)),
        ("zstd 1, none of what is unique", without_dictionaries(&UNIQUE)),
        ("the same, moments as differences", with_differences()),
        ("zstd 1, no statistics", base().set_statistics_enabled(EnabledStatistics::None)),
        ("zstd 1, no statistics of pages", base().set_statistics_enabled(EnabledStatistics::Chunk)),
        ("zstd 1, bloom filter of upload_id", with_bloom(&["upload_id"])),
        ("zstd 1, bloom filters of upload_id and customer_id", with_bloom(&["upload_id", "customer_id"])),
    ]
}

/// Seconds of a core that this thread took so far: others on the machine count less in it than in the time of day.
fn of_core_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse::<f64>().ok());
    nanoseconds.expect("a number") / 1e9
}

/// Writes the pages into files of so many each; the seconds of a core that it took, and the most bytes in memory.
fn write(folder: &Path, pages: &[RecordBatch], by: usize, properties: &WriterProperties) -> (f64, usize) {
    let (begun, mut most) = (of_core_s(), 0);
    for (number, pages) in pages.chunks(by).enumerate() {
        let file = File::create(folder.join(format!("{number:06}.parquet"))).expect("made");
        let mut writer =
            ArrowWriter::try_new(file, Arc::new(outcome_schema()), Some(properties.clone())).expect("a writer");
        for page in pages {
            writer.write(page).expect("written");
            most = most.max(writer.memory_size());
        }
        writer.close().expect("whole");
    }
    (of_core_s() - begun, most)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(folder).expect("a folder");
    listed.map(|entry| entry.expect("an entry").path()).collect()
}

/// Reads all columns of all rows; how many there are.
fn read(folder: &Path) -> usize {
    let rows = |path: PathBuf| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).expect("there")).expect("Parquet");
        reader
            .with_batch_size(8_192)
            .build()
            .expect("a reader")
            .map(|batch| batch.expect("read").num_rows())
            .sum::<usize>()
    };
    files(folder).into_iter().map(rows).sum()
}

/// Finds the rows of a text in a column: row groups by their bloom filters and statistics, then rows by their values.
fn find(folder: &Path, column: &'static str, wanted: &str) -> usize {
    let mut found = 0;
    for path in files(folder) {
        let file = File::open(path).expect("there");
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).expect("Parquet");
        let at = metadata.schema().index_of(column).expect("a column");
        let reader = || {
            let file = file.try_clone().expect("a handle");
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone())
        };
        let may_hold = |group: &usize| {
            let chunk = metadata.metadata().row_group(*group).column(at);
            let bounds = chunk.statistics().and_then(|it| Some((it.min_bytes_opt()?, it.max_bytes_opt()?)));
            let is_within = bounds.is_none_or(|(min, max)| min <= wanted.as_bytes() && wanted.as_bytes() <= max);
            let filter = reader().get_row_group_column_bloom_filter(*group, at).expect("read");
            is_within && filter.is_none_or(|filter| filter.check(&wanted))
        };
        let groups: Vec<usize> = (0..metadata.metadata().num_row_groups()).filter(may_hold).collect();
        if groups.is_empty() {
            continue;
        }
        let only = ProjectionMask::columns(metadata.parquet_schema(), [column]);
        let text = wanted.to_owned();
        let is_wanted = ArrowPredicateFn::new(only, move |batch| {
            let values = batch.column(0).as_string::<i32>();
            Ok(values.iter().map(|value| Some(value == Some(&text))).collect::<BooleanArray>())
        });
        let filter = RowFilter::new(vec![Box::new(is_wanted)]);
        let rows = reader().with_row_groups(groups).with_row_filter(filter).build().expect("a reader");
        found += rows.map(|batch| batch.expect("read").num_rows()).sum::<usize>();
    }
    found
}

/// What `each` takes at best of three times, in seconds of a core.
fn best(mut each: impl FnMut()) -> f64 {
    let one = |_| {
        let begun = of_core_s();
        each();
        of_core_s() - begun
    };
    (0..3).map(one).fold(f64::MAX, f64::min)
}

fn row(name: &str, outcomes: &[Outcome], pages: &[RecordBatch], by: usize, properties: &WriterProperties) {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut took, mut most) = (f64::MAX, 0);
    for _ in 0..3 {
        let (seconds, bytes) = write(folder.path(), pages, by, properties);
        (took, most) = (took.min(seconds), bytes);
    }
    let count = outcomes.len();
    let size: u64 = files(folder.path()).iter().map(|path| path.metadata().expect("there").len()).sum();
    let reading = best(|| assert_eq!(read(folder.path()), count, "all are read"));
    let some = || outcomes.iter().step_by(count / LOOKUPS).take(LOOKUPS);
    let upload = best(|| some().for_each(|it| assert_eq!(find(folder.path(), "upload_id", it.upload_id.as_str()), 1)));
    let customer = best(|| {
        some().for_each(|it| assert!(find(folder.path(), "customer_id", it.customer_id.as_deref().expect("one")) > 0));
    });
    println!(
        "| {name} | {:.1} | {:.0} | {:.0} | {:.1} | {:.1} | {:.0} |",
        size as f64 / count as f64,
        count as f64 / took / 1e3,
        count as f64 / reading / 1e3,
        upload * 1e3 / LOOKUPS as f64,
        customer * 1e3 / LOOKUPS as f64,
        most as f64 / f64::from(1 << 20),
    );
}

fn main() {
    let millions: f64 = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1.0);
    let mut dice = fastrand::Rng::with_seed(1);
    let outcomes: Vec<Outcome> =
        (0..(millions * 1e6) as u64).map(|number| outcomes::outcome(number, &mut dice)).collect();
    let pages: Vec<RecordBatch> = outcomes.chunks(PAGE).map(|page| outcome_batch(page).expect("a batch")).collect();
    println!("| layout | bytes an outcome | written | read | an upload | a customer | MiB to write |");
    println!("|---|---|---|---|---|---|---|");
    for (name, properties) in layouts() {
        row(name, &outcomes, &pages, usize::MAX, &properties.build());
    }
    row("as Tidemark writes them", &outcomes, &pages, usize::MAX, &layout());
    let small: Vec<RecordBatch> = outcomes.chunks(200).map(|page| outcome_batch(page).expect("a batch")).collect();
    row("as Tidemark writes them, in files of 200", &outcomes, &small, 1, &layout());
}
