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
    let lines = description.lines().filter_map(|line| line.trim().strip_prefix(LINE));
    let tags = tags.split([';', ',', ' ']).filter_map(|tag| tag.trim().strip_prefix(TAG));
    let stamps: BTreeSet<Uuid> = lines.chain(tags).filter_map(|text| text.trim().parse().ok()).collect();
    match (stamps.contains(&service.0), stamps.len()) {
        (true, 1) => Owner::Ours,
        (false, 0) => Owner::Nobody,
        _ => Owner::Other,
    }
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
}
