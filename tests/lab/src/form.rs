// SPDX-License-Identifier: GPL-2.0

//! The file system that a guest is to make: scripts/wants.sh knows the forms by name.

/// What the scripts say of it.
#[derive(clap::Args, Clone, Debug)]
pub struct Form {
    /// As the user has named it
    #[arg(long, default_value = "4k")]
    pub form: String,
    #[arg(long, default_value = "ext4")]
    pub fstyp: String,
    #[arg(long, default_value = "-b 4096", allow_hyphen_values = true)]
    pub mkfs_options: String,
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub mount_options: String,
}

impl Form {
    /// The same for a guest's script.
    pub fn env(&self) -> [(String, String); 3] {
        [
            ("WW_FSTYP", &self.fstyp),
            ("WW_MKFS", &self.mkfs_options),
            ("WW_MOUNT", &self.mount_options),
        ]
        .map(|(name, value)| (name.to_string(), value.clone()))
    }
}
