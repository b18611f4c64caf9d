//! Finds the programs that `install-tools` found or installed, and our own binaries.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::place::house_folder;

/// Where `name` is: on PATH, in `.house/tools`, or where the distribution keeps servers.
///
/// *Errors*: it is nowhere; the error says which command installs it.
pub fn tool(name: &str, how_to_get: &str) -> Result<PathBuf> {
    let tools = house_folder().join("tools");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend([tools.clone(), tools.join("fakepve/bin"), "/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|file| file.is_file());
    found.with_context(|| format!("{name} is not installed; get it with: {how_to_get}"))
}

/// One of this workspace's binaries, beside the running one.
///
/// *Errors*: it was not built; the error says how.
pub fn own_binary(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let found = here.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.with_context(|| format!("{name} is not built; build it with: cargo build --workspace --bins"))
}
