//! The text of each form, and where it goes.

pub(crate) mod cloud_init;
pub(crate) mod config_drive;
pub(crate) mod interfaces;
pub(crate) mod netplan;
pub(crate) mod networkd;

use std::fmt;
use std::str::FromStr;

use crate::guest::GuestNetwork;

/// In every file of ours: what has it may be replaced and deleted.
pub(crate) const MARK: &str = "written by trestle inject";

/// How a guest's network is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `/etc/network/interfaces`, interfaces(5): Debian, Alpine, busybox.
    Interfaces,
    /// systemd.network(5).
    Networkd,
    /// netplan(5): Ubuntu, Debian's cloud images.
    Netplan,
    /// A seed of cloud-init's data source NoCloud.
    CloudInit,
}

/// Why a text is not a [`Form`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a form: use interfaces, networkd, netplan or cloud-init")]
pub struct InvalidForm(String);

impl Form {
    const ALL: [Self; 4] = [Self::Interfaces, Self::Networkd, Self::Netplan, Self::CloudInit];

    fn as_str(self) -> &'static str {
        match self {
            Self::Interfaces => "interfaces",
            Self::Networkd => "networkd",
            Self::Netplan => "netplan",
            Self::CloudInit => "cloud-init",
        }
    }
}

impl FromStr for Form {
    type Err = InvalidForm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = Self::ALL.into_iter().find(|form| form.as_str() == text);
        form.ok_or_else(|| InvalidForm(text.to_owned()))
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A file that a guest is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where, from the guest's root or that of its ISO, without a slash in front.
    pub path: String,
    /// What is in it.
    pub text: String,
    /// Its permission bits.
    pub mode: u32,
}

impl File {
    pub(crate) fn new(path: impl Into<String>, text: String) -> Self {
        Self { path: path.into(), text, mode: 0o644 }
    }
}

/// The files of a guest's network in this form. They are pure text: what a guest's root holds
/// already is merged with them when they are written.
pub fn render(network: &GuestNetwork, form: Form) -> Vec<File> {
    match form {
        Form::Interfaces => interfaces::files(network),
        Form::Networkd => networkd::files(network),
        Form::Netplan => netplan::files(network),
        Form::CloudInit => cloud_init::files(network),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::guest::tests::web1;

    /// Files as one text, each behind its path.
    pub(crate) fn shown(files: &[File]) -> String {
        files.iter().map(|file| format!("=== {} {:o}\n{}", file.path, file.mode, file.text)).collect()
    }

    #[test]
    fn every_file_says_that_it_is_ours() {
        for form in Form::ALL {
            for file in render(&web1(), form) {
                assert!(file.text.contains(MARK), "{}", file.path);
            }
        }
    }

    #[test]
    fn forms_are_parsed_from_what_they_print() {
        for form in Form::ALL {
            assert_eq!(form.to_string().parse(), Ok(form));
        }
        assert_eq!(
            "dhcp".parse::<Form>().unwrap_err().to_string(),
            "`dhcp` is not a form: use interfaces, networkd, netplan or cloud-init"
        );
    }
}
