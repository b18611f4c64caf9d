//! Who belongs to the account, and which of several accounts is looked at. Whoever changes who may do what says again who they
//! are: a stolen session is no way to stay.
use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use domain::{
    ids::{AccountId, UserId},
    member::MemberRole,
};
use store::{AccountLine, InvitationLine, Invited, MemberChange, MemberLine, User};

use super::super::{
    Portal, Shared,
    fields::{self, Field, Summary},
    limits::{self, Way},
    page::{self, Refusal, Shell},
    posted::Posted,
    proof::ProvenForm,
    redirect,
    visitor::Customer,
};

const PAGE: &str = "/accounts/members/";

#[derive(Template)]
#[template(path = "page/members.html")]
struct MembersPage {
    shell: Shell,
    account_name: String,
    me: UserId,
    members: Vec<MemberLine>,
    invitations: Vec<InvitationLine>,
    accounts: Vec<AccountLine>,
    current: AccountId,
    email: Field,
    notice: &'static str,
    fault: &'static str,
}

impl MembersPage {
    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.email])
    }

    /// Whether this is whoever looks.
    fn is_me(&self, member: &UserId) -> bool {
        *member == self.me
    }

    fn is_current(&self, account: &AccountId) -> bool {
        *account == self.current
    }

    /// What a member may be made, and which of it they are.
    #[expect(clippy::unused_self, clippy::trivially_copy_pass_by_ref, reason = "a template calls it")]
    fn roles(&self, present: &MemberRole) -> Vec<(MemberRole, bool)> {
        MemberRole::ALL.iter().map(|role| (*role, role == present)).collect()
    }

    /// What somebody may be made, with the least of it chosen.
    fn new_roles(&self) -> Vec<(MemberRole, bool)> {
        self.roles(&MemberRole::ReadOnly)
    }
}

async fn page_of(portal: &Portal, shell: Shell, user: &User) -> Result<MembersPage, Refusal> {
    let viewing = user.seat.viewing.is_some();
    let owns = user.seat.role == MemberRole::Owner;
    Ok(MembersPage {
        shell,
        account_name: user.seat.account_name.clone(),
        me: user.id,
        members: portal.store.members(user.account).await?,
        invitations: if owns { portal.store.invitations_of(user.account).await? } else { Vec::new() },
        // Whoever looks at somebody else's account is not led to their own ones.
        accounts: if viewing { Vec::new() } else { portal.store.accounts_of(user.id).await? },
        current: user.account,
        email: Field::new("email", "E-mail address", ""),
        notice: "",
        fault: "",
    })
}

/// The page.
pub(crate) async fn list(State(portal): Shared, mut customer: Customer) -> Result<Response, Refusal> {
    let shell = customer.visitor.form_shell("account").await?;
    Ok(page::ok(&page_of(&portal, shell, &customer.user).await?))
}

/// Invites an address. Whether anybody here has it is not told; the letter goes to it in any case.
pub(crate) async fn invite(
    State(portal): Shared,
    ProvenForm { mut posted, user }: ProvenForm,
) -> Result<Response, Refusal> {
    let role: MemberRole = posted.text("role").parse().map_err(|_| Refusal::Unreadable)?;
    let address = fields::email(posted.text("email"));
    if let Ok(email) = &address {
        let network = portal.by_network(Way::Invite, &posted.visitor.caller)?;
        let own = portal.for_account(Way::Invite, user.account.0)?;
        // How often a stranger is written to from here, whatever for.
        portal.take(&[network, own, portal.for_address(Way::Address, email)?]).await?;
    }
    let shell = posted.visitor.form_shell("account").await?;
    let fault = match &address {
        Err(help) => *help,
        Ok(_) if !user.email_verified => "Confirm your own address first: whoever is invited is told it.",
        Ok(email) if portal.settings.door.refused_domains.refuses(email) => {
            "We do not take addresses of this provider. Ask for one they will still have next month."
        }
        Ok(email) => match limits::evenly(portal.store.invite(&user, email, role)).await? {
            Invited::Done => "",
            Invited::Member => "Whoever has this address belongs to the account already.",
            Invited::TooMany => "Too many invitations are open. Take some back, or wait until they are used.",
            Invited::NotAllowed => "You do not own this account any more.",
        },
    };
    let mut page = page_of(&portal, shell, &user).await?;
    if fault.is_empty() {
        tracing::info!(user = %user.id, account = %user.account, %role, "somebody was invited");
        page.notice = "The invitation is on its way. It works once, for a week.";
        return Ok(page::ok(&page));
    }
    posted.text("email").clone_into(&mut page.email.value);
    page.email.refuse(fault);
    Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

/// Takes an invitation back. One that is over stays as it is.
pub(crate) async fn withdraw(
    State(portal): Shared,
    ProvenForm { posted, user }: ProvenForm,
) -> Result<Response, Refusal> {
    let id = posted.text("invitation").parse().map_err(|_| Refusal::Unreadable)?;
    if !portal.store.withdraw_invitation(&user, id).await? {
        return Err(Refusal::NotFound);
    }
    Ok(redirect::see_other(PAGE))
}

fn member_of(posted: &Posted) -> Result<UserId, Refusal> {
    posted.text("member").parse().map_err(|_| Refusal::Unreadable)
}

/// Gives a member another role.
pub(crate) async fn change(
    State(portal): Shared,
    ProvenForm { mut posted, user }: ProvenForm,
) -> Result<Response, Refusal> {
    let member = member_of(&posted)?;
    let role: MemberRole = posted.text("role").parse().map_err(|_| Refusal::Unreadable)?;
    let changed = portal.store.change_member(&user, member, role).await?;
    tracing::info!(user = %user.id, account = %user.account, %member, %role, ?changed, "a member was to be changed");
    after(&portal, &mut posted, &user, changed).await
}

/// Takes a member out.
pub(crate) async fn remove(
    State(portal): Shared,
    ProvenForm { mut posted, user }: ProvenForm,
) -> Result<Response, Refusal> {
    let member = member_of(&posted)?;
    let changed = portal.store.remove_member(&user, member).await?;
    tracing::info!(user = %user.id, account = %user.account, %member, ?changed, "a member was to be taken out");
    after(&portal, &mut posted, &user, changed).await
}

/// Leaves the account.
pub(crate) async fn leave(
    State(portal): Shared,
    ProvenForm { mut posted, user }: ProvenForm,
) -> Result<Response, Refusal> {
    let changed = portal.store.remove_member(&user, user.id).await?;
    tracing::info!(user = %user.id, account = %user.account, ?changed, "a member was to leave");
    after(&portal, &mut posted, &user, changed).await
}

/// Makes another member the owner.
pub(crate) async fn hand_over(
    State(portal): Shared,
    ProvenForm { mut posted, user }: ProvenForm,
) -> Result<Response, Refusal> {
    let member = member_of(&posted)?;
    let then: MemberRole = posted.text("then").parse().map_err(|_| Refusal::Unreadable)?;
    let changed = portal.store.hand_over(&user, member, then).await?;
    tracing::info!(user = %user.id, account = %user.account, %member, ?changed, "an account was to be handed over");
    after(&portal, &mut posted, &user, changed).await
}

/// Where a change leads: to the page as it is now, or to the page with what was wrong.
async fn after(portal: &Portal, posted: &mut Posted, user: &User, changed: MemberChange) -> Result<Response, Refusal> {
    let fault = match changed {
        // Whoever took themselves out has another account now.
        MemberChange::Done => return Ok(redirect::see_other(PAGE)),
        MemberChange::NotAllowed => return Err(Refusal::NotFound),
        MemberChange::LastOwner => "An account always has an owner. Hand it over to somebody first.",
        MemberChange::Unknown => "They do not belong to this account any more. Nothing was changed.",
    };
    let shell = posted.visitor.form_shell("account").await?;
    let page = MembersPage { fault, ..page_of(portal, shell, user).await? };
    Ok(page::render(StatusCode::CONFLICT, &page))
}

/// Looks at another of one's accounts from now on, in this browser. Forms that are open for the one before are worthless.
pub(crate) async fn choose(State(portal): Shared, posted: Posted) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let account: AccountId = posted.text("account").parse().map_err(|_| Refusal::Unreadable)?;
    let session = posted.visitor.session_id().ok_or(Refusal::StaleForm)?;
    if portal.store.choose_account(session, user.id, account).await? {
        Ok(redirect::see_other("/dashboard/"))
    } else {
        Err(Refusal::NotFound)
    }
}
