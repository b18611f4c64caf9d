//! `.house/house.json`: how any client outside finds the portal that is up, and what a person is told about it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use house::{Customer, House, house_folder};
use serde_json::json;
use url::Url;

/// The file, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Announcement {
    path: PathBuf,
    // Held so that a second portal does not take the file from the first.
    _lock: File,
}

impl Announcement {
    /// Writes the file, readable by us only.
    ///
    /// *Errors*: another portal is up in this repository, and the file is its.
    pub(crate) fn write(house: &House, customer: &Customer) -> Result<Self> {
        let lock = File::create(house_folder().join("house.lock"))?;
        let path = house_folder().join("house.json");
        lock.try_lock().with_context(|| format!("another portal is up here; {} is its", path.display()))?;
        let stripe = trimmed(house.stripe().base());
        let proxmox_control = house.proxmox().map(|control| trimmed(control.base()))?;
        let facts = json!({
            "portal": trimmed(house.url()),
            "temporal": trimmed(house.temporal_address()),
            "temporal_address": trimmed(house.temporal_address()),
            "temporal_ui": trimmed(house.temporal_ui()),
            "temporal_namespace": house.setting("TEMPORAL_NAMESPACE"),
            "temporal_task_queue": house.task_queue(),
            "mail": trimmed(house.mail().control.base()),
            "smtp": trimmed(house.smtp_url()),
            "stripe": stripe,
            "stripe_secret_key": house.setting("STRIPE_SECRET_KEY"),
            "stripe_webhook_secret": house.stripe_webhook_secret(),
            "proxmox": trimmed(house.proxmox_url()),
            "proxmox_control": proxmox_control,
            "proxmox_token_id": house.setting("PROXMOX_TOKEN_ID"),
            "proxmox_token_secret": house.setting("PROXMOX_TOKEN_SECRET"),
            "proxmox_ca_file": house.setting("PROXMOX_CA_FILE"),
            "dns": house.setting("EZ_DNS_URL"),
            "dns_api_key": house.dns_api_key(),
            "dns_zone": house.zone(),
            "database_url": house.database_url().as_str(),
            "customer_email": customer.email,
            "customer_password": customer.password,
            "customer": {"email": customer.email, "password": customer.password},
            "staff_email": house.staff_email(),
            "staff_password": house.staff_password(),
            "staff": {"email": house.staff_email(), "password": house.staff_password()},
            "logs": house.logs(),
            "pid": std::process::id(),
        });
        // A new file under the name at once: nobody reads half of it, and an old one's mode does not stay.
        let draft = path.with_extension("json.new");
        let _ = fs::remove_file(&draft);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec_pretty(&facts)?)?;
        fs::rename(&draft, &path)?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Prints where everything is and who may log in.
pub(crate) fn print(house: &House, customer: &Customer) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "\n  portal        {}", house.url())?;
    writeln!(out, "    customer    {}  {}", customer.email, customer.password)?;
    writeln!(out, "    staff       {}  {}  ({}staff/)", house.staff_email(), house.staff_password(), house.url())?;
    writeln!(out, "  Temporal UI   {}", house.temporal_ui())?;
    writeln!(out, "  mail          {}", house.mail().control.base())?;
    writeln!(out, "  logs          {}", house.logs().display())?;
    writeln!(out, "  for programs  {}", house_folder().join("house.json").display())?;
    writeln!(out, "\nCtrl-C ends everything.")?;
    Ok(())
}

fn trimmed(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}
