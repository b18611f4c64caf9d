//! Who belongs to an account: what each may do, and how it changes while others change it, too.
use house::{Customer, House, OrderForm, Page};

use super::{
    invitations::{invite, link, member, roles},
    send,
};
use crate::{
    shop::{SOON, open},
    world::count,
};

async fn id_of(house: &House, email: &str) -> String {
    sqlx::query_scalar("select id::text from users where email = $1")
        .bind(email)
        .fetch_one(house.db())
        .await
        .expect("the table")
}

/// Sends one of the forms about a member.
pub(super) async fn press(
    house: &House,
    by: &Customer,
    action: &str,
    about: &Customer,
    values: &[(&str, &str)],
) -> Page {
    let member = id_of(house, &about.email).await;
    let mut all = vec![("member", member.as_str())];
    all.extend(values);
    send(&by.visitor, "/accounts/members/", action, &all).await
}

/// Makes an account one looks at the one with this name, by the page.
async fn choose(person: &Customer, account: &str) {
    send(&person.visitor, "/accounts/members/", "/accounts/current/", &[("account", account)]).await;
}

async fn account_of(house: &House, email: &str) -> String {
    sqlx::query_scalar("select account_id::text from users where email = $1")
        .bind(email)
        .fetch_one(house.db())
        .await
        .expect("the table")
}

async fn owners(house: &House, account: &str) -> i64 {
    sqlx::query_scalar("select count(*) from members where account_id = $1::uuid and role = 'owner'")
        .bind(account)
        .fetch_one(house.db())
        .await
        .expect("the table")
}

/// The path of an order of somebody's, which nobody has paid.
async fn ordered(house: &House, owner: &Customer, hostname: &str) -> String {
    owner.order(&OrderForm::small(hostname)).await.expect("the payment page");
    let id: String = sqlx::query_scalar("select id::text from orders where hostname = $1")
        .bind(hostname)
        .fetch_one(house.db())
        .await
        .expect("the table");
    format!("/dashboard/orders/{id}/")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_sees_the_account_they_choose_and_loses_it_at_once_when_taken_out() {
    let house = open("member-removed").await;
    let owner = Customer::signed_in(&house).await.expect("an owner");
    let order = ordered(&house, &owner, "shared-1").await;
    let guest = member(&house, &owner, "billing").await;
    let status = async |path: &str| guest.visitor.open(path).await.expect("a page").status;
    assert_eq!(status(&order).await, 200, "a member does not see the account's order");
    let (shared, own) = (account_of(&house, &owner.email).await, account_of(&house, &guest.email).await);
    assert_ne!(shared, own);

    // A form of one account is worth nothing when another one is looked at.
    let stale = guest.visitor.open("/billing/checkout/small/").await.expect("a page").ok().expect("the form");
    choose(&guest, &own).await;
    assert_eq!(status(&order).await, 404, "another account's order is seen");
    let values = [("hostname", "stale-1")];
    let refused = guest.visitor.submit(&stale, "/billing/checkout/", &values).await.expect("an answer");
    assert_eq!(refused.status, 403, "{}", refused.text());
    choose(&guest, &shared).await;
    assert_eq!(status(&order).await, 200);
    let second = house.visitor().expect("a browser");
    super::log_in(&second, &guest.email, &guest.password).await;
    let begun = second.open(&order).await.expect("a page").status;
    assert_eq!(begun, 200, "a new session does not begin in the account chosen last");

    let stale = guest.visitor.open("/billing/checkout/small/").await.expect("a page").ok().expect("the form");
    let events = guest.visitor.home.join(&format!("{order}events")).expect("a path");
    let mut live = guest.visitor.http.get(events).send().await.expect("a live page");
    assert_eq!(live.status(), 200);
    let page = press(&house, &owner, "/accounts/members/remove/", &guest, &[]).await;
    assert_eq!(page.status, 200, "{}", page.text());
    // The browser would hang up later than it takes, and that would be a fault.
    while live.chunk().await.expect("a live page goes on for whoever was taken out").is_some() {}
    assert!(!page.text().contains(&guest.email), "{}", page.text());
    assert_eq!(status(&order).await, 404, "a session outlived the membership");
    assert_eq!(second.open(&order).await.expect("a page").status, 404, "another session did");
    let refused = guest.visitor.submit(&stale, "/billing/checkout/", &values).await.expect("an answer");
    assert_eq!(refused.status, 403, "a form outlived the membership: {}", refused.text());
    choose_by_force(&guest, &shared).await;
    assert_eq!(status(&order).await, 404, "an account was chosen by force");
    assert_eq!(count(house.db(), "select count(*) from orders where hostname = 'stale-1'").await, 0);
    assert_eq!(status("/dashboard/").await, 200, "their own account is lost, too");
    house.mail().wait_for(&guest.email, "has changed", 1, SOON).await.expect("a letter tells");
}

/// Sends the form that chooses an account although no page offers it.
async fn choose_by_force(person: &Customer, account: &str) {
    let page = person.visitor.open("/accounts/logout/").await.expect("a page").ok().expect("a form");
    let csrf = page.attributes("main input[name=csrf]", "value").remove(0);
    let path = person.visitor.home.join("/accounts/current/").expect("a path");
    let fields = [("csrf", csrf.as_str()), ("account", account)];
    let answer = person.visitor.http.post(path).form(&fields).send().await.expect("an answer");
    assert_eq!(answer.status(), 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_owners_who_take_each_other_out_at_once_leave_one() {
    let house = open("member-race").await;
    let one = Customer::signed_in(&house).await.expect("an owner");
    let account = account_of(&house, &one.email).await;
    let two = member(&house, &one, "owner").await;
    let (first, second) = (id_of(&house, &one.email).await, id_of(&house, &two.email).await);
    for action in ["/accounts/members/role/", "/accounts/members/remove/"] {
        assert_eq!(owners(&house, &account).await, 2);
        let page = |by: &Customer| {
            let visitor = by.visitor.clone();
            async move { visitor.open("/accounts/members/").await.expect("a page").ok().expect("the members") }
        };
        let (ones, twos) = (page(&one).await, page(&two).await);
        let to_second = [("member", second.as_str())];
        let to_first = [("member", first.as_str())];
        let role = ("role", "billing");
        let mut ones_values = to_second.to_vec();
        let mut twos_values = to_first.to_vec();
        if action.ends_with("/role/") {
            ones_values.push(role);
            twos_values.push(role);
        }
        let (a, b) = tokio::join!(
            one.visitor.submit(&ones, action, &ones_values),
            two.visitor.submit(&twos, action, &twos_values)
        );
        let pages = [a.expect("an answer"), b.expect("an answer")];
        let told: Vec<_> = pages.iter().map(|page| (page.status, page.text())).collect();
        assert_eq!(owners(&house, &account).await, 1, "{action}: {told:#?}");
        assert!(pages.iter().any(|page| page.status != 200), "{action}: both were told that it is done: {told:#?}");
        sqlx::query(
            "insert into members (account_id, user_id, role) select $1::uuid, id, 'owner' from users where email = any($2)
             on conflict (account_id, user_id) do update set role = 'owner'",
        )
        .bind(&account)
        .bind(vec![one.email.clone(), two.email.clone()])
        .execute(house.db())
        .await
        .expect("both again");
        for person in [&one, &two] {
            let page = person.visitor.open("/accounts/members/").await.expect("a page").ok().expect("the members");
            // Whoever has one account only is asked for none.
            if page.has_form("/accounts/current/") {
                choose(person, &account).await;
            }
        }
    }
    let homeless = "select count(*) from users u where not exists (
        select 1 from members m where m.user_id = u.id and m.account_id = u.account_id and m.role = 'owner')";
    assert_eq!(count(house.db(), homeless).await, 0, "somebody owns no account");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_handed_over_and_is_never_without_an_owner() {
    let house = open("member-owner").await;
    let owner = Customer::signed_in(&house).await.expect("an owner");
    let heir = member(&house, &owner, "technical").await;
    let account = account_of(&house, &owner.email).await;
    for (action, values) in
        [("/accounts/members/role/", vec![("role", "billing")]), ("/accounts/members/leave/", vec![])]
    {
        let refused = if action.ends_with("/leave/") {
            send(&owner.visitor, "/accounts/members/", action, &[]).await
        } else {
            press(&house, &owner, action, &owner, &values).await
        };
        assert!(refused.status == 409 && refused.text().contains("always has an owner"), "{}", refused.text());
    }
    let close = [("password", owner.password.as_str()), ("sure", "yes")];
    let page = owner.visitor.open("/accounts/close/").await.expect("a page").ok().expect("the reasons");
    assert!(page.text().contains("nobody else owns it") && !page.has_form("/accounts/close/"), "{}", page.text());

    let page = press(&house, &owner, "/accounts/members/hand-over/", &heir, &[("then", "read_only")]).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(roles(&house, &heir.email).await, ["owner", "owner"]);
    assert_eq!(
        roles(&house, &owner.email).await,
        ["read_only", "owner"],
        "whoever handed it over has none of their own"
    );
    for person in [&owner, &heir] {
        house.mail().wait_for(&person.email, "has changed", 1, SOON).await.expect("a letter tells");
    }
    assert!(!owner.visitor.open("/accounts/members/").await.expect("a page").has_form("/accounts/members/invite/"));
    let left = send(&owner.visitor, "/accounts/members/", "/accounts/members/leave/", &[]).await;
    assert_eq!(left.status, 200, "{}", left.text());
    assert_eq!(roles(&house, &owner.email).await, ["owner"]);
    assert_eq!(owners(&house, &account).await, 1);
    let done = send(&owner.visitor, "/accounts/close/", "/accounts/close/", &close).await;
    assert!(done.status == 200 && done.text().contains("is closed"), "{}", done.text());
    let closed = "select count(*) from accounts where closed_at is not null";
    assert_eq!(count(house.db(), closed).await, 1, "an account somebody else owns was closed");
    let seen = heir.visitor.open("/accounts/members/").await.expect("a page").ok().expect("the members");
    assert_eq!(seen.texts("#members tbody tr").len(), 1, "{}", seen.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_changes_nothing_in_an_account_of_others() {
    let house = open("member-foreign").await;
    let owner = Customer::signed_in(&house).await.expect("an owner");
    let friend = member(&house, &owner, "technical").await;
    let stranger = Customer::signed_in(&house).await.expect("a stranger");
    let guest = member(&house, &stranger, "technical").await;
    invite(&owner, "later@example.test", "billing").await;
    link(&house, "later@example.test", 1).await;
    let invitation: String = sqlx::query_scalar("select id::text from invitations where email = 'later@example.test'")
        .fetch_one(house.db())
        .await
        .expect("the table");
    let before = crate::world::table(house.db(), "members").await;
    for action in ["role", "remove", "hand-over"] {
        let values: &[(&str, &str)] = match action {
            "role" => &[("role", "read_only")],
            "hand-over" => &[("then", "read_only")],
            _ => &[],
        };
        let path = format!("/accounts/members/{action}/");
        let answer = press(&house, &stranger, &path, &friend, values).await;
        assert!(answer.status == 409 && answer.text().contains("do not belong"), "{action}: {}", answer.text());
    }
    let page = stranger.visitor.open("/accounts/logout/").await.expect("a page").ok().expect("a form");
    let csrf = page.attributes("main input[name=csrf]", "value").remove(0);
    let path = house.url().join("/accounts/members/withdraw/").expect("a path");
    let fields = [("csrf", csrf), ("invitation", invitation)];
    stranger.visitor.http.post(path).form(&fields).send().await.expect("an answer");
    assert_eq!(crate::world::table(house.db(), "members").await, before, "somebody else's account was changed");
    let open = "select count(*) from invitations where withdrawn_at is null and used_at is null";
    assert_eq!(count(house.db(), open).await, 1, "somebody else's invitation was taken back");
    assert_eq!(roles(&house, &guest.email).await, ["owner", "technical"]);
}
