//! The owner stamp: which service a machine belongs to, written into its description and its tags.
use std::collections::BTreeSet;

use domain::ids::ServiceId;
use uuid::Uuid;

const LINE: &str = "ez-service:";
const TAG: &str = "ez-";

/// The line in the description.
pub(super) fn line(service: ServiceId) -> String {
    format!("{LINE} {service}")
}

/// The tag. Proxmox keeps tags in lower case.
pub(super) fn tag(service: ServiceId) -> String {
    format!("{TAG}{service}")
}

/// Whom a machine belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// Every stamp on it names this service.
    Ours,
    /// A stamp on it names another service.
    Other,
    /// It carries no stamp.
    Nobody,
}

/// Reads the stamps of a machine.
pub(super) fn owner(description: &str, tags: &str, service: ServiceId) -> Owner {
    let stamps = stamps(description, tags);
    match (stamps.contains(&service.0), stamps.len()) {
        (true, 1) => Owner::Ours,
        (false, 0) => Owner::Nobody,
        _ => Owner::Other,
    }
}

/// The one service that every stamp on a machine names; nothing where there is none, or more than one.
pub(super) fn service(description: &str, tags: &str) -> Option<ServiceId> {
    let stamps = stamps(description, tags);
    if stamps.len() == 1 { stamps.first().copied().map(ServiceId) } else { None }
}

/// Whether a machine has a tag of ours.
pub(super) fn is_tagged(tags: &str) -> bool {
    !stamps("", tags).is_empty()
}

fn stamps(description: &str, tags: &str) -> BTreeSet<Uuid> {
    let lines = description.lines().filter_map(|line| line.trim().strip_prefix(LINE));
    let tags = tags.split([';', ',', ' ']).filter_map(|tag| tag.trim().strip_prefix(TAG));
    lines.chain(tags).filter_map(|text| text.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back_from_description_or_tags() {
        let (ours, other) = (ServiceId(Uuid::from_u128(7)), ServiceId(Uuid::from_u128(8)));
        assert_eq!(owner(&format!("web\n{}\n", line(ours)), "", ours), Owner::Ours);
        assert_eq!(owner("", &format!("debian;{}", tag(ours)), ours), Owner::Ours);
        assert_eq!(owner(&line(ours), &tag(ours), ours), Owner::Ours);
        assert_eq!(owner(&line(other), "", ours), Owner::Other);
        assert_eq!(owner("qmclone temporary file", "ez;ez-demo", ours), Owner::Nobody);
    }

    #[test]
    fn a_machine_with_two_owners_is_not_ours() {
        let (ours, other) = (ServiceId(Uuid::from_u128(7)), ServiceId(Uuid::from_u128(8)));
        assert_eq!(owner(&line(ours), &tag(other), ours), Owner::Other);
    }

    #[test]
    fn a_stamp_says_whose_it_is_unless_there_are_two() {
        let (ours, other) = (ServiceId(Uuid::from_u128(7)), ServiceId(Uuid::from_u128(8)));
        assert_eq!(service(&line(ours), ""), Some(ours));
        assert_eq!(service(&line(ours), &tag(ours)), Some(ours));
        assert_eq!(service(&line(ours), &tag(other)), None);
        assert_eq!(service("qmclone temporary file", "ez-demo"), None);
        assert!(is_tagged(&format!("debian;{}", tag(ours))) && !is_tagged("debian;ez-demo"));
    }
}
