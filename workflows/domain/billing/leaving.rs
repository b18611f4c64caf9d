//! A further server that its customer takes away: stopped and kept for the retention days, then destroyed, whatever the
//! subscription does meanwhile. One that ends as a whole takes it along.
use super::{Act, Next, Phase, Standing};
use crate::{UnixSecs, ids::ServiceId, instruction::Instruction, policy::SubscriptionPolicy};
use serde::{Deserialize, Serialize};

/// A further server that is taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// Which.
    pub service: ServiceId,
    /// What was told.
    pub instruction: Instruction,
    /// When it was stopped; nothing while that is still to be done.
    #[serde(default)]
    pub stopped_at: Option<UnixSecs>,
}

impl Leaving {
    /// When it is destroyed, once it is stopped.
    pub fn destroy_at(&self, policy: &SubscriptionPolicy) -> Option<UnixSecs> {
        self.stopped_at.map(|at| at + policy.retention_secs)
    }
}

/// Where only waiting is left, what is due for a server that is taken away, or no later than when it will be.
pub(super) fn no_later(next: Next, standing: &Standing, policy: &SubscriptionPolicy, now: UnixSecs) -> Next {
    let Next::WaitUntil(at) = next else { return next };
    if !matches!(standing.phase, Phase::Active | Phase::PastDue | Phase::Suspended) {
        return next;
    }
    let mut soonest = at;
    for leaving in &standing.leaving {
        let service = leaving.service;
        match leaving.destroy_at(policy) {
            None => return Next::Do(Act::SetServerAside { service }),
            Some(due) if now >= due => return Next::Do(Act::DestroyServer { service }),
            Some(due) => soonest = soonest.min(due),
        }
    }
    Next::WaitUntil(soonest)
}

impl Standing {
    /// A server as it is taken away, if it is.
    pub fn leaving(&self, service: ServiceId) -> Option<&Leaving> {
        self.leaving.iter().find(|leaving| leaving.service == service)
    }

    pub(super) fn set_aside(&mut self, service: ServiceId, now: UnixSecs) {
        for leaving in self.leaving.iter_mut().filter(|leaving| leaving.service == service) {
            leaving.stopped_at = Some(now);
        }
    }
}
