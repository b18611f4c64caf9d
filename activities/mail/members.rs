//! The letters about who belongs to an account.
use contract::letter::LetterInput;
use domain::ids::UserId;
use store::{CLOSED_DOMAIN, LinkState};

use super::{
    MailDesk,
    access::{named, receiver},
    facts::{CLOSED, Gathered, Receiver, nothing},
    letter::{Facts, minute},
};
use crate::{fault::Fault, name::of_store};

impl MailDesk {
    /// To an address that may be a stranger's: it is told who invites, by a confirmed address, and nothing else that anybody wrote.
    pub(super) async fn invitation(&self, input: &LetterInput, doing: &str) -> Result<Gathered, Fault> {
        let id = named(input).ok_or_else(|| nothing(doing, "the occasion names no invitation"))?;
        let found = self.store.invitation(id).await.map_err(|error| of_store(doing, error))?;
        let Some(invitation) = found else {
            return Ok(Gathered::Pointless("the invitation is gone"));
        };
        match invitation.state {
            LinkState::Good => {}
            LinkState::Used => return Ok(Gathered::Pointless("it was used already, or was taken back")),
            LinkState::Expired => return Ok(Gathered::Pointless("its link had expired before it could be sent")),
        }
        let tag = self.keys.tag("member-invitation", id);
        let told = Facts {
            site: self.site(),
            inviter: invitation.inviter_email,
            day: minute(invitation.expires_at),
            link: self.link(&format!("/accounts/invitation/?id={id}&tag={tag}")),
            ..Facts::default()
        };
        let to = Receiver { user: None, order: None, name: String::new(), email: invitation.email };
        Ok(Gathered::Letter(to, Box::new(told)))
    }

    /// To somebody whose role in an account was changed by somebody else, or who does not belong to it any more.
    pub(super) async fn membership_changed(&self, user: UserId, doing: &str) -> Result<Gathered, Fault> {
        let found = self.store.user(user).await.map_err(|error| of_store(doing, error))?;
        let user = found.ok_or_else(|| nothing(doing, "there is no such user"))?;
        if user.email.ends_with(CLOSED_DOMAIN) {
            return Ok(Gathered::Pointless(CLOSED));
        }
        let told = Facts { site: self.site(), link: self.link("/accounts/members/"), ..Facts::default() };
        Ok(Gathered::Letter(receiver(user.id, user.email), Box::new(told)))
    }
}
