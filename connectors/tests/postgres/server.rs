//! A real Postgres server: one for a test binary, a database for a test, gone with the process.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::script::Script;

/// The server of this test binary.
pub(crate) struct Server {
    /// Its address with user and password, up to the port.
    address: String,
    folder: PathBuf,
    databases: AtomicU32,
    _script: Script,
}

/// The server, which the first one to ask starts.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

impl Server {
    fn start() -> Self {
        let (script, [address, folder]) = Script::run("postgres.sh", &[]);
        let (address, _) = address.rsplit_once('/').expect("an address ends with its database");
        Self { address: address.to_owned(), folder: folder.into(), databases: AtomicU32::new(0), _script: script }
    }

    /// The address of a database that is new, and empty.
    pub(crate) fn new_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql(&self.url("postgres"), &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The address of a database.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.address)
    }

    /// The certificate of an authority: `ca` vouches for the server's name `localhost`, `other-ca` for nobody.
    #[allow(dead_code, reason = "not every test binary looks at certificates")]
    pub(crate) fn certificate(&self, of: &str) -> PathBuf {
        self.folder.join(format!("{of}.pem"))
    }

    /// Runs SQL as somebody else would; its answer, a row a line.
    pub(crate) fn sql(&self, url: &str, sql: &str) -> String {
        let mut psql = Command::new("psql");
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--command", sql, url]);
        let output = psql.output().expect("psql runs: it comes with Postgres' client");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    }
}
