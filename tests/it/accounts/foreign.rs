//! Ids that stand in forms instead of paths: those of another account are worth nothing, whoever sends them, with the password and
//! a good token. Ids in paths are walked by `permissions.rs`; ids inside links are signed, and `reset.rs`, `address.rs`,
//! `invitations.rs`, `privacy/export.rs` and `privacy/erasure.rs` try them one by one.
use house::{Customer, House, HouseOptions, OrderForm, PolicySecs, Visitor};
use reqwest::header;
use serde_json::Value;
use store::Store;
use uuid::Uuid;

use super::{
    is_in, log_in,
    permissions::{MEMBERS, person},
};
use crate::{shop::open_with, world::table};

/// What may be changed by an id in a form.
const KEPT: [&str; 6] = ["members", "invitations", "api_tokens", "passkeys", "orders", "reservations"];

/// What there is of an account, by its ids.
struct Owned {
    account: String,
    member: String,
    invitation: String,
    token: String,
    passkey: String,
    session: String,
    order: String,
}

/// One form: where it goes, and its fields without token and password.
type Form<'a> = (&'static str, Vec<(&'static str, &'a str)>);

async fn text(house: &House, query: &'static str, of: &str) -> String {
    let found = sqlx::query_scalar(query).bind(of).fetch_one(house.db()).await;
    found.unwrap_or_else(|fault| panic!("{query}: {fault}"))
}

impl Owned {
    /// Gives an owner a member, an invitation, an order, another session, a token and a passkey.
    async fn by(house: &House, store: &Store, owner: &Customer, second: &Visitor) -> Self {
        let account = text(house, "select account_id::text from users where email = $1", &owner.email).await;
        person(house, store, Some(account.parse().expect("an id")), "technical").await;
        owner.order(&OrderForm::small("mine-alone")).await.expect("the payment page");
        log_in(second, &owner.email, &owner.password).await;
        assert!(is_in(second).await);
        let ids = [(); 3].map(|()| Uuid::new_v4());
        for (id, made) in ids.iter().zip([
            "insert into invitations (id, account_id, email, role, invited_by, expires_at)
             select $1, account_id, 'later@example.test', 'billing', id, now() + interval '7 days' from users where email = $2",
            "insert into api_tokens (id, account_id, user_id, name, prefix, token_hash, scopes, access_epoch, expires_at)
             select $1, account_id, id, 'theirs', 'ez_theirs', sha256('theirs'), array['account:read'], access_epoch,
                now() + interval '7 days'
             from users where email = $2",
            "insert into passkeys (id, user_id, credential_id, credential, name)
             select $1, id, sha256('theirs'), '{}'::jsonb, 'theirs' from users where email = $2",
        ]) {
            sqlx::query(made).bind(id).bind(&owner.email).execute(house.db()).await.expect("a row");
        }
        let of_member = "select user_id::text from members where account_id = $1::uuid and role = 'technical'";
        let of_session = "select s.handle::text from sessions s join users u on u.id = s.user_id where u.email = $1
            order by s.created_at desc limit 1";
        let of_order = "select id::text from orders where account_id = $1::uuid";
        Self {
            member: text(house, of_member, &account).await,
            session: text(house, of_session, &owner.email).await,
            order: text(house, of_order, &account).await,
            invitation: ids[0].to_string(),
            token: ids[1].to_string(),
            passkey: ids[2].to_string(),
            account,
        }
    }

    /// What its owner may send.
    fn forms(&self) -> Vec<Form<'_>> {
        vec![
            ("/accounts/members/role/", vec![("member", self.member.as_str()), ("role", "read_only")]),
            ("/accounts/members/withdraw/", vec![("invitation", self.invitation.as_str())]),
            ("/accounts/tokens/revoke/", vec![("which", self.token.as_str())]),
            ("/accounts/sessions/end/", vec![("which", self.session.as_str())]),
            // This one ends every other session.
            ("/accounts/factors/passkey/remove/", vec![("passkey", self.passkey.as_str())]),
        ]
    }

    /// What only somebody else has a reason to send.
    fn more_forms(&self) -> Vec<Form<'_>> {
        let order = [("hostname", "stolen-1"), ("image", "debian-13"), ("ssh_key", ""), ("term", "monthly")];
        let mut checkout = vec![("order", self.order.as_str())];
        checkout.extend(order);
        vec![
            ("/accounts/members/remove/", vec![("member", self.member.as_str())]),
            ("/accounts/members/hand-over/", vec![("member", self.member.as_str()), ("then", "read_only")]),
            ("/accounts/current/", vec![("account", self.account.as_str())]),
            ("/billing/checkout/small/", checkout),
        ]
    }
}

/// Sends a form with a good token and the password, and gives status and where it leads.
async fn force(visitor: &Visitor, password: &str, (path, fields): &Form<'_>) -> (u16, String) {
    let page = visitor.open("/accounts/logout/").await.expect("a page").ok().expect("a form");
    let csrf = page.attributes("main input[name=csrf]", "value").remove(0);
    let mut all = vec![("csrf", csrf.as_str()), ("password", password)];
    all.extend(fields);
    let url = visitor.home.join(path).expect("a path");
    let answer = visitor.http.post(url).form(&all).send().await.expect("an answer");
    let to = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    (answer.status().as_u16(), to.to_owned())
}

async fn rows(house: &House) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for name in KEPT {
        rows.push(table(house.db(), name).await);
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_of_another_account_in_a_form_is_worth_nothing_whoever_sends_it() {
    // An order that nobody pays stays as it is for longer than this lasts.
    let policy = PolicySecs { payment_window: 3_600, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("foreign-ids") }).await;
    let store = Store::connect(house.database_url().as_str(), 4).expect("the store");
    let (owner, other) = (
        Customer::signed_in(&house).await.expect("an owner"),
        Customer::signed_in(&house).await.expect("the owner of another account"),
    );
    let second = house.visitor().expect("a browser");
    let goods = Owned::by(&house, &store, &owner, &second).await;
    let theirs = text(&house, "select account_id::text from users where email = $1", &other.email).await;
    let theirs: Uuid = theirs.parse().expect("an id");
    let mut people = vec![("admin", person(&house, &store, None, "admin").await)];
    for role in MEMBERS {
        people.push((role, person(&house, &store, Some(theirs), role).await));
    }
    // All of them know one password.
    let shared = "update users u set password_hash = o.password_hash from users o
        where o.email = $1 and u.password_hash = ''";
    sqlx::query(shared).bind(&other.email).execute(house.db()).await.expect("a password");
    let order_page = format!("/dashboard/orders/{}/", goods.order);

    let before = rows(&house).await;
    let mut taken = 0;
    for (who, visitor) in &people {
        for form in goods.forms().iter().chain(&goods.more_forms()) {
            let (status, to) = force(visitor, &other.password, form).await;
            assert!([303, 403, 404, 409].contains(&status), "{} as {who}: {status}", form.0);
            assert!(!to.starts_with("/accounts/login/") && !to.contains(&goods.order), "{} as {who}: {to}", form.0);
            taken += usize::from(status == 303);
        }
        let seen = visitor.open(&order_page).await.expect("a page").status;
        assert_eq!(seen == 200, *who == "admin", "{who} sees an order of another account: {seen}");
    }
    // Forms about what is over, or was never theirs, lead on without a word: those went through to their handlers.
    assert!(taken >= people.len() * 2, "only {taken} forms got as far as their handlers");
    assert_eq!(rows(&house).await, before, "an id in a form changed what is another account's");
    assert!(is_in(&owner.visitor).await && is_in(&second).await, "an id in a form logged somebody out");

    // The same forms work for whose they are.
    for form in goods.forms() {
        let (status, _) = force(&owner.visitor, &owner.password, &form).await;
        assert_eq!(status, 200, "{}", form.0);
    }
    let after = rows(&house).await;
    for (at, name) in KEPT.iter().enumerate().take(4) {
        assert_ne!(after[at], before[at], "the form about {name} did nothing for its owner either");
    }
    assert!(!is_in(&second).await, "the form about a session did nothing for its owner either");
}
