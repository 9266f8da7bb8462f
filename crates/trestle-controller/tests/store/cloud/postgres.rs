//! A PostgreSQL server of the tests' own: in a temporary folder, on a unix socket only, one for a
//! whole test binary. It ends with the binary, however that ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use tokio::sync::OnceCell;

/// Where Debian 12's package `postgresql-15` has its programs.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// How long the server may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for its standard input to end, which it does with the test binary, even a killed one.
const KEEPER: &str = r#"
"$@" >"$FOLDER/log" 2>&1 &
server=$!
read -r _
kill -INT "$server"
wait "$server"
rm -rf "$FOLDER"
"#;

static SERVER: OnceCell<Server> = OnceCell::const_new();
static DATABASES: AtomicUsize = AtomicUsize::new(0);

struct Server {
    folder: PathBuf,
    /// Its standard input is open for as long as this process lives; nobody waits for it.
    _keeper: Child,
}

/// The URL of a new, empty database.
pub async fn new_database() -> String {
    let server = SERVER.get_or_init(Server::start).await;
    let name = format!("trestle_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    execute(&format!("CREATE DATABASE {name}")).await;
    server.url(&name)
}

/// Does something to the server as its superuser.
pub async fn execute(sql: &str) {
    let server = SERVER.get_or_init(Server::start).await;
    let mut connection = PgConnection::connect(&server.url("postgres")).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}

impl Server {
    async fn start() -> Self {
        assert!(Path::new(PROGRAMS).exists(), "{PROGRAMS} is missing: apt-get install postgresql-15");
        let folder = tempfile::Builder::new().prefix("trestle-postgres-").tempdir().unwrap().keep();
        let root =
            std::fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap()
                == 0;
        let prefix: &[&str] = if root {
            &["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]
        } else {
            &[]
        };
        if root {
            run(Command::new("chown").arg("postgres:postgres").arg(&folder));
        }
        let command = |program: &str, arguments: &[&str]| -> Vec<String> {
            let program = format!("{PROGRAMS}/{program}");
            let words = prefix.iter().copied().chain([program.as_str()]).chain(arguments.iter().copied());
            words.map(str::to_owned).collect()
        };
        let data = folder.join("data").display().to_string();
        let initdb = command(
            "initdb",
            &["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"],
        );
        run(Command::new(&initdb[0]).args(&initdb[1..]).current_dir(&folder));
        let socket = folder.display().to_string();
        let server =
            command("postgres", &["-D", &data, "-k", &socket, "-h", "", "-c", "max_connections=500"]);
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args(server)
            .env("FOLDER", &folder)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { folder, _keeper: keeper };
        server.wait().await;
        server
    }

    async fn wait(&self) {
        let begun = Instant::now();
        while PgConnection::connect(&self.url("postgres")).await.is_err() {
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL does not come up: {}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn url(&self, database: &str) -> String {
        let folder = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{folder}/{database}")
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
