//! What somebody logs in with besides their password: the list, the app, and the recovery codes. Adding and removing asks who they
//! are; every change ends the other sessions and is told by letter.
use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use store::{Factor, Factors, KeyRing, User};

use super::{
    super::{
        Portal, Shared,
        fields::{Field, Summary},
        limits::Way,
        page::{self, Refusal, Shell},
        posted::Posted,
        proof::{ProvenForm, ProvenPage},
        recovery::NewCodes,
        redirect,
        totp::{self, Seed},
        visitor::{Customer, LetIn},
    },
    second::now_secs,
};

/// How long a page with a new seed may be answered, in seconds.
const SEED_SECS: u64 = 900;

#[derive(Template)]
#[template(path = "page/factors.html")]
struct Overview {
    shell: Shell,
    factors: Factors,
    passkeys_are_there: bool,
    notice: &'static str,
    wanted_of_staff: bool,
}

/// Why somebody is here.
#[derive(Deserialize)]
pub(crate) struct Why {
    #[serde(default)]
    changed: String,
    #[serde(default)]
    staff: String,
}

/// The list.
pub(crate) async fn overview(
    State(portal): Shared,
    mut customer: Customer,
    Query(why): Query<Why>,
) -> Result<Response, Refusal> {
    let factors = portal.store.factors(customer.user.id).await?;
    let notice = match why.changed.as_str() {
        _ if !customer.user.email_verified => "Confirm your address first. Then you can add a second factor here.",
        "app" => "The app is removed. Every other browser has been logged out.",
        "passkey" => "The passkey is removed. Every other browser has been logged out.",
        _ => "",
    };
    let wanted_of_staff = !why.staff.is_empty() && customer.user.is_staff && customer.visitor.factor().is_none();
    let shell = customer.visitor.form_shell("account").await?;
    let passkeys_are_there = portal.passkeys.are_there();
    Ok(page::ok(&Overview { shell, factors, passkeys_are_there, notice, wanted_of_staff }))
}

#[derive(Template)]
#[template(path = "page/factor_app.html")]
struct App {
    shell: Shell,
    picture: String,
    secret: String,
    sealed: String,
    code: Field,
}

impl App {
    fn new(shell: Shell, seed: &Seed, sealed: String, email: &str) -> Self {
        let picture = totp::picture(&seed.address(email)).unwrap_or_default();
        Self { shell, picture, secret: seed.shown(), sealed, code: Field::new("code", "Code", "") }
    }

    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.code])
    }
}

/// A new seed as its page carries it: sealed, for one user, with the time it was made.
struct Offer;

impl Offer {
    fn purpose(user: &User) -> String {
        format!("totp-offer/{}/{}", user.id, user.epoch)
    }

    fn seal(keys: &KeyRing, user: &User, seed: &Seed) -> Result<String, Refusal> {
        let whole: Vec<u8> = now_secs().to_be_bytes().into_iter().chain(seed.bytes().iter().copied()).collect();
        keys.seal(&Self::purpose(user), &whole).map_err(|_| Refusal::Broken("sealing a seed"))
    }

    fn open(keys: &KeyRing, user: &User, sealed: &str) -> Option<Seed> {
        let whole = keys.open(&Self::purpose(user), sealed).ok()?;
        let (made, seed) = whole.split_first_chunk::<8>()?;
        let age = now_secs().saturating_sub(u64::from_be_bytes(*made));
        (age <= SEED_SECS).then(|| Seed::of(seed.to_vec()))
    }
}

/// Where somebody is led who has not shown that their address is theirs: what they add here would let them in past its owner.
pub(super) fn confirm_first(user: &User) -> Option<Response> {
    (!user.email_verified).then(|| redirect::see_other("/accounts/verify/"))
}

/// The page with a new seed. Nothing is kept before its first code came back.
pub(crate) async fn app(State(portal): Shared, mut page: ProvenPage) -> Result<Response, Refusal> {
    if let Some(elsewhere) = confirm_first(&page.user) {
        return Ok(elsewhere);
    }
    if portal.store.factors(page.user.id).await?.app_since.is_some() {
        return Ok(redirect::see_other("/accounts/factors/"));
    }
    let seed = Seed::new();
    let sealed = Offer::seal(&portal.keys, &page.user, &seed)?;
    let shell = page.visitor.form_shell("account").await?;
    Ok(page::ok(&App::new(shell, &seed, sealed, &page.user.email)))
}

/// Takes the first code.
pub(crate) async fn add_app(State(portal): Shared, form: ProvenForm) -> Result<Response, Refusal> {
    let ProvenForm { mut posted, user } = form;
    if let Some(elsewhere) = confirm_first(&user) {
        return Ok(elsewhere);
    }
    let Some(seed) = Offer::open(&portal.keys, &user, posted.exact("seed")) else {
        return Ok(redirect::see_other("/accounts/factors/app/"));
    };
    let network = portal.by_network(Way::Second, &posted.visitor.caller)?;
    portal.take(&[network]).await?;
    let Some(step) = seed.step_of(posted.text("code"), now_secs()) else {
        let shell = posted.visitor.form_shell("account").await?;
        let mut page = App::new(shell, &seed, posted.exact("seed").to_owned(), &user.email);
        page.code.refuse("This is not the code your app shows. Is the clock of that device right?");
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    };
    portal.store.give_back(network.route, &network.subject).await?;
    let sealed = portal.keys.seal(store::SEED_PURPOSE, seed.bytes()).map_err(|_| Refusal::Broken("sealing a seed"))?;
    let codes = NewCodes::new();
    let Some(added) = portal.store.add_totp(&user, &sealed, step, &codes.hashes).await? else {
        return Ok(redirect::see_other("/accounts/factors/"));
    };
    tracing::info!(user = %user.id, "an app was added");
    go_on(&portal, &mut posted, &user, added.epoch, Some(Factor::App)).await?;
    show_codes(&mut posted, "Your app is added", added.with_codes.then_some(codes)).await
}

/// Takes the app away.
pub(crate) async fn remove_app(State(portal): Shared, form: ProvenForm) -> Result<Response, Refusal> {
    let ProvenForm { mut posted, user } = form;
    if let Some(epoch) = portal.store.remove_totp(&user).await? {
        tracing::info!(user = %user.id, "an app was removed");
        let factor = left(&portal, &posted, &user).await?;
        go_on(&portal, &mut posted, &user, epoch, factor).await?;
    }
    Ok(redirect::see_other("/accounts/factors/?changed=app"))
}

/// Makes new recovery codes; the old ones are worth nothing from now on, and every other session ends.
pub(crate) async fn make_codes(State(portal): Shared, form: ProvenForm) -> Result<Response, Refusal> {
    let ProvenForm { mut posted, user } = form;
    let codes = NewCodes::new();
    let Some(epoch) = portal.store.replace_recovery_codes(&user, &codes.hashes).await? else {
        return Ok(redirect::see_other("/accounts/factors/"));
    };
    tracing::info!(user = %user.id, "recovery codes were made");
    let factor = posted.visitor.factor();
    go_on(&portal, &mut posted, &user, epoch, factor).await?;
    show_codes(&mut posted, "Your new recovery codes", Some(codes)).await
}

/// The session goes on in the epoch that begins; every other one has ended.
pub(super) async fn go_on(
    portal: &Portal,
    posted: &mut Posted,
    user: &User,
    epoch: i32,
    factor: Option<Factor>,
) -> Result<(), Refusal> {
    let remembered = posted.visitor.is_remembered();
    let who = LetIn { user: user.id, is_staff: user.is_staff, epoch, factor, proven: true, remembered };
    posted.visitor.log_in(portal, &who).await
}

/// What the session still counts as shown once a factor is gone: nothing where none is left.
pub(super) async fn left(portal: &Portal, posted: &Posted, user: &User) -> Result<Option<Factor>, Refusal> {
    let any = portal.store.factors(user.id).await?.any();
    Ok(posted.visitor.factor().filter(|_| any))
}

#[derive(Template)]
#[template(path = "page/factor_codes.html")]
struct CodesPage {
    shell: Shell,
    title: &'static str,
    codes: Vec<String>,
}

/// The page that shows recovery codes, once; without any it says that the old ones still count.
pub(super) async fn show_codes(
    posted: &mut Posted,
    title: &'static str,
    codes: Option<NewCodes>,
) -> Result<Response, Refusal> {
    let shell = posted.visitor.form_shell("account").await?;
    Ok(page::ok(&CodesPage { shell, title, codes: codes.map(|codes| codes.shown).unwrap_or_default() }))
}
