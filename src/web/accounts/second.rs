//! The second step of a log-in: a code of an app, a recovery code, or a passkey. The session knows no more than that the password
//! was right, and for ten minutes; a try is counted before it is made, and what fits is used up before anybody is let in. After too
//! many codes that do not fit no code is taken, and the owner has a letter that opens the lock.
use std::time::{SystemTime, UNIX_EPOCH};

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use domain::ids::UserId;
use store::{CeremonyKind, Counted, Factor, Factors, SEED_PURPOSE, User};

use super::{
    super::{
        Portal, Shared,
        ceremony::Asked,
        fields::{Field, Summary},
        limits::Way,
        page::{self, Refusal, Shell},
        posted::Posted,
        recovery, redirect,
        totp::{self, Seed},
        visitor::{Half, LetIn, Visitor},
    },
    login,
};

#[derive(Template)]
#[template(path = "page/second.html")]
struct Second {
    shell: Shell,
    factors: Factors,
    passkey: Option<Asked>,
    code: Field,
    passkey_fault: &'static str,
}

impl Second {
    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.code])
    }

    /// What the field asks for.
    fn help(&self) -> &'static str {
        if self.factors.app_since.is_some() {
            "The six digits that your app shows now, or one of your recovery codes."
        } else {
            "One of your recovery codes."
        }
    }
}

async fn second(portal: &Portal, shell: Shell, user: UserId) -> Result<Second, Refusal> {
    let factors = portal.store.factors(user).await?;
    let passkey = portal.ask_to_sign(CeremonyKind::Second, user).await?;
    Ok(Second { shell, factors, passkey, code: Field::new("code", "Code", ""), passkey_fault: "" })
}

/// Whose password was right in this session, as they are now; nobody when that is too long ago, or all of their sessions were
/// ended since.
async fn half_of(portal: &Portal, visitor: &Visitor) -> Result<Option<(Half, User)>, Refusal> {
    let Some(half) = visitor.half().cloned() else { return Ok(None) };
    let user = portal.store.user(half.user).await?.filter(|user| user.epoch == half.epoch);
    Ok(user.map(|user| (half, user)))
}

/// The form.
pub(crate) async fn form(State(portal): Shared, mut visitor: Visitor) -> Result<Response, Refusal> {
    let Some((half, _)) = half_of(&portal, &visitor).await? else {
        return Ok(redirect::see_other("/accounts/login/"));
    };
    let shell = visitor.form_shell("login").await?;
    Ok(page::ok(&second(&portal, shell, half.user).await?))
}

/// Takes the form.
pub(crate) async fn submit(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let Some((half, user)) = half_of(&portal, &posted.visitor).await? else {
        return Ok(redirect::see_other("/accounts/login/"));
    };
    let with_passkey = !posted.text("credential").is_empty();
    let network = portal.by_network(Way::Second, &posted.visitor.caller)?;
    let own = portal.for_account(Way::Second, user.id.0)?;
    let codes = portal.for_codes(user.id.0)?;
    let (factor, locks) = if with_passkey {
        // Nobody guesses a signature.
        portal.take(&[network]).await?;
        (portal.signed(CeremonyKind::Second, user.id, &posted).await?.then_some(Factor::Passkey), false)
    } else {
        let locks = take_code(&portal, network, codes, own).await?;
        (used_up(&portal, user.id, posted.text("code")).await?, locks)
    };
    let Some(factor) = factor else {
        return refused(&portal, &mut posted, &user, with_passkey, locks).await;
    };
    portal.succeeded(&network, &own).await?;
    if !with_passkey {
        portal.store.give_back(codes.route, &codes.subject).await?;
    }
    if portal.store.factor_shown(user.id).await? {
        tracing::info!(user = %user.id, "a second factor that was said to be lost is not");
    }
    let who = LetIn {
        user: user.id,
        is_staff: user.is_staff,
        epoch: half.epoch,
        factor: Some(factor),
        proven: true,
        remembered: half.remembered,
    };
    login::enter(&portal, &mut posted.visitor, &who, &user.email, &half.next).await
}

/// Counts a code before it is tried, and says whether the step is locked unless it fits. What may lock comes last, so that nothing
/// locks unheard; what a lock refuses is no guess.
async fn take_code(portal: &Portal, network: Counted, codes: Counted, own: Counted) -> Result<bool, Refusal> {
    portal.take(&[network, codes]).await?;
    let locks = portal.take(&[own]).await;
    if locks.is_err() {
        portal.not_made(&[codes]).await?;
    }
    locks
}

/// Notes what did not fit, writes to the owner when that locked the step, and shows the page once more.
async fn refused(
    portal: &Portal,
    posted: &mut Posted,
    user: &User,
    with_passkey: bool,
    locks: bool,
) -> Result<Response, Refusal> {
    tracing::info!(user = %user.id, with_passkey, locks, "a second factor did not fit");
    if locks {
        portal.store.tell_codes_locked(&user.email).await?;
    }
    portal.store.factor_refused(user.id, locks).await?;
    let shell = posted.visitor.form_shell("login").await?;
    let mut page = second(portal, shell, user.id).await?;
    if with_passkey {
        page.passkey_fault = "This passkey did not fit, or it took too long. Try again.";
    } else {
        page.code.refuse("This code does not fit. A code works once: wait for the next one your app shows.");
    }
    Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

/// Uses up a code and says which kind it was; nothing when it does not fit or was used before.
async fn used_up(portal: &Portal, user: UserId, typed: &str) -> Result<Option<Factor>, Refusal> {
    if totp::plain(typed).is_none() {
        let Some(hash) = recovery::hash(typed) else { return Ok(None) };
        return Ok(portal.store.take_recovery_code(user, &hash).await?.then_some(Factor::RecoveryCode));
    }
    let Some(sealed) = portal.store.totp_seed(user).await? else { return Ok(None) };
    let opened = portal.keys.open(SEED_PURPOSE, &sealed).map_err(|_| Refusal::Broken("opening the seed of an app"))?;
    let Some(step) = Seed::of(opened).step_of(typed, now_secs()) else { return Ok(None) };
    Ok(portal.store.take_totp_step(user, step).await?.then_some(Factor::App))
}

/// The time as apps count it.
pub(super) fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
