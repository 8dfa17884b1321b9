//! A Postgres that is killed and started again; its commits are as durable as in production.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::ROOT;

/// A server in a folder of its own; deleted with it.
pub(crate) struct Database {
    folder: tempfile::TempDir,
}

impl Database {
    /// Starts it; with its address.
    pub(crate) fn start() -> (Self, String) {
        let folder = tempfile::tempdir().expect("a folder");
        // Postgres runs as another user where this one is root.
        let all: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), all).expect("our own folder");
        let database = Self { folder };
        let address = database.up();
        (database, address)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("postgres")
    }

    fn script(&self, what: &str) -> String {
        let script = Path::new(ROOT).join("deploy/setup/postgres.sh");
        let output = Command::new(script).arg(what).arg(self.data()).output().expect("deploy/setup/postgres.sh runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "deploy/setup/postgres.sh {what}: {said}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Starts it again where it was killed; its address, whose port is another one.
    pub(crate) fn up(&self) -> String {
        self.script("up").lines().next().expect("an address").to_owned()
    }

    /// kill -9 to the server; its children end by themselves, and no new one can start before they have.
    pub(crate) async fn kill(&self) {
        let pid = std::fs::read_to_string(self.data().join("data/postmaster.pid")).expect("it runs");
        let pid = pid.lines().next().expect("its number").to_owned();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("Linux");
        let killed = Command::new("kill").args(["-9", &pid]).status().expect("kill runs");
        assert!(killed.success(), "the server was killed");
        let begun = Instant::now();
        while children.split_whitespace().chain([&*pid]).any(is_alive) {
            assert!(begun.elapsed() < Duration::from_secs(60), "the server's processes {pid} {children} do not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Runs SQL as the server's owner.
    pub(crate) fn sql(&self, address: &str, sql: &str) {
        let ran = Command::new("psql").args(["--no-psqlrc", "--quiet", "--command", sql, address]).output();
        let output = ran.expect("psql runs: it comes with Postgres' client");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn is_alive(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

impl Drop for Database {
    fn drop(&mut self) {
        self.script("down");
    }
}
