//! What Proxmox's refusals mean.
use std::fmt;

use crate::fault::{Fault, Vendor};

/// Answers below mean that the node which should have done the work was not heard. Source: Proxmox VE, `PVE::APIServer::AnyEvent`,
/// which passes on the status of its own proxy connection.
const NODE_UNHEARD: std::ops::RangeInclusive<u16> = 595..=599;
/// Words of refusals that pass by themselves.
const PASSING: [&str; 8] = [
    "got timeout",
    "can't lock file",
    "is locked",
    "no quorum",
    "cluster not ready",
    "detected modified configuration",
    "try again",
    "temporarily unavailable",
];
/// Words of refusals that stay until somebody changes the set-up.
const STAYING: [&str; 6] = [
    "protection mode enabled",
    "no qemu guest agent configured",
    "permission check failed",
    "non-shared storage",
    "no such cluster node",
    "not implemented",
];

/// One call of the API: method and path, no parameters.
#[derive(Debug, Clone)]
pub struct Call {
    pub(super) method: &'static str,
    pub(super) path: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// Why something on Proxmox did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ProxmoxError {
    /// No connection: nothing was asked.
    #[error("{call}: Proxmox is not reachable")]
    Unreached {
        /// What was to be asked.
        call: Call,
        /// Why there is no connection.
        source: reqwest::Error,
    },
    /// Asked, but the answer never came: it may have been done.
    #[error("{call}: the answer never came")]
    Unanswered {
        /// What was asked.
        call: Call,
        /// How the answer was lost.
        source: reqwest::Error,
    },
    /// Refused, with Proxmox's words.
    #[error("{call}: {status} {message}{}", listed(.fields))]
    Refused {
        /// What was asked.
        call: Call,
        /// The HTTP status.
        status: u16,
        /// The message.
        message: String,
        /// Each refused parameter and why.
        fields: Vec<(String, String)>,
    },
    /// Answered, but not in a form we know.
    #[error("{call}: the answer cannot be read")]
    Unreadable {
        /// What was asked.
        call: Call,
        /// What is wrong with the answer.
        source: serde_json::Error,
    },
    /// The answer is longer than we are willing to read.
    #[error("{call}: the answer is too long")]
    TooLong {
        /// What was asked.
        call: Call,
    },
    /// A task ended badly.
    #[error("the task {kind} ended with: {exit}")]
    TaskFailed {
        /// Its type, such as `qmclone`.
        kind: String,
        /// Its last word.
        exit: String,
    },
    /// The machine carries somebody else's stamp, or none.
    #[error("machine {0} does not carry our stamp for this service; it was not touched")]
    NotOurs(u32),
    /// The machine is not there, and Proxmox was well enough to say so.
    #[error("machine {0} does not exist")]
    Missing(u32),
    /// Something must be changed by hand first.
    #[error("{0}")]
    Unfit(String),
    /// Nothing is wrong; it takes longer.
    #[error("{0}")]
    NotYet(String),
}

/// What may be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    TryAgain,
    OutcomeUnknown,
    GiveUp,
}

impl ProxmoxError {
    pub(super) fn meaning(&self) -> Meaning {
        match self {
            Self::Unanswered { .. } | Self::Unreadable { .. } | Self::TooLong { .. } => Meaning::OutcomeUnknown,
            Self::Refused { status, message, .. } => refusal(*status, &message.to_lowercase()),
            Self::TaskFailed { exit, .. } if has(&exit.to_lowercase(), &STAYING) => Meaning::GiveUp,
            Self::Unreached { .. } | Self::NotYet(_) | Self::TaskFailed { .. } => Meaning::TryAgain,
            Self::NotOurs(_) | Self::Missing(_) | Self::Unfit(_) => Meaning::GiveUp,
        }
    }

    /// Whether Proxmox itself says, in the one form it has for that, that the node has no machine of this number. Anything
    /// else with "not found" in it may be somebody's error page.
    pub(super) fn is_absence_of(&self, vmid: u32) -> bool {
        let Self::Refused { status: 500, message, .. } = self else { return false };
        let file = format!("/{vmid}.conf' does not exist");
        message.starts_with("Configuration file 'nodes/") && message.ends_with(&file)
    }

    /// Whether it is Proxmox's own word with this text in it.
    pub(super) fn says(&self, words: &str) -> bool {
        match self {
            Self::Refused { message, .. } => message.contains(words),
            Self::TaskFailed { exit, .. } => exit.contains(words),
            _ => false,
        }
    }

    /// What it means to a workflow; `doing` is for staff.
    pub fn into_fault(self, doing: impl Into<String>) -> Fault {
        match self.meaning() {
            Meaning::TryAgain => Vendor::Proxmox.try_again(doing, self),
            Meaning::OutcomeUnknown => Vendor::Proxmox.outcome_unknown(doing, self),
            Meaning::GiveUp => {
                let reason = self.to_string();
                Vendor::Proxmox.give_up_over(doing, reason, self)
            }
        }
    }
}

fn refusal(status: u16, message: &str) -> Meaning {
    if NODE_UNHEARD.contains(&status) || matches!(status, 408 | 502 | 504) {
        Meaning::OutcomeUnknown
    } else if has(message, &STAYING) {
        Meaning::GiveUp
    } else if matches!(status, 429 | 503) || has(message, &PASSING) {
        Meaning::TryAgain
    } else if matches!(status, 300..=499 | 501) {
        Meaning::GiveUp
    } else {
        Meaning::TryAgain
    }
}

fn has(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

fn listed(fields: &[(String, String)]) -> String {
    fields.iter().flat_map(|(name, why)| ["; ", name, ": ", why]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, message: &str) -> Meaning {
        let call = Call { method: "POST", path: "/nodes/pve1/qemu/101/config".to_owned() };
        ProxmoxError::Refused { call, status, message: message.to_owned(), fields: Vec::new() }.meaning()
    }

    #[test]
    fn an_answer_of_the_proxy_between_nodes_leaves_the_outcome_unknown() {
        for status in [595, 596, 597, 599, 504] {
            assert_eq!(refused(status, "Connection timed out"), Meaning::OutcomeUnknown, "{status}");
        }
    }

    #[test]
    fn locks_timeouts_and_a_lost_quorum_pass() {
        for message in [
            "can't lock file '/var/lock/qemu-server/lock-101.conf' - got timeout",
            "VM is locked (backup)",
            "cluster not ready - no quorum?",
        ] {
            assert_eq!(refused(500, message), Meaning::TryAgain, "{message}");
        }
        assert_eq!(refused(503, ""), Meaning::TryAgain);
    }

    #[test]
    fn only_proxmox_s_own_sentence_means_that_a_machine_is_absent() {
        let says = |status, message: &str| {
            let call = Call { method: "GET", path: "/nodes/pve1/qemu/101/config".to_owned() };
            ProxmoxError::Refused { call, status, message: message.to_owned(), fields: Vec::new() }.is_absence_of(101)
        };
        assert!(says(500, "Configuration file 'nodes/pve1/qemu-server/101.conf' does not exist"));
        assert!(!says(500, "Configuration file 'nodes/pve1/qemu-server/102.conf' does not exist"));
        assert!(!says(404, "Configuration file 'nodes/pve1/qemu-server/101.conf' does not exist"));
        assert!(!says(404, "<h1>404</h1> the page /101.conf' does not exist"));
        assert!(!says(500, "storage 'local' does not exist"));
    }

    #[test]
    fn refused_parameters_and_rights_stay_refused() {
        for status in [400, 401, 403, 404, 501] {
            assert_eq!(refused(status, "Parameter verification failed."), Meaning::GiveUp, "{status}");
        }
        assert_eq!(refused(500, "can't remove VM 101 - protection mode enabled"), Meaning::GiveUp);
    }

    #[test]
    fn every_refused_parameter_is_named() {
        let call = Call { method: "POST", path: "/nodes/pve1/qemu/101/config".to_owned() };
        let fields = vec![("cores".to_owned(), "too many".to_owned()), ("memory".to_owned(), "too little".to_owned())];
        let error = ProxmoxError::Refused { call, status: 400, message: "no".to_owned(), fields };
        assert_eq!(error.to_string(), "POST /nodes/pve1/qemu/101/config: 400 no; cores: too many; memory: too little");
    }
}
