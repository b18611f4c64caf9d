//! Where a run keeps its files: `.house/<run>/` in the repository, and a folder the servers' own user can enter.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use nix::unistd::{User, geteuid};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::process::Account;

/// Logs of so many earlier runs are kept.
const RUNS_KEPT: usize = 8;

/// One run's folders. `data` is removed at the end, `logs` stay until eight later runs have come.
#[derive(Debug)]
pub struct Place {
    run: PathBuf,
    data: PathBuf,
    account: Option<Account>,
    _lock: File,
    sweeper: Option<Child>,
}

/// The repository this crate was built in.
pub fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// `.house` in the repository: tools, runs, and `house.json` while a demo is up.
pub fn house_folder() -> PathBuf {
    repository().join(".house")
}

impl Place {
    /// Makes the folders of a new run and removes the data of runs whose process is gone.
    pub fn new() -> Result<Self> {
        let root = house_folder();
        fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
        prune(&root)?;
        let stamp =
            OffsetDateTime::now_utc().format(format_description!("[year][month][day]-[hour][minute][second]"))?;
        let run = root.join(format!("run-{stamp}-{}-{:04x}", std::process::id(), rand::random::<u16>()));
        fs::create_dir_all(run.join("logs"))?;
        fs::set_permissions(run.join("logs"), Permissions::from_mode(0o700))?;
        let lock = File::create(run.join("lock"))?;
        lock.lock()?;
        let account = servers_account()?;
        let data = run.join("data");
        fs::create_dir(&data)?;
        give_to(&data, account.as_ref())?;
        let mut place = Self { run, data, account, _lock: lock, sweeper: None };
        place.move_out_when_unreachable()?;
        Ok(place)
    }

    /// The run's folder.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Where every process of the run writes its log.
    pub fn logs(&self) -> PathBuf {
        self.run.join("logs")
    }

    /// A folder owned by the servers' user; gone when the run ends.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Who the servers run as; `None` when that is ourselves.
    pub fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// Whether the servers' user can read and enter `path`.
    pub fn servers_can_enter(&self, path: &Path) -> bool {
        let Some(account) = &self.account else { return true };
        let mut question = Command::new("setpriv");
        question.arg("--reuid").arg(account.uid.to_string()).arg("--regid").arg(account.gid.to_string());
        question.args(["--clear-groups", "--", "test", "-x"]).arg(path).stderr(Stdio::null());
        question.status().is_ok_and(|status| status.success())
    }

    /// A repository under root's home is closed to every other user: the data then goes to a temporary folder,
    /// and a shell that waits for our end removes it, however we end.
    fn move_out_when_unreachable(&mut self) -> Result<()> {
        if self.servers_can_enter(&self.data) {
            return Ok(());
        }
        fs::remove_dir(&self.data)?;
        self.data = std::env::temp_dir().join(format!("house-{}-{:08x}", std::process::id(), rand::random::<u32>()));
        fs::create_dir(&self.data)?;
        give_to(&self.data, self.account.as_ref())?;
        let mut sweep = Command::new("setsid");
        sweep
            .args(["sh", "-c", r#"cat >/dev/null; for wait in 1 2 3; do sleep 1; rm -rf -- "$1"; done"#, "sweep"])
            .arg(&self.data);
        sweep.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.sweeper = Some(sweep.spawn().context("start the shell that removes the temporary folder")?);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.data);
        if let Some(mut sweeper) = self.sweeper.take() {
            let _ = sweeper.kill();
            let _ = sweeper.wait();
        }
    }
}

fn servers_account() -> Result<Option<Account>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(Account { uid: user.uid, gid: user.gid }));
        }
    }
    anyhow::bail!("running as root, and there is neither a user `postgres` nor `nobody` to run PostgreSQL as")
}

/// Makes `path` private to the servers' user.
pub(crate) fn give_to(path: &Path, account: Option<&Account>) -> Result<()> {
    if let Some(account) = account {
        chown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw()))?;
    }
    let mode = if path.is_dir() { 0o700 } else { 0o600 };
    fs::set_permissions(path, Permissions::from_mode(mode)).with_context(|| format!("close {}", path.display()))
}

fn prune(root: &Path) -> Result<()> {
    let mut ended = Vec::new();
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let is_run = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("run-"));
        // A run made this instant has no lock file yet: leave what cannot be locked.
        if is_run && File::open(path.join("lock")).is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(path.join("data"));
            ended.push(path);
        }
    }
    ended.sort();
    for old in ended.iter().rev().skip(RUNS_KEPT) {
        let _ = fs::remove_dir_all(old);
    }
    Ok(())
}
