//! Tasks: work that takes time, and what is told of it.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::Stage;
use super::ask::{Answer, Ask, Refusal};
use super::cluster::Cluster;
use super::upid::Upid;

/// Tasks that need the lock file only once they run, and fail at once on a locked VM.
const QUICK: [&str; 5] = ["qmstart", "qmstop", "qmshutdown", "qmreboot", "qmdestroy"];

/// How a task is told apart: where it runs, its type, the VM it waits for and the id in its name.
pub(super) struct TaskKind<'a> {
    pub(super) node: &'a str,
    pub(super) kind: &'static str,
    /// The VM it changes: two tasks on one VM run one after the other; nothing waits for a clone.
    pub(super) vmid: u32,
    /// The VM its name carries; a clone's is the template.
    pub(super) named: u32,
}

/// One task, running or done.
pub(super) struct Task {
    pub(super) upid: Upid,
    /// What the task said it did, line by line.
    pub(super) lines: Vec<String>,
    /// When it ended and how: `OK`, `WARNINGS: n` or what went wrong.
    pub(super) ended: Option<(u64, String)>,
}

impl Task {
    /// The task as the task list shows it.
    pub(super) fn summary(&self) -> Value {
        let mut shown = self.head();
        if let Some((at, how)) = &self.ended {
            shown["endtime"] = json!(at);
            shown["status"] = json!(how);
        }
        shown
    }

    fn head(&self) -> Value {
        let upid = &self.upid;
        let (user, token) = upid.user.split_once('!').unwrap_or((&upid.user, ""));
        json!({
            "upid": upid.to_string(), "node": upid.node, "pid": upid.pid, "pstart": upid.pstart,
            "starttime": upid.start_unix_secs, "type": upid.kind, "id": upid.id, "user": user, "tokenid": token,
        })
    }
}

/// Begins a task that does `work` after `lasts`; gives its name.
///
/// `work` sees the cluster locked and gives the task's last word on failure. The faults `task_fails`, `task_warns` and
/// `locked` strike here.
pub(super) fn begin(
    stage: &Stage,
    cluster: &mut Cluster,
    kind: &TaskKind<'_>,
    lasts: Duration,
    work: impl FnOnce(&mut Cluster) -> Result<(), String> + Send + 'static,
) -> Value {
    let began = cluster.tasks.len() as u64;
    let upid = Upid {
        node: kind.node.to_owned(),
        pid: 0x1000 + began,
        pstart: 0x00A0_0000 + began * 7,
        start_unix_secs: now_unix_secs(),
        kind: kind.kind.to_owned(),
        id: kind.named.to_string(),
        user: stage.settings.token_id.clone(),
    };
    let name = json!(upid.to_string());
    cluster.tasks.push(Task { upid: upid.clone(), lines: Vec::new(), ended: None });
    let (stage, vmid, kind) = (stage.clone(), kind.vmid, kind.kind);
    tokio::spawn(async move {
        let turn = stage.turn(vmid);
        let _turn = if kind == "qmclone" { None } else { Some(turn.lock_owned().await) };
        let locked = if QUICK.contains(&kind) { locked(&stage.cluster(), vmid) } else { None };
        tokio::time::sleep(lasts).await;
        let mut cluster = stage.cluster();
        let fault = locked.or_else(|| task_fault(&stage, kind, vmid));
        let outcome = fault.map_or_else(|| work(&mut cluster), Err);
        let warned = outcome.is_ok() && stage.faults.take("task_warns", Some(&vmid.to_string())).is_some();
        end(&mut cluster, &upid, outcome, warned);
    });
    name
}

fn locked(cluster: &Cluster, vmid: u32) -> Option<String> {
    cluster.vms.get(&vmid)?.locked().err()
}

fn task_fault(stage: &Stage, kind: &str, vmid: u32) -> Option<String> {
    if let Some(message) = QUICK.contains(&kind).then(|| stage.lock_fault(vmid)).flatten() {
        return Some(message);
    }
    let subjects = [vmid.to_string(), kind.to_owned(), format!("{kind}:{vmid}")];
    let struck = subjects.iter().find_map(|subject| stage.faults.take("task_fails", Some(subject)))?;
    Some(struck.reason.unwrap_or_else(|| "command failed: exit code 1".to_owned()))
}

fn end(cluster: &mut Cluster, upid: &Upid, outcome: Result<(), String>, warned: bool) {
    let Some(task) = cluster.tasks.iter_mut().rev().find(|task| task.upid == *upid) else {
        return;
    };
    let how = match outcome {
        Ok(()) if warned => {
            task.lines.push("WARN: something deserves a look".to_owned());
            "WARNINGS: 1".to_owned()
        }
        Ok(()) => "OK".to_owned(),
        Err(why) => why,
    };
    let ending = if how == "OK" || warned { "TASK" } else { "TASK ERROR:" };
    task.lines.push(format!("{ending} {how}"));
    task.ended = Some((now_unix_secs(), how));
}

/// Seconds since 1970.
pub(super) fn now_unix_secs() -> u64 {
    u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or_default()
}

fn find<'c>(ask: &Ask<'_>, cluster: &'c Cluster) -> Result<&'c Task, Refusal> {
    let name = ask.text("upid").unwrap_or_default();
    let upid = Upid::parse(name).ok_or_else(|| Refusal::failed(format!("unable to parse worker upid '{name}'")))?;
    let found = cluster.tasks.iter().rev().find(|task| task.upid == upid && task.upid.node == ask.node());
    found.ok_or_else(|| Refusal::param("upid", "no such task"))
}

/// `GET …/tasks/{upid}/status`.
pub(super) fn status(ask: &Ask<'_>) -> Answer {
    let cluster = ask.cluster();
    let task = find(ask, &cluster)?;
    let mut shown = task.head();
    shown["status"] = json!(if task.ended.is_some() { "stopped" } else { "running" });
    if let Some((_, how)) = &task.ended {
        shown["exitstatus"] = json!(how);
    }
    Ok(shown)
}

/// `GET …/tasks/{upid}/log`: numbered lines; a limit of 0 gives them all.
pub(super) fn log(ask: &Ask<'_>) -> Answer {
    let cluster = ask.cluster();
    let task = find(ask, &cluster)?;
    let numbered = task.lines.iter().enumerate().map(|(index, line)| json!({ "n": index + 1, "t": line }));
    Ok(page(ask, numbered))
}

/// `GET /nodes/{node}/tasks`: newest first; ended ones unless `source` says otherwise.
#[expect(clippy::unnecessary_wraps, reason = "every call in the table answers with one type")]
pub(super) fn list(ask: &Ask<'_>) -> Answer {
    let cluster = ask.cluster();
    let source = ask.text("source").unwrap_or("archive");
    let wanted = |task: &&Task| {
        let ended = task.ended.as_ref();
        let upid = &task.upid;
        upid.node == ask.node()
            && (source == "all" || (source == "active") == ended.is_none())
            && (!ask.flag("errors") || ended.is_some_and(|(_, how)| how != "OK"))
            && ask.text("vmid").is_none_or(|vmid| upid.id == vmid)
            && ask.text("typefilter").is_none_or(|kind| upid.kind == kind)
            && ask.text("userfilter").is_none_or(|user| upid.user.contains(user))
            && ask.number("since").is_none_or(|since| upid.start_unix_secs >= since)
            && ask.number("until").is_none_or(|until| upid.start_unix_secs <= until)
    };
    Ok(page(ask, cluster.tasks.iter().rev().filter(wanted).map(Task::summary)))
}

fn page(ask: &Ask<'_>, items: impl Iterator<Item = Value>) -> Value {
    let count = |name: &str, otherwise: usize| {
        ask.number(name).map_or(otherwise, |number| usize::try_from(number).unwrap_or(usize::MAX))
    };
    let limit = match count("limit", 50) {
        0 => usize::MAX,
        limit => limit,
    };
    Value::Array(items.skip(count("start", 0)).take(limit).collect())
}
