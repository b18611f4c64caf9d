//! Starts the vendors of one house: Stripe, Proxmox and the mail catcher.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::sync::Mutex;
use url::Url;

use crate::control::{Control, Machines, Mailbox};
use crate::engine::{Engine, listens};
use crate::options::{Cluster, HouseOptions, Post};
use crate::place::repository;
use crate::ports::free_port;
use crate::process::{Launch, Running};
use crate::tools::{own_binary, tool};

const READY_LIMIT: Duration = Duration::from_secs(30);
/// Among a house's logs: what stripe-mock refused, one request on each line. It is there only if it refused one.
pub(crate) const MOCK_REFUSALS: &str = "stripe-mock-refusals.log";
const TOKEN_ID: &str = "ez@pve!portal";
const TEMPLATES: [u32; 2] = [9000, 9001];

/// The vendors of one house, running.
#[derive(Debug)]
pub(crate) struct StandIns {
    pub(crate) stripe: Control,
    pub(crate) stripe_secret_key: String,
    pub(crate) webhook_secret: String,
    pub(crate) machines: Machines,
    pub(crate) proxmox_url: Url,
    pub(crate) proxmox_token_id: &'static str,
    pub(crate) proxmox_token_secret: String,
    pub(crate) proxmox_ca: PathBuf,
    pub(crate) mail: Mailbox,
    pub(crate) smtp_url: Url,
    processes: Vec<Running>,
    mail_server: MailServer,
}

/// The mail catcher's process, which can be away for a while.
#[derive(Debug)]
struct MailServer {
    launch: Launch,
    ports: [u16; 2],
    logs: PathBuf,
    running: Mutex<Option<Running>>,
}

impl MailServer {
    async fn start(&self) -> Result<()> {
        let mut running = self.running.lock().await;
        if running.is_some() {
            bail!("the mail server is running already");
        }
        let mut started = self.launch.clone().start(&self.logs)?;
        for port in self.ports {
            started.wait_until(READY_LIMIT, || listens(port)).await?;
        }
        *running = Some(started);
        Ok(())
    }
}

impl StandIns {
    pub(crate) async fn start(engine: &Engine, options: &HouseOptions, home: &Path, portal: &Url) -> Result<Self> {
        let logs = home.join("logs");
        let stripe = StripeLaunch::new(engine, options, portal, &logs.join(MOCK_REFUSALS))?;
        let mail = MailLaunch::new(options.post, home)?;
        let proxmox_token_secret = uuid::Uuid::new_v4().to_string();
        let proxmox_ca = home.join("proxmox-ca.pem");
        let proxmox_port = free_port()?;
        let proxmox_url: Url = format!("https://127.0.0.1:{proxmox_port}").parse()?;
        let control_port = free_port()?;
        let cluster = match options.cluster {
            Cluster::StandIn => {
                stand_in_cluster(options, proxmox_port, control_port, &proxmox_token_secret, &proxmox_ca)?
            }
            Cluster::Fakepve => {
                fakepve(options, home, (proxmox_port, control_port), &proxmox_token_secret, &proxmox_ca)?
            }
        };
        let mut processes = vec![stripe.launch.start(&logs)?, cluster.start(&logs)?];
        let mail_server =
            MailServer { launch: mail.launch, ports: mail.ports, logs: logs.clone(), running: Mutex::default() };
        for (process, ports) in processes.iter_mut().zip([vec![stripe.port], vec![proxmox_port, control_port]]) {
            for port in ports {
                process.wait_until(READY_LIMIT, || listens(port)).await?;
            }
        }
        mail_server.start().await?;
        let machines = match options.cluster {
            Cluster::StandIn => Machines::StandIn(Control::new(format!("http://127.0.0.1:{control_port}").parse()?)),
            Cluster::Fakepve => {
                let certificate =
                    reqwest::Certificate::from_pem(&fs::read(&proxmox_ca).context("read fakepve's certificate")?)?;
                Machines::Fakepve {
                    acts: Control::new(format!("http://127.0.0.1:{control_port}").parse()?),
                    url: proxmox_url.clone(),
                    authorization: format!("PVEAPIToken={TOKEN_ID}={proxmox_token_secret}"),
                    http: reqwest::Client::builder().tls_certs_only([certificate]).build()?,
                }
            }
        };
        let letters = match options.post {
            Post::StandIn => Control::new(mail.url),
            Post::Maildev => Control::unpooled(mail.url)?,
        };
        Ok(Self {
            stripe: Control::new(stripe.url),
            stripe_secret_key: stripe.secret_key,
            webhook_secret: stripe.webhook_secret,
            machines,
            proxmox_url,
            proxmox_token_id: TOKEN_ID,
            proxmox_token_secret,
            proxmox_ca,
            mail: Mailbox { control: letters, post: options.post },
            smtp_url: mail.smtp_url,
            processes,
            mail_server,
        })
    }

    /// Kills the mail server as a power cut would; what it accepted is on disk.
    pub(crate) async fn kill_mail(&self) -> Result<()> {
        match self.mail_server.running.lock().await.take() {
            Some(running) => running.kill().await,
            None => Ok(()),
        }
    }

    /// Starts the mail server again where it was.
    pub(crate) async fn start_mail(&self) -> Result<()> {
        self.mail_server.start().await
    }

    pub(crate) async fn stop(&mut self) -> Result<()> {
        if let Some(mail) = self.mail_server.running.lock().await.take() {
            mail.stop(Signal::SIGTERM).await?;
        }
        for process in std::mem::take(&mut self.processes) {
            process.stop(Signal::SIGTERM).await?;
        }
        Ok(())
    }
}

struct StripeLaunch {
    launch: Launch,
    port: u16,
    url: Url,
    secret_key: String,
    webhook_secret: String,
}

impl StripeLaunch {
    fn new(engine: &Engine, options: &HouseOptions, portal: &Url, refusals: &Path) -> Result<Self> {
        let port = free_port()?;
        let url: Url = format!("http://127.0.0.1:{port}").parse()?;
        let secret_key = format!("sk_test_{:032x}", rand::random::<u128>());
        let webhook_secret = format!("whsec_{:032x}", rand::random::<u128>());
        let public_url = url.as_str().trim_end_matches('/');
        let mut launch = Launch::new("stripe", own_binary("standins")?)
            .args([
                "stripe",
                "--listen",
                &format!("127.0.0.1:{port}"),
                "--secret-key",
                &secret_key,
                "--public-url",
                public_url,
            ])
            .args(["--webhook-url", portal.join("/webhooks/stripe/")?.as_str(), "--webhook-secret", &webhook_secret]);
        if let Some(month_secs) = options.month_secs {
            launch = launch.args(["--month-secs", &month_secs.to_string()]);
        }
        if let Some(mock) = engine.stripe_mock() {
            launch = launch.args(["--mock-url", mock.as_str().trim_end_matches('/')]);
            launch = launch.args(["--mock-refusals".as_ref(), refusals.as_os_str()]);
        }
        Ok(Self { launch, port, url, secret_key, webhook_secret })
    }
}

struct MailLaunch {
    launch: Launch,
    ports: [u16; 2],
    url: Url,
    smtp_url: Url,
}

impl MailLaunch {
    fn new(post: Post, home: &Path) -> Result<Self> {
        let ports @ [smtp, pages] = [free_port()?, free_port()?];
        let password = format!("{:032x}", rand::random::<u128>());
        let spool = home.join("spool");
        let launch = match post {
            Post::StandIn => stand_in_post(ports, &spool)?,
            Post::Maildev => maildev(ports, &password, &spool)?,
        };
        let (url, smtp_url) =
            (format!("http://127.0.0.1:{pages}").parse()?, format!("smtp://ez:{password}@127.0.0.1:{smtp}").parse()?);
        Ok(Self { launch, ports, url, smtp_url })
    }
}

fn stand_in_post([smtp, pages]: [u16; 2], spool: &Path) -> Result<Launch> {
    Ok(Launch::new("mail", own_binary("standins")?)
        .args(["mail", "--listen", &format!("127.0.0.1:{smtp}"), "--http-listen", &format!("127.0.0.1:{pages}")])
        .args(["--spool".as_ref(), spool.as_os_str()]))
}

/// Unlike the stand-in, it takes nothing from whoever does not log in.
fn maildev([smtp, pages]: [u16; 2], password: &str, spool: &Path) -> Result<Launch> {
    Ok(Launch::new("maildev", tool("maildev-node", "tests/house/install-tools test")?)
        .args(["--ip", "127.0.0.1", "--smtp", &smtp.to_string(), "--web", &pages.to_string()])
        .args(["--incoming-user", "ez", "--incoming-pass", password])
        .args(["--mail-directory".as_ref(), spool.as_os_str()]))
}

fn stand_in_cluster(options: &HouseOptions, port: u16, control_port: u16, secret: &str, ca: &Path) -> Result<Launch> {
    Ok(Launch::new("proxmox", own_binary("standins")?)
        .args([
            "proxmox",
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--control-listen",
            &format!("127.0.0.1:{control_port}"),
        ])
        .args(["--token-id", TOKEN_ID, "--token-secret", secret, "--nodes", "pve1,pve2"])
        .args(["--templates", &TEMPLATES.map(|vmid| vmid.to_string()).join(",")])
        .args(["--time-scale", &options.time_scale.to_string()])
        .args(["--ca-file".as_ref(), ca.as_os_str()]))
}

fn fakepve(
    options: &HouseOptions,
    home: &Path,
    (port, control_port): (u16, u16),
    secret: &str,
    certificate: &Path,
) -> Result<Launch> {
    let template = |vmid: u32| {
        let config = json!({
            "scsi0": format!("local-lvm:base-{vmid}-disk-0,size=8G"), "boot": "order=scsi0", "scsihw": "virtio-scsi-pci",
            "ide2": format!("local-lvm:vm-{vmid}-cloudinit,media=cdrom"), "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0", "agent": "1",
        });
        json!({"vmid": vmid, "name": format!("template-{vmid}"), "node": "pve1", "template": true, "config": config})
    };
    let guests = home.join("fakepve-guests.json");
    fs::write(&guests, json!({"guests": TEMPLATES.map(template)}).to_string())?;
    let secret_file = home.join("fakepve-secret");
    fs::write(&secret_file, secret)?;
    fs::set_permissions(&secret_file, fs::Permissions::from_mode(0o600))?;
    // The program's own interpreter is beside it in its environment; a plain folder of packages is used with any.
    let interpreter = tool("fakepve-python", "tests/house/install-tools test")?;
    Ok(Launch::new("fakepve", interpreter)
        .args([repository().join("tests/house/fakepve_with_token.py").as_os_str()])
        .args([guests.as_os_str(), secret_file.as_os_str(), certificate.as_os_str()])
        .args([TOKEN_ID, &port.to_string(), &options.time_scale.to_string(), &control_port.to_string()]))
}
