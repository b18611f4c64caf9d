//! What a token may do, beside what orders need: what it lacks stops an order, and what it has besides helps only a thief.
use serde_json::{Map, Value};

/// What is granted: each path of the cluster with the privileges there. Source: `GET /access/permissions`.
pub(super) type Granted = Map<String, Value>;

/// Something the token must be allowed to do: one of these privileges, anywhere beneath one of these paths.
struct Right {
    any_of: &'static [&'static str],
    beneath: &'static [&'static str],
}

const MACHINES: &[&str] = &["/vms", "/pool"];
const STORAGES: &[&str] = &["/storage", "/pool"];
const NETWORKS: &[&str] = &["/sdn"];

/// What building, changing and removing machines asks for. Source: Proxmox VE, "User Management", privileges; the guest agent
/// was asked with `VM.Monitor` until version 8.
const NEEDED: [Right; 14] = [
    of_machines(&["VM.Allocate"]),
    of_machines(&["VM.Audit"]),
    of_machines(&["VM.Clone"]),
    of_machines(&["VM.Config.CPU"]),
    of_machines(&["VM.Config.Cloudinit"]),
    of_machines(&["VM.Config.Disk"]),
    of_machines(&["VM.Config.HWType"]),
    of_machines(&["VM.Config.Memory"]),
    of_machines(&["VM.Config.Network"]),
    of_machines(&["VM.Config.Options"]),
    of_machines(&["VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted", "VM.Monitor"]),
    of_machines(&["VM.PowerMgmt"]),
    Right { any_of: &["Datastore.AllocateSpace"], beneath: STORAGES },
    Right { any_of: &["SDN.Use"], beneath: NETWORKS },
];

/// What reads alone.
const READS: [&str; 5] = ["Datastore.Audit", "Pool.Audit", "SDN.Audit", "Sys.Audit", "Mapping.Audit"];

const fn of_machines(any_of: &'static [&'static str]) -> Right {
    Right { any_of, beneath: MACHINES }
}

impl Right {
    fn is_in(&self, granted: &Granted) -> bool {
        let reaches = |path: &str| {
            path == "/"
                || self
                    .beneath
                    .iter()
                    .any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        };
        granted.iter().any(|(path, here)| reaches(path) && self.any_of.iter().any(|name| here.get(name).is_some()))
    }

    fn name(&self) -> String {
        let place = self.beneath.first().copied().unwrap_or("/");
        format!("{} on {place}", self.any_of.first().copied().unwrap_or_default())
    }
}

/// Says what the token may do; and what it may do besides, so that somebody takes it away.
///
/// *Errors*: it lacks something; the words name all of it.
pub(super) fn judged(granted: &Granted) -> Result<String, String> {
    let lacking: Vec<String> = NEEDED.iter().filter(|right| !right.is_in(granted)).map(Right::name).collect();
    if !lacking.is_empty() {
        return Err(format!("the token lacks {}", lacking.join(", ")));
    }
    let besides = besides(granted);
    if besides.is_empty() {
        return Ok("the token may do what it must, and nothing else".to_owned());
    }
    Ok(format!("the token may do what it must; nothing here needs {}: give it a role without", besides.join(", ")))
}

/// The privileges nothing here needs, each once.
fn besides(granted: &Granted) -> Vec<&str> {
    let is_needed = |name: &str| READS.contains(&name) || NEEDED.iter().any(|right| right.any_of.contains(&name));
    let here = granted.values().filter_map(Value::as_object).flat_map(Map::keys).map(String::as_str);
    let mut besides: Vec<&str> = here.filter(|name| !is_needed(name)).collect();
    besides.sort_unstable();
    besides.dedup();
    besides
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn granted(paths: &Value) -> Granted {
        paths.as_object().cloned().expect("paths")
    }

    /// All privileges that are needed, each on the first of its paths.
    fn enough() -> Value {
        let mut paths = json!({});
        for right in &NEEDED {
            paths[right.beneath[0]][right.any_of[0]] = json!(1);
        }
        paths
    }

    #[test]
    fn what_is_needed_is_enough_and_each_that_is_missing_is_named() {
        assert_eq!(judged(&granted(&enough())), Ok("the token may do what it must, and nothing else".to_owned()));
        for right in &NEEDED {
            let mut paths = enough();
            let (path, name) = (right.beneath[0], right.any_of[0]);
            paths[path].as_object_mut().expect("privileges").remove(name);
            assert_eq!(judged(&granted(&paths)), Err(format!("the token lacks {name} on {path}")));
        }
    }

    #[test]
    fn a_privilege_counts_where_it_reaches_and_nowhere_else() {
        let mut paths = enough();
        paths["/storage"] = json!({});
        paths["/storages"] = json!({"Datastore.AllocateSpace": 1});
        assert!(judged(&granted(&paths)).is_err_and(|why| why.contains("Datastore.AllocateSpace")));
        paths["/storage/local"] = json!({"Datastore.AllocateSpace": 1});
        assert!(judged(&granted(&paths)).is_ok());
    }

    #[test]
    fn what_nothing_needs_is_named_once() {
        let mut paths = enough();
        paths["/"] = json!({"Sys.Audit": 1, "Permissions.Modify": 1});
        paths["/vms"]["VM.Console"] = json!(1);
        paths["/nodes"] = json!({"Permissions.Modify": 1});
        let said = judged(&granted(&paths)).expect("enough");
        assert!(said.contains("nothing here needs Permissions.Modify, VM.Console: give"), "{said}");
    }
}
