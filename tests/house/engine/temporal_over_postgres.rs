//! Temporal's server as production runs it: over PostgreSQL, with a namespace and attributes that somebody makes.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use url::Url;

use super::postgres::Postgres;
use super::temporal::{NAMESPACE, READY_LIMIT, SEARCH_ATTRIBUTES, TUNING, Temporal, answers, knows_our_attributes};
use crate::place::Place;
use crate::ports::free_port;
use crate::process::Launch;
use crate::server::Server;
use crate::tools::tool;

/// Lets a test skip the time of a workflow that asks for it.
const SKIPPING: &str = "frontend.WorkflowTimeSkippingEnabled=true";
const HOW: &str = "tests/house/install-tools long";
const DATABASES: [(&str, &str); 2] =
    [("temporal", "postgresql/v12/temporal"), ("temporal_visibility", "postgresql/v12/visibility")];
const SET_UP_LIMIT: Duration = Duration::from_mins(1);
const FIRST_START_LIMIT: Duration = Duration::from_mins(2);

/// Makes the databases with their schema, starts the server over them, and makes the namespace and the attributes.
pub(super) async fn start(place: &Place, postgres: &Postgres) -> Result<Temporal> {
    let mut databases = vec![];
    for (name, schema) in DATABASES {
        let url = postgres.databases().create(name).await?;
        set_up(place, &url, schema).await?;
        databases.push(url);
    }
    let port = free_port()?;
    let config = write_config(place, &databases, port)?;
    let launch = Launch::new("temporal-server", tool("temporal-server", HOW)?)
        .args(["--config-file".as_ref(), config.as_os_str()])
        .args(["--allow-no-auth", "start"])
        .in_directory(place.data());
    let server = Server::new(launch, place.logs(), FIRST_START_LIMIT);
    let address: Url = format!("http://127.0.0.1:{port}").parse()?;
    server.start(|| answers(address.clone())).await?;
    let operator = |words: Vec<String>| async {
        let launch = Launch::new("temporal-operator", tool("temporal", HOW)?)
            .args(["operator"])
            .args(words)
            .args(["--address", &format!("127.0.0.1:{port}")]);
        launch.run(&place.logs(), SET_UP_LIMIT).await
    };
    let namespace = ["namespace", "create", "--namespace", NAMESPACE, "--retention", "72h"];
    operator(namespace.map(str::to_owned).into()).await.context("making Temporal's namespace")?;
    let mut attributes = vec!["search-attribute".to_owned(), "create".to_owned()];
    for attribute in SEARCH_ATTRIBUTES {
        let (name, kind) = attribute.split_once('=').context("an attribute has a type")?;
        attributes.extend(["--name", name, "--type", kind].map(str::to_owned));
    }
    attributes.extend(["--namespace", NAMESPACE].map(str::to_owned));
    operator(attributes).await.context("making Temporal's search attributes")?;
    wait_until_known(&address).await?;
    // The server alone has no pages.
    Ok(Temporal { ui: address.clone(), address, databases, server })
}

async fn wait_until_known(address: &Url) -> Result<()> {
    let until = std::time::Instant::now() + READY_LIMIT;
    while !knows_our_attributes(address.clone()).await {
        if std::time::Instant::now() >= until {
            bail!("Temporal does not know its search attributes {READY_LIMIT:?} after they were made");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn set_up(place: &Place, database: &Url, schema: &str) -> Result<()> {
    let address = Address::of(database)?;
    for act in [vec!["setup-schema", "-v", "0.0"], vec!["update-schema", "--schema-name", schema]] {
        let launch = Launch::new("temporal-sql-tool", tool("temporal-sql-tool", HOW)?)
            .args(["--plugin", "postgres12", "--ep", &address.host, "-p", &address.port, "-u", &address.user])
            .args(["--pw", &address.password, "--db", &address.database])
            .args(act);
        launch.run(&place.logs(), SET_UP_LIMIT).await.with_context(|| format!("the schema {schema}"))?;
    }
    Ok(())
}

struct Address {
    host: String,
    port: String,
    user: String,
    password: String,
    database: String,
}

impl Address {
    fn of(url: &Url) -> Result<Self> {
        Ok(Self {
            host: url.host_str().context("a database's host")?.to_owned(),
            port: url.port().unwrap_or(5_432).to_string(),
            user: url.username().to_owned(),
            password: url.password().unwrap_or_default().to_owned(),
            database: url.path().trim_start_matches('/').to_owned(),
        })
    }
}

fn write_config(place: &Place, databases: &[Url], port: u16) -> Result<PathBuf> {
    let mut tuning = String::new();
    for (key, value) in TUNING.iter().chain([&SKIPPING]).filter_map(|line| line.split_once('=')) {
        write!(tuning, "{key}:\n  - value: {value}\n")?;
    }
    let tuning_file = place.data().join("temporal-tuning.yaml");
    fs::write(&tuning_file, tuning)?;
    let mut stores = String::new();
    for (name, url) in ["default", "visibility"].into_iter().zip(databases) {
        let Address { host, port, user, password, database } = Address::of(url)?;
        write!(
            stores,
            "    {name}:\n      sql: {{ pluginName: postgres12, databaseName: {database}, connectAddr: \"{host}:{port}\", \
             connectProtocol: tcp, user: \"{user}\", password: \"{password}\", maxConns: 20, maxIdleConns: 20 }}\n"
        )?;
    }
    let mut services = String::new();
    for service in ["frontend", "matching", "history", "worker"] {
        let grpc = if service == "frontend" { port } else { free_port()? };
        let membership = free_port()?;
        write!(
            services,
            "  {service}:\n    rpc: {{ grpcPort: {grpc}, membershipPort: {membership}, bindOnLocalHost: true }}\n"
        )?;
    }
    let config = format!(
        "log: {{ stdout: true, level: warn }}\n\
         persistence:\n  defaultStore: default\n  visibilityStore: visibility\n  numHistoryShards: 4\n  datastores:\n{stores}\
         global:\n  membership: {{ maxJoinDuration: 30s, broadcastAddress: \"127.0.0.1\" }}\n\
         services:\n{services}\
         clusterMetadata:\n  enableGlobalNamespace: false\n  failoverVersionIncrement: 10\n  masterClusterName: active\n  \
         currentClusterName: active\n  clusterInformation:\n    active: {{ enabled: true, initialFailoverVersion: 1, \
         rpcName: frontend, rpcAddress: \"127.0.0.1:{port}\" }}\n\
         dynamicConfigClient: {{ filepath: \"{}\", pollInterval: 10s }}\n",
        tuning_file.display()
    );
    let file = place.data().join("temporal-server.yaml");
    fs::write(&file, config)?;
    Ok(file)
}
