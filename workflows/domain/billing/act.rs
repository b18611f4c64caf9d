//! What kind of thing an act is.
use super::Act;

impl Act {
    /// Whether it takes something away from the customer.
    pub const fn takes_away(&self) -> bool {
        matches!(
            self,
            Self::Suspend { .. }
                | Self::Retain
                | Self::SetServerAside { .. }
                | Self::DestroyServer { .. }
                | Self::EndSubscription
                | Self::Expire
        )
    }

    /// Whether the customer sees nothing of it.
    pub(super) const fn only_notes(&self) -> bool {
        matches!(
            self,
            Self::NoteOverdue { .. }
                | Self::NotePaid
                | Self::EndSubscription
                | Self::Reprice { .. }
                | Self::SettleChange
                | Self::GiveChangeUp
        )
    }

    /// Whether it waits while staff hold: what takes something away, and the warning of it.
    pub(super) const fn can_be_held(&self) -> bool {
        self.takes_away() || matches!(self, Self::WarnOfDestruction { .. })
    }
}
