//! A lab that another process holds: found by its name, entered, ended.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use trestle_api::types::Name;

use crate::machine::Door;
use crate::process::succeeded;
use crate::topology::Node;
use crate::universe::Entrance;
use crate::wait::until;

/// What `lab.json` in a lab's folder says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The lab's name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The controller's state folder: what `TRESTLE_STATE_DIR` is to be.
    pub state_dir: PathBuf,
    /// The program that it runs.
    pub trestle: PathBuf,
    /// The VM hosts.
    pub hosts: Vec<String>,
    /// The way in, or into the universe around the machine that the lab is in.
    pub entrance: Entrance,
    /// Whether the lab is in a [`crate::Machine`], since the kernel here lacks what it needs.
    #[serde(default)]
    pub is_in_machine: bool,
}

impl Running {
    /// Where labs have their folders: `TRESTLE_LAB_DIR`, else `/run/trestle-lab`.
    pub fn base() -> PathBuf {
        std::env::var_os("TRESTLE_LAB_DIR").map_or_else(|| "/run/trestle-lab".into(), PathBuf::from)
    }

    /// Finds a lab; without a name, the only one there is.
    ///
    /// # Errors
    /// Where there is none of that name, or none or several without a name.
    pub fn find(name: Option<&str>) -> Result<Self> {
        let mut labs = Self::list();
        if let Some(name) = name {
            labs.retain(|lab| lab.name == name);
        }
        match (labs.pop(), labs.is_empty()) {
            (Some(lab), true) => Ok(lab),
            (Some(lab), false) => {
                let others = labs.iter().map(|lab| lab.name.as_str()).collect::<Vec<_>>().join(", ");
                bail!("several labs are up, say which with --lab NAME: {}, {others}", lab.name)
            }
            (None, _) => match name {
                Some(name) => bail!("no lab `{name}` is up"),
                None => bail!("no lab is up; start one with `trestle lab up` or `trestle lab run`"),
            },
        }
    }

    /// The labs that are up, by name.
    pub fn list() -> Vec<Self> {
        let folders = std::fs::read_dir(Self::base()).into_iter().flatten().flatten();
        let found = folders.filter_map(|entry| Self::read(&entry.path()).ok());
        let mut labs: Vec<Self> = found.filter(|lab| lab.entrance.is_alive()).collect();
        labs.sort_by(|one, other| one.name.cmp(&other.name));
        labs
    }

    /// Runs a command on a node and gives what it prints.
    ///
    /// # Errors
    /// Where it cannot be started or fails, with what it said.
    pub(crate) fn ask<'a>(&self, node: impl Into<Node<'a>>, argv: &[&str]) -> Result<String> {
        let node = node.into();
        let what = || format!("on {node}: {}", argv.join(" "));
        let output = self.command(node, argv).stdin(Stdio::null()).output();
        succeeded(output.with_context(what)?, what)
    }

    /// Runs the lab's `trestle` on a node and reads the JSON that it prints. What it says besides
    /// is for the person, on the standard error.
    ///
    /// # Errors
    /// Where it fails, or prints something else.
    pub(crate) fn trestle<'a, T: DeserializeOwned>(
        &self,
        node: impl Into<Node<'a>>,
        arguments: &[&str],
    ) -> Result<T> {
        let program = self.trestle.to_string_lossy();
        let argv = [&[&*program], arguments].concat();
        let mut command = self.command(node.into(), &argv);
        let what = || format!("trestle {}", arguments.join(" "));
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().with_context(what)?;
        ensure!(output.status.success(), "{} failed", what());
        serde_json::from_slice(&output.stdout).with_context(|| format!("reading the answer of {}", what()))
    }

    /// A command that runs these arguments on a node, with the lab's controller as the one that
    /// `trestle` speaks to.
    pub fn command(&self, node: Node<'_>, argv: &[&str]) -> Command {
        if self.is_in_machine {
            let mut command = self.inside(&[]);
            command.args(["lab", "exec", "--lab", &self.name, &node.to_string(), "--"]).args(argv);
            return command;
        }
        let mut command = self.entrance.command(node, argv);
        self.point(&mut command, node);
        command
    }

    /// Where the lab is in a machine, a command that runs this `trestle lab` command in there.
    pub fn over_there(&self, arguments: &[&str]) -> Option<Command> {
        let mut command = self.is_in_machine.then(|| self.inside(&[]))?;
        command.arg("lab").args(arguments).args(["--lab", &self.name]);
        Some(command)
    }

    /// A command that runs `trestle`, with what is added to it, in the machine that the lab is in.
    fn inside(&self, options: &[&str]) -> Command {
        let mut command = Command::new(&self.trestle);
        command.args(["lab", "inside"]).args(options).arg(&self.folder).arg("--").arg(&self.trestle);
        command
    }

    /// The way into the machine that the lab in this folder is in.
    ///
    /// # Errors
    /// Where there is no such lab.
    pub fn door(folder: &Path) -> Result<Door> {
        let lab = Self::read(folder)?;
        ensure!(lab.is_in_machine, "the lab `{}` is in no machine", lab.name);
        Ok(Door::new(lab.entrance))
    }

    /// Sets the variables by which `trestle` finds this lab's controller and a host's agent.
    pub(crate) fn point(&self, command: &mut Command, node: Node<'_>) {
        for foreign in ["TRESTLE_URL", "TRESTLE_TOKEN", "TRESTLE_TOKEN_FILE", "TRESTLE_CA"] {
            command.env_remove(foreign);
        }
        command.env("TRESTLE_STATE_DIR", &self.state_dir);
        // `trestle` is this lab's own, wherever that is.
        let folders = self.trestle.parent().map(Path::to_owned).into_iter();
        let path = std::env::var_os("PATH").unwrap_or_default();
        if let Ok(path) = std::env::join_paths(folders.chain(std::env::split_paths(&path))) {
            command.env("PATH", path);
        }
        if let Node::Named(host) = node
            && self.hosts.iter().any(|known| known == host)
        {
            command.env("TRESTLE_AGENT_SOCKET", self.agent_dir(host).join("agent.sock"));
        }
    }

    /// A shell on a node, for a person; its prompt says where it is.
    pub fn shell(&self, node: Node<'_>) -> Command {
        if self.is_in_machine {
            let mut command = self.inside(&["--terminal"]);
            command.args(["lab", "shell", "--lab", &self.name, &node.to_string()]);
            return command;
        }
        let mut command = self.command(node, &["bash", "--norc", "--noprofile"]);
        command.env("PS1", format!("{}/{node} \\w # ", self.name));
        command
    }

    /// Ends the lab and waits until its processes are gone.
    ///
    /// # Errors
    /// Where they still are after 60 s.
    pub fn down(&self) -> Result<()> {
        self.entrance.end(Duration::from_secs(60))
    }

    /// The state folder of a host's agent.
    pub fn agent_dir(&self, host: &str) -> PathBuf {
        self.folder.join(host)
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    /// Makes the state folders of the controller and the agents.
    pub(crate) fn make_state_folders(&self) -> Result<()> {
        let agents = self.hosts.iter().map(|host| self.agent_dir(host));
        agents.chain([self.state_dir.clone()]).try_for_each(|path| make_part(&path))
    }

    pub(crate) fn write(&self) -> Result<()> {
        let path = self.folder.join("lab.json");
        let text = serde_json::to_string_pretty(self).context("writing lab.json")?;
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("lab.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }
}

/// A lab's folder with its sub-folders, for everyone to pass through: dnsmasq gives up root and
/// reads and writes below it.
pub(crate) fn make_folder(base: &Path, name: &str, parts: &[&str]) -> Result<PathBuf> {
    // It becomes a folder that is removed whole at the end: nothing but a plain name will do.
    name.parse::<Name>().context("naming the lab")?;
    let folder = base.join(name);
    if Running::list().iter().any(|lab| lab.folder == folder) {
        bail!(
            "a lab `{name}` is up already; end it with `trestle lab down {name}`, or give this one another name with --name"
        );
    }
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing an old {}", folder.display()));
        }
        _ => {}
    }
    parts.iter().try_for_each(|part| make_part(&folder.join(part)))?;
    Ok(folder)
}

fn make_part(path: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o755);
    // A lab that just ended removes the common folder where it was the last one in it.
    until(&format!("making {}", path.display()), Duration::from_secs(1), || match builder.create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        made => Ok(Some(made.with_context(|| format!("making {}", path.display()))?)),
    })
}

/// Writes a file that only its owner may read, from its first moment on.
pub(crate) fn write_secret(path: &Path, secret: &[u8]) -> Result<()> {
    let write =
        || File::options().create(true).write(true).truncate(true).mode(0o600).open(path)?.write_all(secret);
    write().with_context(|| format!("writing {}", path.display()))
}
