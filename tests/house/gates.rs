//! Gates before the real servers of one house, so that they have faults too: PowerDNS, and fakepve where machines are its.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use url::Url;

use crate::control::Control;
use crate::engine::{Engine, listens};
use crate::options::{Cluster, HouseOptions};
use crate::ports::free_port;
use crate::process::{Launch, Running};
use crate::stand_ins::StandIns;
use crate::tools::own_binary;

const READY_LIMIT: Duration = Duration::from_secs(30);

/// The gates of one house, open.
#[derive(Debug)]
pub(crate) struct Gates {
    pub(crate) names: Control,
    pub(crate) machines: Option<Control>,
    settings: Vec<(String, String)>,
    processes: Vec<Running>,
}

impl Gates {
    pub(crate) async fn start(
        engine: &Engine,
        stand_ins: &StandIns,
        options: &HouseOptions,
        home: &Path,
    ) -> Result<Self> {
        let names = Gate::new("gate-names", &engine.powerdns.url)?;
        let mut settings = vec![("EZ_DNS_URL".to_owned(), format!("http://127.0.0.1:{}", names.port))];
        let mut processes = vec![names.start(home, None).await?];
        let mut machines = None;
        if options.cluster == Cluster::Fakepve {
            let gate = Gate::new("gate-machines", &stand_ins.proxmox_url)?;
            let authority = home.join("gate-ca.pem");
            processes.push(gate.start(home, Some((&stand_ins.proxmox_ca, &authority))).await?);
            settings.push(("PROXMOX_URL".to_owned(), format!("https://127.0.0.1:{}", gate.port)));
            let authority = authority.to_str().context("the repository's path is not UTF-8")?;
            settings.push(("PROXMOX_CA_FILE".to_owned(), authority.to_owned()));
            machines = Some(gate.control);
        }
        Ok(Self { names: names.control, machines, settings, processes })
    }

    /// What the portal is told instead of the servers' own addresses.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        self.settings.clone()
    }

    pub(crate) async fn stop(self) -> Result<()> {
        for process in self.processes {
            process.stop(Signal::SIGTERM).await?;
        }
        Ok(())
    }
}

struct Gate {
    name: &'static str,
    target: Url,
    port: u16,
    control_port: u16,
    control: Control,
}

impl Gate {
    fn new(name: &'static str, target: &Url) -> Result<Self> {
        let (port, control_port) = (free_port()?, free_port()?);
        let control = Control::new(format!("http://127.0.0.1:{control_port}").parse()?);
        Ok(Self { name, target: target.clone(), port, control_port, control })
    }

    /// With the certificate of the server behind it and the place of its own authority, both ways are HTTPS.
    async fn start(&self, home: &Path, https: Option<(&PathBuf, &PathBuf)>) -> Result<Running> {
        let mut launch = Launch::new(self.name, own_binary("standins")?)
            .args(["gate", "--listen", &format!("127.0.0.1:{}", self.port)])
            .args(["--control-listen", &format!("127.0.0.1:{}", self.control_port)])
            .args(["--target", self.target.as_str().trim_end_matches('/')]);
        if let Some((trust, authority)) = https {
            launch = launch.args(["--trust".as_ref(), trust.as_os_str(), "--ca-file".as_ref(), authority.as_os_str()]);
        }
        let mut running = launch.start(&home.join("logs"))?;
        for port in [self.port, self.control_port] {
            running.wait_until(READY_LIMIT, || listens(port)).await?;
        }
        Ok(running)
    }
}
