//! The name of a task: `UPID:node:pid:pstart:starttime:type:id:user:`, numbers as eight hexadecimal digits or more.

/// A task's name, in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upid {
    pub(super) node: String,
    pub(super) pid: u64,
    pub(super) pstart: u64,
    /// Seconds since 1970.
    pub(super) start_unix_secs: u64,
    /// Such as `qmclone`.
    pub(super) kind: String,
    /// What it works on, mostly a VM's number.
    pub(super) id: String,
    /// `user@realm!token`.
    pub(super) user: String,
}

impl std::fmt::Display for Upid {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { node, pid, pstart, start_unix_secs, kind, id, user } = self;
        write!(out, "UPID:{node}:{pid:08X}:{pstart:08X}:{start_unix_secs:08X}:{kind}:{id}:{user}:")
    }
}

impl Upid {
    /// The parts of `text`, if it is a task's name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let ["UPID", node, pid, pstart, start, kind, id, user, ""] = parts[..] else {
            return None;
        };
        let hex = |digits: &str| {
            let long_enough = (8..=9).contains(&digits.len()) && !digits.starts_with('+');
            long_enough.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        let upid = Self {
            node: node.to_owned(),
            pid: hex(pid)?,
            pstart: hex(pstart)?,
            start_unix_secs: hex(start)?,
            kind: kind.to_owned(),
            id: id.to_owned(),
            user: user.to_owned(),
        };
        (!node.is_empty() && !kind.is_empty() && user.contains('@')).then_some(upid)
    }
}

#[cfg(test)]
mod tests {
    use super::Upid;

    const CLONE: &str = "UPID:pve1:0000A1B2:00C3D4E5:6920ABCD:qmclone:9000:ez@pve!portal:";

    #[test]
    fn a_task_name_reads_back_as_it_was_written() {
        let upid = Upid::parse(CLONE).unwrap();
        assert_eq!(upid.pid, 0xA1B2);
        assert_eq!((upid.kind.as_str(), upid.id.as_str(), upid.user.as_str()), ("qmclone", "9000", "ez@pve!portal"));
        assert_eq!(upid.to_string(), CLONE);
    }

    #[test]
    fn what_is_not_a_task_name_is_refused() {
        for text in [
            "",
            "UPID:pve1:0000A1B2:00C3D4E5:6920ABCD:qmclone:9000:ez@pve!portal",
            "UPID:pve1:A1B2:00C3D4E5:6920ABCD:qmclone:9000:ez@pve!portal:",
            "UPID:pve1:0000A1BZ:00C3D4E5:6920ABCD:qmclone:9000:ez@pve!portal:",
            "UPID::0000A1B2:00C3D4E5:6920ABCD:qmclone:9000:ez@pve!portal:",
            "UPID:pve1:0000A1B2:00C3D4E5:6920ABCD:qmclone:9000:nobody:",
        ] {
            assert_eq!(Upid::parse(text), None, "{text}");
        }
    }
}
