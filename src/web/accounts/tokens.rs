//! Tokens for programs: made with the password, shown once, listed with their last use, revoked.
use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use store::{Scope, TokenHolding, TokenLine, TokenMade};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    super::{
        Portal, Shared,
        api::{self, Token},
        fields::{Field, Summary},
        page::{self, Refusal, Shell},
        posted::Posted,
        redirect,
        visitor::Customer,
    },
    knows_password,
};

/// For how many days a token may work.
const DAYS: [i32; 4] = [7, 30, 90, 365];
/// What is chosen until somebody chooses.
const USUAL_DAYS: i32 = 90;
/// The longest name, in characters.
const LONGEST_NAME: usize = 60;

/// One thing a token may do, as the form shows it.
struct Choice {
    scope: Scope,
    words: &'static str,
    chosen: bool,
}

/// One time a token may work for, as the form shows it.
struct Span {
    days: i32,
    chosen: bool,
}

fn spans(chosen: i32) -> Vec<Span> {
    DAYS.iter().map(|days| Span { days: *days, chosen: *days == chosen }).collect()
}

#[derive(Template)]
#[template(path = "page/tokens.html")]
struct TokensPage {
    shell: Shell,
    tokens: Vec<TokenLine>,
    /// Names the next token, so that the form sent twice makes one.
    next: Uuid,
    name: Field,
    password: Field,
    scopes: Field,
    choices: Vec<Choice>,
    spans: Vec<Span>,
}

impl TokensPage {
    async fn of(portal: &Portal, shell: Shell, account: domain::ids::AccountId) -> Result<Self, Refusal> {
        Ok(Self {
            shell,
            tokens: portal.store.tokens(account).await?,
            next: Uuid::new_v4(),
            name: Field::new("name", "Name", ""),
            password: Field::new("password", "Your password", ""),
            scopes: Field::new("scopes", "What it may do", ""),
            choices: Scope::ALL
                .iter()
                .map(|scope| Choice { scope: *scope, words: api::words(*scope), chosen: false })
                .collect(),
            spans: spans(USUAL_DAYS),
        })
    }

    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.name, &self.scopes, &self.password])
    }
}

/// The list, and the form for one more.
pub(crate) async fn list(State(portal): Shared, mut customer: Customer) -> Result<Response, Refusal> {
    let shell = customer.visitor.form_shell("account").await?;
    Ok(page::ok(&TokensPage::of(&portal, shell, customer.user.account).await?))
}

#[derive(Template)]
#[template(path = "page/token_made.html")]
struct Made {
    shell: Shell,
    name: String,
    days: i32,
    token: Zeroizing<String>,
}

/// Takes the form. The token is shown in the answer and never again.
pub(crate) async fn make(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let shell = posted.visitor.form_shell("account").await?;
    let id: Uuid = posted.text("token").parse().map_err(|_| Refusal::Unreadable)?;
    let mut page = TokensPage::of(&portal, shell, user.account).await?;
    let days = fill(&mut page, &posted)?;
    if !user.email_verified {
        page.name.refuse("Confirm your e-mail address first.");
    }
    if page.summary().is_empty() && !knows_password(&portal, &posted, &user, "password").await? {
        page.password.refuse("This is not your password.");
    }
    if !page.summary().is_empty() {
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    }
    let token = Token::new();
    let new = TokenMade {
        id,
        name: page.name.value.clone(),
        prefix: token.prefix(),
        token_hash: token.hash(),
        scopes: page.choices.iter().filter(|choice| choice.chosen).map(|choice| choice.scope).collect(),
        days,
    };
    let fault = match portal.store.make_token(&user, &new).await? {
        TokenHolding::Made => {
            tracing::info!(user = %user.id, token = %id, "a token was made");
            let made = Made { shell: page.shell, name: new.name, days: new.days, token: token.text() };
            return Ok(page::ok(&made));
        }
        TokenHolding::Before => {
            "This token was made already, and shown then. If you did not see it, revoke it and make another one."
        }
        TokenHolding::Full => "Twenty tokens work already. Revoke one that is not needed, then make this one.",
    };
    let mut page = TokensPage::of(&portal, page.shell, user.account).await?;
    page.name = Field::new("name", "Name", new.name);
    page.name.refuse(fault);
    Ok(page::render(StatusCode::CONFLICT, &page).into_response())
}

/// Reads the form into the page it is shown on again, and gives for how many days the token works.
fn fill(page: &mut TokensPage, posted: &Posted) -> Result<i32, Refusal> {
    page.name = Field::new("name", "Name", posted.text("name"));
    match page.name.value.chars().count() {
        0 => page.name.refuse("Write what it is for, such as “monitoring”."),
        number if number > LONGEST_NAME => page.name.refuse("Use at most 60 characters."),
        _ if page.name.value.chars().any(char::is_control) => page.name.refuse("Write it in one line."),
        _ => {}
    }
    for choice in &mut page.choices {
        choice.chosen = posted.text(choice.scope.as_str()) == "yes";
    }
    if !page.choices.iter().any(|choice| choice.chosen) {
        page.scopes.refuse("Choose at least one.");
    }
    let days = posted.text("days").parse().ok().filter(|days| DAYS.contains(days)).ok_or(Refusal::Unreadable)?;
    page.spans = spans(days);
    Ok(days)
}

/// Revokes one. One that is revoked already, or somebody else's, is left as it is.
pub(crate) async fn revoke(State(portal): Shared, posted: Posted) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let id: Uuid = posted.text("which").parse().map_err(|_| Refusal::Unreadable)?;
    portal.store.revoke_token(&user, id).await?;
    tracing::info!(user = %user.id, token = %id, "a token is revoked");
    Ok(redirect::see_other("/accounts/tokens/"))
}
