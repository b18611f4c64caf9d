//! Tasks: what Proxmox does in the background, named by a UPID.
use std::time::Duration;

use proxmox_api::nodes::{
    NodesClient,
    node::tasks::{GetOutputItems, GetParams, Source, upid::status::Status},
};
use tokio::time::{self, Instant};

use super::{
    ProxmoxApi,
    client::percent_encoded,
    error::{Meaning, ProxmoxError},
};
use crate::machine::alive::Progress;

/// A task is asked about again when it has taken a quarter longer than at the last look: what it takes by itself is
/// overshot by an eighth on average, and a long one is not asked about often.
pub(super) const PATIENCE_GROWTH: u32 = 4;
pub(super) const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Asking how a task stands may fail this often in a row; asking changes nothing.
const MISSED_ANSWERS_MAX: u32 = 10;

/// The kind of a task that copies a machine.
const CLONE: &str = "qmclone";

/// `UPID:node:pid:pstart:starttime:type:id:user:`. Source: Proxmox VE, `PVE::Tools::upid_decode`.
#[derive(Debug, PartialEq, Eq)]
struct Upid<'a> {
    text: &'a str,
    node: &'a str,
    kind: &'a str,
}

impl<'a> Upid<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(':');
        let (Some("UPID"), Some(node)) = (parts.next(), parts.next()) else { return None };
        let kind = parts.nth(3)?;
        let safe = node.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        (safe && !node.is_empty()).then_some(Self { text, node, kind })
    }
}

impl ProxmoxApi {
    /// Waits until a task has ended well: `OK`, or with warnings.
    ///
    /// *Errors*: [`ProxmoxError::TaskFailed`] with its last word, or the refusal of the questions about it.
    pub(super) async fn finished(&self, upid: &str, progress: &Progress) -> Result<(), ProxmoxError> {
        let unknown = || ProxmoxError::Unfit("Proxmox named a task in a form we do not know".to_owned());
        let upid = Upid::parse(upid).ok_or_else(unknown)?;
        progress.waits_for(upid.text);
        // The bindings paste the id into the path as it stands, and it has colons, an `@` and a `!`.
        let path_id = percent_encoded(upid.text);
        let question = NodesClient::new(self.client.clone()).node(upid.node).tasks().upid(&path_id).status();
        let (began, mut missed) = (Instant::now(), 0);
        loop {
            match question.get().await {
                Ok(told) if told.status == Status::Stopped => {
                    let exit = told.exitstatus.unwrap_or_else(|| "no word".to_owned());
                    return if exit == "OK" || exit.starts_with("WARNINGS") {
                        Ok(())
                    } else {
                        Err(ProxmoxError::TaskFailed { kind: upid.kind.to_owned(), exit })
                    };
                }
                Ok(_) => missed = 0,
                Err(error) if error.meaning() == Meaning::GiveUp || missed == MISSED_ANSWERS_MAX => return Err(error),
                Err(error) => {
                    progress.heard(&error);
                    missed += 1;
                }
            }
            time::sleep((began.elapsed() / PATIENCE_GROWTH).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)).await;
        }
    }

    /// Whether any clone we may see runs on a node. A clone's task carries the number of its template, not of the copy.
    ///
    /// What is listed is not taken for what was asked for: one that is over must not make somebody wait for it.
    pub(super) async fn clones_run(&self, node: &str) -> Result<bool, ProxmoxError> {
        let active =
            GetParams { source: Some(Source::Active), typefilter: Some(CLONE.to_owned()), ..GetParams::default() };
        let listed = NodesClient::new(self.client.clone()).node(node).tasks().get(active).await?;
        Ok(listed.iter().any(is_running_clone))
    }
}

fn is_running_clone(task: &GetOutputItems) -> bool {
    task.ty == CLONE && task.endtime.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "UPID:pve1:0000C530:001C9BEC:5E68E2B5:qmclone:9000:ez@pve!portal:";

    #[test]
    fn a_task_names_its_node_and_type() {
        let upid = Upid::parse(TEXT).expect("a task");
        assert_eq!((upid.node, upid.kind), ("pve1", "qmclone"));
        assert_eq!(Upid::parse("101"), None);
        assert_eq!(Upid::parse("UPID:../x:0:0:0:qmclone:1:a:"), None);
    }

    #[test]
    fn a_task_is_percent_encoded_in_a_path() {
        let encoded = "UPID%3Apve1%3A0000C530%3A001C9BEC%3A5E68E2B5%3Aqmclone%3A9000%3Aez%40pve%21portal%3A";
        assert_eq!(percent_encoded(TEXT), encoded);
    }

    #[test]
    fn only_a_clone_that_is_not_over_runs() {
        let task = |kind: &str, endtime: Option<i64>| {
            let words = ["9000", "pve1", kind, TEXT, "ez@pve!portal"].map(str::to_owned);
            let [id, node, kind, upid, user] = words;
            GetOutputItems { endtime, ..GetOutputItems::new(id, node, 1, 2, 3, kind, upid, user) }
        };
        assert!(is_running_clone(&task("qmclone", None)));
        assert!(!is_running_clone(&task("qmclone", Some(4))));
        assert!(!is_running_clone(&task("qmstart", None)));
    }
}
