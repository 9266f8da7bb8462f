//! Which form a guest reads, and what must change in its files for it.

use crate::error::InjectError;
use crate::files::{Change, Entry, Files, Kind, entry};
use crate::guest::GuestNetwork;
use crate::render::{File, Form, MARK, cloud_init, interfaces, netplan, networkd, render};
use crate::stanzas;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The form that was written.
    pub form: Form,
    /// The files that were written, from the guest's root; none if everything was right.
    pub written: Vec<String>,
    /// The files of ours that were removed, since the form has them no more.
    pub removed: Vec<String>,
}

impl Outcome {
    /// Whether everything was right already.
    pub fn is_unchanged(&self) -> bool {
        self.written.is_empty() && self.removed.is_empty()
    }
}

/// What shows that a guest reads a form, the one that governs first.
///
/// netplan writes the configuration of networkd, and where networkd is enabled a file of ifupdown
/// is a relic. A guest of cloud-init alone translates what it is given for a program that Trestle
/// does not know, such as NetworkManager.
const SIGNS: [(&str, Form); 4] = [
    ("etc/netplan", Form::Netplan),
    ("etc/systemd/system/multi-user.target.wants/systemd-networkd.service", Form::Networkd),
    (interfaces::MAIN, Form::Interfaces),
    (CLOUD_INIT, Form::CloudInit),
];
const CLOUD_INIT: &str = "etc/cloud/cloud.cfg";

/// Writes a guest's network among its files.
pub(crate) fn inject(
    files: &mut dyn Files,
    network: &GuestNetwork,
    form: Option<Form>,
) -> Result<Outcome, InjectError> {
    let form = match form {
        Some(form) => form,
        None => detect(files)?,
    };
    let wanted = wanted(files, network, form)?;
    let mut changes = stale(files, &wanted)?;
    let removed = changes.iter().map(path).collect();
    let mut written = Vec::new();
    for file in wanted {
        if let Some(change) = needed(files, file)? {
            written.push(path(&change));
            changes.push(change);
        }
    }
    files.apply(&changes)?;
    Ok(Outcome { form, written, removed })
}

fn detect(files: &mut dyn Files) -> Result<Form, InjectError> {
    for (sign, form) in SIGNS {
        if entry(files, sign)?.is_some() {
            return Ok(form);
        }
    }
    let looked_for = SIGNS.iter().map(|(sign, _)| format!("/{sign}")).collect();
    Err(InjectError::NoPlace { looked_for })
}

/// Whether some file system is a guest's root at all.
pub(crate) fn is_root(files: &mut dyn Files) -> Result<bool, InjectError> {
    Ok(entry(files, "etc")?.is_some_and(|etc| etc.kind == Kind::Folder))
}

/// The files as they are to be, what others wrote among them.
fn wanted(files: &mut dyn Files, network: &GuestNetwork, form: Form) -> Result<Vec<File>, InjectError> {
    let mut wanted = render(network, form);
    match form {
        Form::Interfaces => {
            if resolver_is_kept(files)? {
                wanted.retain(|file| file.path != interfaces::RESOLVER);
            }
            wanted.extend(foreign_interfaces(files, network)?);
        }
        // A seed that somebody else made has the user's data.
        Form::CloudInit => {
            let mut kept = Vec::new();
            for file in wanted {
                let is_users = !file.path.ends_with("/network-config") && is_foreign(files, &file.path)?;
                if !is_users {
                    kept.push(file);
                }
            }
            wanted = kept;
        }
        Form::Networkd | Form::Netplan => {}
    }
    if form != Form::Interfaces {
        wanted.extend(interfaces_without_ours(files)?);
    }
    if form != Form::CloudInit && entry(files, CLOUD_INIT)?.is_some() {
        wanted.push(cloud_init::disabling());
    }
    Ok(wanted)
}

/// Whether a program writes the resolver's file: one that ifup tells the servers, or one that has
/// put a link in its place.
fn resolver_is_kept(files: &mut dyn Files) -> Result<bool, InjectError> {
    let is_link = entry(files, interfaces::RESOLVER)?.is_some_and(|entry| entry.kind == Kind::Link);
    for folder in ["sbin", "usr/sbin", "usr/bin"] {
        if entry(files, &format!("{folder}/resolvconf"))?.is_some() {
            return Ok(true);
        }
    }
    Ok(is_link)
}

/// The files of ifupdown that others wrote, without what they say of our interfaces; the first of
/// them sources ours.
fn foreign_interfaces(files: &mut dyn Files, network: &GuestNetwork) -> Result<Vec<File>, InjectError> {
    let names: Vec<String> = network.links().into_iter().map(|link| link.name).collect();
    let mut foreign = Vec::new();
    for part in files.list(interfaces::PARTS)? {
        let path = format!("{}/{}", interfaces::PARTS, part.name);
        if part.kind == Kind::File && path != interfaces::PART {
            let text = stanzas::without(&text_of(files, &path)?, &names);
            foreign.push(File { path, text, mode: part.mode });
        }
    }
    let mut main = match entry(files, interfaces::MAIN)? {
        None => File::new(interfaces::MAIN, "auto lo\niface lo inet loopback\n".to_owned()),
        Some(entry) => {
            let text = stanzas::without(&text_of(files, interfaces::MAIN)?, &names);
            File { mode: entry.mode, ..File::new(interfaces::MAIN, text) }
        }
    };
    if !stanzas::sources_ours(&main.text) {
        if !main.text.is_empty() && !main.text.ends_with('\n') {
            main.text.push('\n');
        }
        main.text += interfaces::SOURCE;
    }
    foreign.push(main);
    Ok(foreign)
}

/// ifupdown's file where it sources ours, which is to go: busybox fails on a source that is missing.
fn interfaces_without_ours(files: &mut dyn Files) -> Result<Option<File>, InjectError> {
    let Some(Entry { kind: Kind::File, mode, .. }) = entry(files, interfaces::MAIN)? else {
        return Ok(None);
    };
    let text = text_of(files, interfaces::MAIN)?;
    if !text.contains(interfaces::SOURCE) {
        return Ok(None);
    }
    Ok(Some(File { mode, ..File::new(interfaces::MAIN, text.replace(interfaces::SOURCE, "")) }))
}

/// The removal of files of ours that another form or another interface needed.
fn stale(files: &mut dyn Files, wanted: &[File]) -> Result<Vec<Change>, InjectError> {
    let mut candidates = vec![netplan::PATH.to_owned(), interfaces::PART.to_owned()];
    candidates.push(cloud_init::DISABLING.to_owned());
    for name in ["meta-data", "user-data", "network-config"] {
        candidates.push(format!("{}/{name}", cloud_init::SEED));
    }
    for Entry { name, .. } in files.list(networkd::FOLDER)? {
        if name.starts_with(networkd::PREFIX) {
            candidates.push(format!("{}/{name}", networkd::FOLDER));
        }
    }
    let mut changes = Vec::new();
    for path in candidates {
        let is_wanted = wanted.iter().any(|file| file.path == path);
        if !is_wanted && entry(files, &path)?.is_some() && !is_foreign(files, &path)? {
            changes.push(Change::Remove { path });
        }
    }
    Ok(changes)
}

/// Whether somebody else has put something there.
fn is_foreign(files: &mut dyn Files, path: &str) -> Result<bool, InjectError> {
    match entry(files, path)? {
        None => Ok(false),
        Some(Entry { kind: Kind::File, .. }) => Ok(!text_of(files, path)?.contains(MARK)),
        Some(_) => Ok(true),
    }
}

/// The change that makes a file what it is to be, unless it is that already.
fn needed(files: &mut dyn Files, file: File) -> Result<Option<Change>, InjectError> {
    let text = file.text.into_bytes();
    if let Some(Entry { kind: Kind::File, mode, .. }) = entry(files, &file.path)?
        && mode == file.mode
        && files.read(&file.path)? == text
    {
        return Ok(None);
    }
    Ok(Some(Change::Write { path: file.path, text, mode: file.mode }))
}

fn text_of(files: &mut dyn Files, path: &str) -> Result<String, InjectError> {
    // What is not text cannot be kept to the letter, so it is not touched.
    String::from_utf8(files.read(path)?).map_err(|_| InjectError::NotPlain(path.to_owned()))
}

fn path(change: &Change) -> String {
    match change {
        Change::Write { path, .. } | Change::Remove { path } => path.clone(),
    }
}
