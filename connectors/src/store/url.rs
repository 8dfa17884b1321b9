//! Where a store is: a file, or a database on a server.

use std::fmt::{Debug, Display, Formatter};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;

/// A store's address. It is shown without its password, and compared with it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum StoreUrl {
    /// A file, which one machine's processes may share: `tidemark.db`, `sqlite:///var/lib/tidemark/tidemark.db`.
    Sqlite(PathBuf),
    /// A Postgres database, which many machines' workers may share: `postgres://USER@HOST:PORT/DATABASE?sslmode=…`, as
    /// libpq reads it, but that `sslrootcert` is trusted beside the public authorities, and that `verify-ca` looks at the
    /// name as well. What it leaves out is taken from the environment (`PGPASSWORD` and its like) and `~/.pgpass`.
    Postgres(String),
}

/// What may stand behind the question mark of a Postgres address. Any other is refused: a misspelt `sslmode` must not go
/// unnoticed.
const PARAMETERS: [&str; 12] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

impl StoreUrl {
    /// The same store, where a relative path starts in `folder`.
    pub fn within(self, folder: &Path) -> Self {
        match self {
            Self::Sqlite(path) => Self::Sqlite(folder.join(path)),
            postgres @ Self::Postgres(_) => postgres,
        }
    }
}

/// How to connect to a Postgres address, or in words why it is none; never with the password in them.
pub(super) fn postgres_options(url: &str) -> Result<PgConnectOptions, String> {
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    let names = parameters.split('&').filter_map(|it| it.split('=').next()).filter(|name| !name.is_empty());
    if let Some(unknown) = names.into_iter().find(|name| !PARAMETERS.contains(name)) {
        return Err(format!("{unknown} is no parameter of it; there are {}", PARAMETERS.join(", ")));
    }
    let options: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| error.to_string())?;
    Ok(match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("tidemark"),
    })
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some(("postgres" | "postgresql", _)) => {
                postgres_options(text).map_err(|reason| format!("not a Postgres address: {reason}"))?;
                Ok(Self::Postgres(text.to_owned()))
            }
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            None if !text.is_empty() => Ok(Self::Sqlite(text.into())),
            _ => Err("a store is a path, sqlite://PATH or postgres://USER@HOST:PORT/DATABASE".into()),
        }
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<&Path> for StoreUrl {
    fn from(path: &Path) -> Self {
        Self::Sqlite(path.to_owned())
    }
}

impl From<&PathBuf> for StoreUrl {
    fn from(path: &PathBuf) -> Self {
        Self::Sqlite(path.clone())
    }
}

impl From<&StoreUrl> for StoreUrl {
    fn from(url: &StoreUrl) -> Self {
        url.clone()
    }
}

impl Display for StoreUrl {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        let url = match self {
            Self::Sqlite(path) => return write!(out, "{}", path.display()),
            Self::Postgres(url) => url,
        };
        let Ok(options) = postgres_options(url) else { return out.write_str("a Postgres database") };
        write!(out, "postgres://{}@", options.get_username())?;
        match options.get_socket() {
            Some(socket) => write!(out, "{}", socket.display())?,
            None => write!(out, "{}:{}", options.get_host(), options.get_port())?,
        }
        write!(out, "/{}", options.get_database().unwrap_or(options.get_username()))
    }
}

impl Debug for StoreUrl {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_file_and_an_address_a_database() {
        for (text, path) in [("data/tidemark.db", "data/tidemark.db"), ("sqlite:///var/t.db", "/var/t.db")] {
            assert_eq!(text.parse(), Ok(StoreUrl::Sqlite(path.into())));
        }
        for text in ["postgres://t@db/t", "postgresql://t@db:5432/t?sslmode=verify-full&sslrootcert=/etc/ca.pem"] {
            assert_eq!(text.parse(), Ok(StoreUrl::Postgres(text.into())));
        }
        let relative = StoreUrl::Sqlite("t.db".into()).within(Path::new("/etc"));
        assert_eq!(relative, StoreUrl::Sqlite("/etc/t.db".into()));
    }

    #[test]
    fn an_address_that_cannot_be_is_refused_with_a_reason() {
        for (text, names) in [
            ("", "postgres://"),
            ("sqlite://", "postgres://"),
            ("mysql://t@db/t", "postgres://"),
            ("postgres://t:secret@db:port/t", "port"),
            ("postgres://t:secret@db/t?sslmod=verify-full", "sslmod"),
            ("postgres://t:secret@db/t?sslmode=sometimes", "sometimes"),
        ] {
            let error = text.parse::<StoreUrl>().expect_err(text);
            assert!(error.contains(names) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for text in ["postgres://t:secret@db:6432/t", "postgres://t@db:6432/t?password=secret"] {
            let url: StoreUrl = text.parse().expect("an address");
            assert_eq!(format!("{url} {url:?}"), "postgres://t@db:6432/t postgres://t@db:6432/t");
        }
    }
}
