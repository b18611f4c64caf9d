//! Tokens of programs: shown once, stored as a hash, and worth no more than they say.
use house::{Customer, House, OrderForm, Page};
use reqwest::{StatusCode, header};
use serde_json::Value;

use super::{
    invitations::{member, roles},
    is_in, log_in,
    members::press,
    send,
};
use crate::{
    factors::add_app,
    shop::{SOON, open},
    world::count,
};

const PAGE: &str = "/accounts/tokens/";
const SERVICES: &str = "/api/v1/services/";
const ACCOUNT: &str = "/api/v1/account/";

/// Fills the form; `scopes` are the boxes that are ticked.
async fn ask(customer: &Customer, name: &str, scopes: &[&str], password: &str) -> Page {
    let mut values = vec![("name", name), ("password", password), ("days", "30")];
    values.extend(scopes.iter().map(|scope| (*scope, "yes")));
    send(&customer.visitor, PAGE, PAGE, &values).await
}

/// Makes a token and gives what is shown.
async fn make(customer: &Customer, name: &str, scopes: &[&str]) -> String {
    let page = ask(customer, name, scopes, &customer.password).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let shown = page.texts("#token");
    assert!(shown.len() == 1 && shown[0].starts_with("ez_") && shown[0].len() == 46, "{shown:?}");
    shown[0].clone()
}

/// Asks as a program does, without any cookie.
async fn call(house: &House, path: &str, token: &str) -> (StatusCode, String, Value) {
    let program = reqwest::Client::new();
    let url = house.url().join(path).expect("a path");
    let answer = program.get(url).bearer_auth(token).send().await.expect("an answer");
    let status = answer.status();
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store", "a cache keeps it");
    assert!(!answer.headers().contains_key(header::SET_COOKIE), "a program gets a session");
    let challenge = answer.headers().get(header::WWW_AUTHENTICATE).map(|line| line.to_str().expect("text").to_owned());
    (status, challenge.unwrap_or_default(), answer.json().await.expect("JSON"))
}

async fn status(house: &House, path: &str, token: &str) -> u16 {
    call(house, path, token).await.0.as_u16()
}

async fn revoke(customer: &Customer, name: &str) {
    let page = customer.visitor.open(PAGE).await.expect("a page").ok().expect("the list");
    let rows = page.texts("main tbody tr");
    let living: Vec<&String> = rows.iter().filter(|row| row.ends_with(&format!("Revoke {name}"))).collect();
    assert_eq!(living.len(), 1, "{rows:?}");
    let nth = rows.iter().filter(|row| row.contains("Revoke ")).position(|row| row == living[0]).expect("its button");
    let which = page.attributes("main tbody input[name=which]", "value")[nth].clone();
    let answer = customer.visitor.submit(&page, "/accounts/tokens/revoke/", &[("which", &which)]).await;
    assert_eq!(answer.expect("an answer").status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_reads_what_its_scopes_say_of_its_own_account_until_it_is_revoked() {
    let house = open("tokens").await;
    let (ada, eve) =
        (Customer::signed_in(&house).await.expect("one"), Customer::signed_in(&house).await.expect("other"));
    let order = ada.buy(&OrderForm::small("token-1")).await.expect("buying");
    ada.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    let both = make(&ada, "both", &["account:read", "services:read"]).await;
    let narrow = make(&ada, "narrow", &["account:read"]).await;
    let theirs = make(&eve, "theirs", &["services:read"]).await;

    let (code, _, told) = call(&house, SERVICES, &both).await;
    assert_eq!(code, 200, "{told}");
    let services = told["services"].as_array().expect("a list");
    assert_eq!((services.len(), services[0]["hostname"].as_str()), (1, Some("token-1")), "{told}");
    assert_eq!(services[0]["status"], "running", "{told}");
    let (_, _, told) = call(&house, SERVICES, &theirs).await;
    assert_eq!(told["services"], Value::Array(vec![]), "another account's servers are told");
    let (code, _, told) = call(&house, ACCOUNT, &narrow).await;
    assert_eq!((code.as_u16(), told["scopes"].to_string()), (200, r#"["account:read"]"#.to_owned()), "{told}");

    let (code, challenge, told) = call(&house, SERVICES, &narrow).await;
    assert_eq!((code.as_u16(), told["error"].as_str()), (403, Some("insufficient_scope")), "{told}");
    assert!(challenge.contains("services:read"), "{challenge}");
    let (code, challenge, told) = call(&house, SERVICES, "ez_nonsense").await;
    assert_eq!((code.as_u16(), told["error"].as_str()), (401, Some("invalid_token")), "{told}");
    assert!(challenge.starts_with("Bearer"), "{challenge}");
    assert_eq!(status(&house, SERVICES, &format!("ez_{}", "A".repeat(43))).await, 401, "a guess");
    assert_eq!(status(&house, SERVICES, &both[..both.len() - 1]).await, 401, "a part of it");
    // A session is no token, and a token no session.
    assert_eq!(ada.visitor.open(SERVICES).await.expect("an answer").status, 401);
    let dashboard = house.url().join("/dashboard/").expect("a path");
    let careful = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    assert_eq!(careful.get(dashboard).bearer_auth(&both).send().await.expect("an answer").status(), 303);
    let posted = careful.post(house.url().join(SERVICES).expect("a path")).bearer_auth(&both).send().await;
    assert_eq!(posted.expect("an answer").status(), 405);

    let page = ada.visitor.open(PAGE).await.expect("a page").ok().expect("the list");
    assert!(page.text().contains("127.0.0.1") && page.text().contains(&both[..9]), "{}", page.text());
    assert!(!page.html.contains(&both) && !page.text().contains("theirs"), "{}", page.text());
    let foreign: uuid::Uuid = sqlx::query_scalar("select id from api_tokens where name = 'theirs'")
        .fetch_one(house.db())
        .await
        .expect("a token");
    let wrong = ada.visitor.submit(&page, "/accounts/tokens/revoke/", &[("which", &foreign.to_string())]).await;
    assert_eq!(wrong.expect("an answer").status, 200);
    assert_eq!(status(&house, SERVICES, &theirs).await, 200, "somebody else revoked it");
    revoke(&ada, "both").await;
    assert_eq!(status(&house, SERVICES, &both).await, 401, "it works although it was revoked");
    assert_eq!(status(&house, ACCOUNT, &narrow).await, 200, "another one was revoked");

    let rows: Vec<String> = sqlx::query_scalar("select to_jsonb(t)::text from api_tokens t")
        .fetch_all(house.db())
        .await
        .expect("the tokens");
    assert!(
        rows.len() == 3 && rows.iter().all(|row| ![&both, &narrow, &theirs].iter().any(|token| row.contains(*token)))
    );
    let noted = "select count(*) from audit where action in ('token.made', 'token.revoked') and actor_kind = 'user'";
    assert_eq!(count(house.db(), noted).await, 4, "the trail does not know of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ends_by_itself_and_with_every_session_of_whoever_made_it() {
    let house = open("tokens-end").await;
    let mut customer = Customer::signed_in(&house).await.expect("a customer");
    let short = make(&customer, "short", &["account:read"]).await;
    let kept = "select count(*) from api_tokens where expires_at between now() + interval '29 days' and now() + interval '31 days'";
    assert_eq!(count(house.db(), kept).await, 1);
    sqlx::query("update api_tokens set expires_at = now() - interval '1 second'")
        .execute(house.db())
        .await
        .expect("late");
    assert_eq!(status(&house, ACCOUNT, &short).await, 401, "it works for ever");
    let page = customer.visitor.open(PAGE).await.expect("a page").ok().expect("the list").text();
    assert!(page.contains("Too old"), "{page}");

    let long = make(&customer, "long", &["account:read"]).await;
    assert_eq!(status(&house, ACCOUNT, &long).await, 200);
    let values = [("old", customer.password.as_str()), ("password", "green bottle on sand")];
    assert_eq!(send(&customer.visitor, "/accounts/password/", "/accounts/password/", &values).await.status, 200);
    assert_eq!(status(&house, ACCOUNT, &long).await, 401, "it outlived the password");
    "green bottle on sand".clone_into(&mut customer.password);
    let earlier = make(&customer, "earlier", &["account:read"]).await;
    assert_eq!(status(&house, ACCOUNT, &earlier).await, 200);
    for page in [PAGE, "/accounts/factors/"] {
        let said = customer.visitor.open(page).await.expect("a page").ok().expect("the page").text();
        assert!(said.contains("every token you made"), "{page} does not say what ends a token: {said}");
    }
    add_app(&customer).await;
    assert_eq!(status(&house, ACCOUNT, &earlier).await, 401, "it outlived a change of second factors");
    let last = make(&customer, "last", &["account:read"]).await;
    let values = [("password", customer.password.as_str()), ("sure", "yes")];
    send(&customer.visitor, "/accounts/close/", "/accounts/close/", &values).await;
    assert_eq!(status(&house, ACCOUNT, &last).await, 401, "it outlived the account");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_made_with_the_password_once_for_each_form_and_not_without_a_scope_or_a_name() {
    let house = open("tokens-form").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let made = "select count(*) from api_tokens";
    let long = "x".repeat(61);
    let password = customer.password.as_str();
    let cases: [(&str, &[&str], &str, &str); 4] = [
        ("", &["account:read"], password, "#name"),
        (&long, &["account:read"], password, "#name"),
        ("backup", &[], password, "#scopes"),
        ("backup", &["account:read"], "not my password", "#password"),
    ];
    for (name, scopes, password, field) in cases {
        let page = ask(&customer, name, scopes, password).await;
        assert_eq!((page.status, page.attributes("#faults a", "href")), (422, vec![field.to_owned()]), "{name}");
        assert!(page.texts("#token").is_empty());
    }
    assert_eq!(count(house.db(), made).await, 0);

    let form = customer.visitor.open(PAGE).await.expect("a page").ok().expect("the form");
    let values = [("name", "twice"), ("password", customer.password.as_str()), ("days", "7"), ("account:read", "yes")];
    let first = customer.visitor.submit(&form, PAGE, &values).await.expect("an answer");
    let second = customer.visitor.submit(&form, PAGE, &values).await.expect("an answer");
    assert_eq!((first.status, second.status), (200, 409), "{}", second.text());
    assert!(second.texts("#token").is_empty() && second.text().contains("was made already"), "{}", second.text());
    assert_eq!(count(house.db(), made).await, 1, "one form made two");
    let unknown = customer.visitor.submit(&form, PAGE, &[("days", "7"), ("token", "no id")]).await.expect("an answer");
    assert_eq!(unknown.status, 400);

    sqlx::query(
        "insert into api_tokens (id, account_id, user_id, name, prefix, token_hash, scopes, access_epoch, expires_at)
         select gen_random_uuid(), account_id, user_id, n::text, prefix, sha256(convert_to(n::text, 'UTF8')), scopes,
            access_epoch, expires_at
         from api_tokens, generate_series(1, 19) n",
    )
    .execute(house.db())
    .await
    .expect("many");
    let full = ask(&customer, "one more", &["account:read"], &customer.password).await;
    assert!(full.status == 409 && full.text().contains("Twenty"), "{} {}", full.status, full.text());

    let stranger = house.visitor().expect("a browser");
    assert!(!is_in(&stranger).await);
    assert_eq!(stranger.open(PAGE).await.expect("a page").url.path(), "/accounts/login/");
    log_in(&stranger, &customer.email, &customer.password).await;
    assert!(stranger.open(PAGE).await.expect("a page").ok().expect("the list").text().contains("twice"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_works_for_as_long_as_its_maker_owns_the_account_and_the_trail_says_who_changed_that() {
    let house = open("token-owner").await;
    let owner = Customer::signed_in(&house).await.expect("an owner");
    let token = make(&owner, "handed over", &["account:read"]).await;
    let heir = member(&house, &owner, "billing").await;
    assert_eq!(status(&house, ACCOUNT, &token).await, 200, "a member more ends nothing");
    let page = press(&house, &owner, "/accounts/members/hand-over/", &heir, &[("then", "billing")]).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(roles(&house, &heir.email).await, ["owner", "owner"]);
    assert_eq!(status(&house, ACCOUNT, &token).await, 401, "whoever owns nothing here still reads it by a program");
    for (action, number) in
        [("invitation.made", 1), ("invitation.taken", 1), ("member.changed", 2), ("token.revoked", 1)]
    {
        let noted: i64 = sqlx::query_scalar(
            "select count(*) from audit where action = $1 and actor_kind = 'user' and account_id = (
                select account_id from members where role = 'billing'
             )",
        )
        .bind(action)
        .fetch_one(house.db())
        .await
        .expect("the trail");
        assert_eq!(noted, number, "{action}");
    }
    // Owning it again wakes nothing up.
    let page = press(&house, &heir, "/accounts/members/role/", &owner, &[("role", "owner")]).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(status(&house, ACCOUNT, &token).await, 401, "a token of before the hand-over lives again");
    let listed = heir.visitor.open(PAGE).await.expect("a page").ok().expect("the list").text();
    assert!(listed.contains("handed over") && !listed.contains("Revoke handed over"), "{listed}");
}
