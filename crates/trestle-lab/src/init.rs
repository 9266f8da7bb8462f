//! PID 1 of a universe: `trestle lab init FOLDER`, started by [`crate::Lab`] alone.
//!
//! It gives the universe a `/proc`, a `/run` and a resolver of its own, and then only is there:
//! everything else is started from outside, and dies with it.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::topology::INTERNET;

/// Runs as PID 1 until the universe ends.
///
/// # Errors
/// Where it is not PID 1, and where the universe cannot be furnished.
pub fn run(folder: &Path) -> Result<()> {
    ensure!(nix::unistd::getpid().as_raw() == 1, "`trestle lab init` is started by the lab alone");
    // Still the /proc from outside: the id it shows us under is the one others know us by.
    let outer = std::fs::read_link("/proc/self").context("reading /proc/self")?;
    let resolver = std::fs::canonicalize("/etc/resolv.conf").ok();
    cover_run(folder)?;
    mount_new("proc", Path::new("/proc"))?;
    point_resolver(folder, resolver)?;
    // SAFETY: no handler is installed. Ignoring SIGCHLD makes the kernel reap orphans for us
    // (wait(2), NOTES).
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.context("ignoring SIGCHLD")?;
    println!("ready {}", outer.display());
    std::io::stdout().flush().context("telling the lab that PID 1 is ready")?;
    loop {
        nix::unistd::pause();
    }
}

/// Puts an empty `/run` over the machine's, so that names of network namespaces, lock files and
/// sockets stay inside, and lays the lab's folder back in.
fn cover_run(folder: &Path) -> Result<()> {
    let held = File::open(folder).with_context(|| format!("opening {}", folder.display()))?;
    mount_new("tmpfs", Path::new("/run"))?;
    if folder.starts_with("/run") {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        bind(&PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd())), folder)?;
    }
    Ok(())
}

/// Names that are not the lab's are asked of the lab's own internet, not of the machine's servers.
fn point_resolver(folder: &Path, resolver: Option<PathBuf>) -> Result<()> {
    let Some(resolver) = resolver else { return Ok(()) };
    let ours = folder.join("resolv.conf");
    let text = format!("nameserver {INTERNET}\n");
    std::fs::write(&ours, &text).with_context(|| format!("writing {}", ours.display()))?;
    if resolver.starts_with("/run") {
        let parent = resolver.parent().unwrap_or(Path::new("/run"));
        std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        return std::fs::write(&resolver, text).with_context(|| format!("writing {}", resolver.display()));
    }
    bind(&ours, &resolver)
}

fn mount_new(kind: &str, target: &Path) -> Result<()> {
    let options = (kind == "tmpfs").then_some("mode=755");
    if let Err(error) = mount(Some(kind), target, Some(kind), MsFlags::empty(), options) {
        bail!("mounting {kind} on {}: {error}", target.display());
    }
    Ok(())
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("binding {} on {}", source.display(), target.display()))
}
