//! Child processes that cannot outlive the house.
//!
//! Every child starts through `setpriv --pdeathsig`, in its own process group, from one thread that lives as long as the process:
//! the kernel signals a child when the *thread* that started it ends, so a test's own thread would take its children along.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Gid, Pid, Uid};

const WAIT_STEP: Duration = Duration::from_millis(10);
const STOP_PATIENCE: Duration = Duration::from_secs(15);
const LOG_TAIL_LINES: usize = 15;
/// What a child keeps of our environment: enough to find programs, never a setting that would change what it does.
const KEPT_ENVIRONMENT: [&str; 5] = ["PATH", "HOME", "LANG", "RUST_LOG", "RUST_BACKTRACE"];

type Birth = (Command, mpsc::Sender<io::Result<Child>>);
static NURSERY: OnceLock<Mutex<mpsc::Sender<Birth>>> = OnceLock::new();

/// A user a server runs as when the house itself runs as root.
#[derive(Clone, Debug)]
pub struct Account {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
}

/// A program about to start.
#[derive(Clone, Debug)]
pub struct Launch {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    account: Option<Account>,
    directory: Option<PathBuf>,
    farewell: Signal,
    input: Option<String>,
}

impl Launch {
    /// Starts describing `program`; `name` is what its log and its errors are called.
    pub fn new(name: &str, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            account: None,
            directory: None,
            farewell: Signal::SIGKILL,
            input: None,
        }
    }

    /// What its log and its errors are called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Adds environment variables.
    #[must_use]
    pub fn envs<'a>(mut self, env: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        self.env.extend(env.into_iter().map(|(name, value)| (name.clone(), value.clone())));
        self
    }

    /// Runs as `account` instead of ourselves.
    #[must_use]
    pub fn as_account(mut self, account: Option<&Account>) -> Self {
        self.account = account.cloned();
        self
    }

    /// Runs in `directory`.
    #[must_use]
    pub fn in_directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// The signal the kernel sends when the house dies, and the first one sent at a drop; `SIGKILL` unless said.
    #[must_use]
    pub fn farewell(mut self, signal: Signal) -> Self {
        self.farewell = signal;
        self
    }

    /// What the program reads from its standard input.
    #[must_use]
    pub fn input(mut self, text: &str) -> Self {
        self.input = Some(text.to_owned());
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig").arg(self.farewell.as_str().trim_start_matches("SIG"));
        if let Some(account) = &self.account {
            command.arg("--reuid").arg(account.uid.to_string());
            command.arg("--regid").arg(account.gid.to_string()).arg("--clear-groups");
        }
        command.arg("--").arg(&self.program).args(&self.args);
        command.env_clear();
        for name in KEPT_ENVIRONMENT {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.env.iter().cloned()).process_group(0);
        command.stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() });
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }

    /// Starts the program; its output goes to `<logs>/<name>.log`, after what is there already.
    pub fn start(self, logs: &Path) -> Result<Running> {
        let log_path = logs.join(format!("{}.log", self.name));
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("open {}", log_path.display()))?;
        let mut command = self.command();
        command.stdout(log.try_clone()?).stderr(log);
        let mut child = bear(command)
            .with_context(|| format!("start {} ({} through setpriv)", self.name, self.program.display()))?;
        if let (Some(input), Some(mut stdin)) = (&self.input, child.stdin.take()) {
            stdin.write_all(input.as_bytes())?;
        }
        let group = Pid::from_raw(i32::try_from(child.id())?);
        Ok(Running { name: self.name, log_path, group, farewell: self.farewell, child, gone: false })
    }

    /// Runs the program to its end, at most `limit`, and gives what it printed on standard output and standard error together.
    ///
    /// *Errors*: it could not start, did not end in time, or ended with another code than 0 (its whole output is in the error).
    pub async fn run(self, logs: &Path, limit: Duration) -> Result<String> {
        let name = self.name.clone();
        let log_path = logs.join(format!("{name}.log"));
        let before = fs::metadata(&log_path).map_or(0, |meta| meta.len());
        let mut running = self.start(logs)?;
        let Some(status) = running.wait(limit).await? else {
            bail!("{name} did not end within {} s\n{}", limit.as_secs(), running.log_tail());
        };
        let output = fs::read(&log_path)?;
        let own = String::from_utf8_lossy(output.get(usize::try_from(before)?..).unwrap_or_default()).into_owned();
        if !status.success() {
            bail!("{name} ended with {status}\n{own}");
        }
        Ok(own)
    }
}

/// A child that runs, or ran; dropping it ends it.
#[derive(Debug)]
pub struct Running {
    name: String,
    log_path: PathBuf,
    group: Pid,
    farewell: Signal,
    child: Child,
    gone: bool,
}

impl Running {
    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        self.gone |= status.is_some();
        Ok(status)
    }

    /// Its process id, which is its process group's too.
    pub fn pid(&self) -> i32 {
        self.group.as_raw()
    }

    /// The end of its log, to put beside an error.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log_path)
    }

    /// Waits for its end, at most `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            tokio::time::sleep(WAIT_STEP).await;
        }
    }

    /// Waits until `ready` says yes, at most `limit`.
    ///
    /// *Errors*: the program ended first, or `limit` passed; the end of its log is in the error.
    pub async fn wait_until<F, Fut>(&mut self, limit: Duration, mut ready: F) -> Result<()>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = bool>,
    {
        let until = Instant::now() + limit;
        while !ready().await {
            if let Some(status) = self.ended()? {
                bail!(
                    "{} ended ({status}) before it was ready; see {}\n{}",
                    self.name,
                    self.log_path.display(),
                    self.log_tail()
                );
            }
            if Instant::now() >= until {
                bail!(
                    "{} was not ready within {} s; see {}\n{}",
                    self.name,
                    limit.as_secs(),
                    self.log_path.display(),
                    self.log_tail()
                );
            }
            tokio::time::sleep(WAIT_STEP).await;
        }
        Ok(())
    }

    /// Sends `signal` to it and to every process it started; one that is gone already is no error.
    pub fn signal(&self, signal: Signal) {
        if !self.gone {
            let _ = killpg(self.group, signal);
        }
    }

    /// Asks it to end with `signal` and kills it when it has not within 15 s.
    pub async fn stop(mut self, signal: Signal) -> Result<()> {
        self.signal(signal);
        if self.wait(STOP_PATIENCE).await?.is_none() {
            self.signal(Signal::SIGKILL);
            self.wait(STOP_PATIENCE).await?;
        }
        Ok(())
    }

    /// Kills it as a power cut would.
    pub async fn kill(mut self) -> Result<()> {
        self.signal(Signal::SIGKILL);
        self.wait(STOP_PATIENCE).await?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_secs(3);
        self.signal(self.farewell);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= until {
                self.signal(Signal::SIGKILL);
            }
            thread::sleep(WAIT_STEP);
        }
        self.gone = true;
    }
}

/// The last lines of a log, or nothing when it cannot be read.
pub(crate) fn log_tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

/// Starts `command` from the one thread that lives as long as the process.
fn bear(command: Command) -> io::Result<Child> {
    let nursery = NURSERY.get_or_init(|| {
        let (sender, births) = mpsc::channel::<Birth>();
        thread::spawn(move || {
            for (mut command, answer) in births {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (answer, child) = mpsc::channel();
    let lost = || io::Error::other("the thread that starts processes is gone");
    nursery.lock().map_err(|_| lost())?.send((command, answer)).map_err(|_| lost())?;
    child.recv().map_err(|_| lost())?
}
