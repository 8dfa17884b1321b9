//! The house rules that a machine can check.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What each floor never takes, by the names of crates; see ARCHITECTURE.md.
const FORBIDDEN: [(&str, &[&str]); 4] = [
    (
        "records",
        &["operators", "connectors", "models", "tidemark", "tokio", "timely", "tch", "sqlx", "axum", "async-openai"],
    ),
    ("operators", &["connectors", "models", "tidemark", "tokio", "tch", "sqlx", "axum", "async-openai", "futures"]),
    ("connectors", &["operators", "models", "tidemark", "timely", "tch", "async-openai"]),
    ("models", &["operators", "connectors", "tidemark", "timely", "sqlx", "axum", "parquet"]),
];

/// The crates that a manifest names, those for its tests included.
fn dependencies(manifest: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(manifest).expect("a manifest");
    let manifest: toml::Table = text.parse().expect("TOML");
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table())
        .flat_map(|section| section.keys().cloned())
        .collect()
}

#[test]
fn no_crate_takes_a_dependency_that_its_floor_forbids() {
    for (name, forbidden) in FORBIDDEN {
        let taken = dependencies(&Path::new(ROOT).join(name).join("Cargo.toml"));
        assert!(taken.len() >= 3, "{name}: {taken:?} cannot be all");
        let broken: Vec<_> = forbidden.iter().filter(|crate_| taken.contains(**crate_)).collect();
        assert!(broken.is_empty(), "{name} takes {broken:?}, which its floor forbids");
    }
}

/// Every Rust file of ours.
fn sources() -> Vec<PathBuf> {
    fn search(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                search(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["records", "operators", "connectors", "models", "dataflow", "tests"] {
        search(&Path::new(ROOT).join(folder), &mut found);
    }
    found
}

#[test]
fn every_file_says_in_its_first_line_what_it_is() {
    let sources = sources();
    assert!(sources.len() > 50, "{} files cannot be all", sources.len());
    for path in sources {
        let text = std::fs::read_to_string(&path).expect("a source file");
        let says = text.starts_with("//! ") && text.lines().next().is_some_and(|line| line.len() > 20);
        assert!(says, "{} does not begin with a `//!` line that says what it is", path.display());
    }
}

#[test]
fn the_operators_are_listed_in_the_order_of_the_graph() {
    let order = |text: &str, names: &[&str], form: &dyn Fn(&str) -> String| -> Vec<String> {
        let mut found: Vec<(usize, String)> = names
            .iter()
            .map(|name| (text.find(&form(name)).unwrap_or_else(|| panic!("{name} is missing")), (*name).to_owned()))
            .collect();
        found.sort();
        found.into_iter().map(|(_, name)| name).collect()
    };
    let names = ["admit", "partition", "assign", "infer", "split", "fallback", "retry", "commit", "acknowledge"];
    let graph = std::fs::read_to_string(Path::new(ROOT).join("dataflow/process.rs")).expect("the graph");
    let in_graph = order(&graph, &names, &|name| format!(".{name}("));
    assert_eq!(in_graph, names, "the graph is not in the order of its picture");

    let modules = std::fs::read_to_string(Path::new(ROOT).join("operators/src/lib.rs")).expect("the list of modules");
    let files = ["admit", "partition", "assign", "infer", "split", "fallback", "retry", "commit", "ack"];
    assert_eq!(order(&modules, &files, &|name| format!("mod {name};")), files);
}

#[test]
fn readme_names_only_commands_that_exist() {
    let makefile = std::fs::read_to_string(Path::new(ROOT).join("Makefile")).expect("the Makefile");
    let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md")).expect("the README");
    let mut named = 0;
    for line in readme.lines() {
        for (_, rest) in line.match_indices("make ").map(|(at, _)| line.split_at(at + 5)) {
            let before = &line[..line.len() - rest.len() - 5];
            // Commands stand in code: behind a backtick or a prompt.
            if before.ends_with('`') || before.ends_with("$ ") {
                let target: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
                assert!(
                    makefile.contains(&format!("\n{target}: ##")),
                    "README names `make {target}`, which is no command"
                );
                named += 1;
            }
        }
    }
    assert!(named >= 2, "README names no command");
}
