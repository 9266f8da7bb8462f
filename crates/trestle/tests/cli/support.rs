//! Running the program, and making what it printed the same in every run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use trestle_api::agent::Report;
use trestle_api::{AttachRequest, Client, ClientConfig, PlugRequest};
use trestle_core::types::Mac;
use uuid::Uuid;

/// How long anything that must happen may take, on a busy machine too.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The program with nothing of the surroundings: no settings, no terminal, a state folder of its own.
pub(crate) fn trestle(state_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trestle"));
    command.env_clear().stdin(Stdio::null());
    command.env("TRESTLE_STATE_DIR", state_dir).env("COLUMNS", "100");
    command
}

/// A controller in a folder of its own, listening on the socket there and nowhere else.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
}

impl Server {
    /// Starts it and waits until it answers.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more flags.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listen = format!("unix:{}", folder.path().join("trestle.sock").display());
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = trestle(folder.path())
            .args(["server", "--listen", &listen])
            .args(flags)
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self { child, folder };
        server.wait_until_it_answers();
        server
    }

    fn wait_until_it_answers(&mut self) {
        let begun = Instant::now();
        while !self.command(&["project", "list"]).output().unwrap().status.success() {
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() || begun.elapsed() > DEADLINE {
                let log = std::fs::read_to_string(self.path("log")).unwrap();
                panic!("the server does not answer ({ended:?}):\n{log}");
            }
            std::thread::yield_now();
        }
    }

    /// A file in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its process.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The program as its administrator would run it.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = trestle(self.folder.path());
        command.args(args);
        command
    }

    /// What the user sees, made the same in every run.
    pub(crate) fn run(&self, line: &str) -> String {
        let args: Vec<&str> = line.split_whitespace().collect();
        self.seen(&self.command(&args).output().unwrap())
    }

    /// The same for a command that the test made itself.
    pub(crate) fn seen(&self, output: &Output) -> String {
        seen(output, self.folder.path())
    }

    /// What the user sees once this is part of it: what a host is asked for follows a request, it
    /// does not come with its answer.
    pub(crate) fn run_until(&self, line: &str, part: &str) -> String {
        let begun = Instant::now();
        loop {
            let seen = self.run(line);
            if seen.contains(part) || begun.elapsed() > DEADLINE {
                return seen;
            }
        }
    }

    /// Runs what a test needs and does not look at.
    pub(crate) fn given(&self, line: &str) {
        let args: Vec<&str> = line.split_whitespace().collect();
        let output = self.command(&args).output().unwrap();
        assert!(output.status.success(), "trestle {line}:\n{}", self.seen(&output));
    }

    /// Plugs an instance in on a host, as the agent there would ask for it.
    pub(crate) fn attach(&self, instance: &str, host: &str) {
        let request =
            AttachRequest { host: Some(host.to_owned()), network: None, plug: PlugRequest::default() };
        self.as_admin(async |client| client.attach(instance, None, &request).await.unwrap());
    }

    /// Reports what a host's agent would have seen.
    pub(crate) fn report(&self, host: &str, token: &str, report: &Report) {
        self.call(token, async |client| client.report(host, report).await.unwrap());
    }

    /// Calls the API as its administrator.
    pub(crate) fn as_admin<T>(&self, ask: impl AsyncFnOnce(Client) -> T) -> T {
        let token = std::fs::read_to_string(self.path("admin.token")).unwrap();
        self.call(token.trim(), ask)
    }

    fn call<T>(&self, token: &str, ask: impl AsyncFnOnce(Client) -> T) -> T {
        let config = ClientConfig {
            url: format!("unix:{}", self.path("trestle.sock").display()),
            token: Some(token.to_owned()),
            ca_cert: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(ask(Client::new(config).unwrap()))
    }

    /// What a command prints on stdout.
    pub(crate) fn stdout(&self, line: &str) -> String {
        let args: Vec<&str> = line.split_whitespace().collect();
        String::from_utf8(self.command(&args).output().unwrap().stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where the test ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Exit status, stdout and stderr, made the same in every run.
pub(crate) fn seen(output: &Output, folder: &Path) -> String {
    let folder = folder.display().to_string();
    let text = |bytes: &[u8]| redacted(&String::from_utf8_lossy(bytes).replace(&folder, "[folder]"));
    let mut seen = match output.status.code() {
        Some(code) => format!("exit {code}\n"),
        None => format!("{}\n", output.status),
    };
    for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        if !bytes.is_empty() {
            seen.push_str(&format!("--- {name}\n{}", text(bytes)));
        }
    }
    seen
}

/// Ids, times, secrets and what is made at random, replaced by what they are.
fn redacted(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.' | '_');
    let mut result = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (token, behind) = rest.split_at(end);
        result.push_str(placeholder(token).unwrap_or(token));
        let next = behind.find(is_part).unwrap_or(behind.len());
        let (between, behind) = behind.split_at(next);
        result.push_str(between);
        rest = behind;
    }
    result
}

fn placeholder(token: &str) -> Option<&'static str> {
    if token.parse::<Uuid>().is_ok() {
        Some("[id]")
    } else if token.parse::<jiff::Timestamp>().is_ok() {
        Some("[time]")
    } else if token.parse::<Mac>().is_ok() {
        Some("[mac]")
    } else if token.starts_with("tr-") {
        Some("[device]")
    } else if token.starts_with("trestle_") {
        Some("[secret]")
    } else if token == env!("CARGO_PKG_VERSION") {
        Some("[version]")
    } else {
        None
    }
}
