//! The `tidemark` command.

mod cli;

fn main() {
    cli::run()
}
