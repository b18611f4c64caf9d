//! Invitations to an account: for one person, once, for a week.
use house::{Customer, House, Page};
use url::Url;

use super::{assert_stale, is_in, log_in, send};
use crate::{
    shop::{SOON, open},
    world::count,
};

/// Invites an address as an owner would.
pub(crate) async fn invite(owner: &Customer, email: &str, role: &str) -> Page {
    let values = [("email", email), ("role", role)];
    send(&owner.visitor, "/accounts/members/", "/accounts/members/invite/", &values).await
}

/// The link of the newest of so many invitations to an address.
pub(crate) async fn link(house: &House, email: &str, nth: usize) -> Url {
    let letter = house.mail().wait_for(email, "You are invited", nth, SOON).await.expect("the letter");
    letter.link("/accounts/invitation/").expect("a link")
}

/// Somebody who was invited and took it.
pub(crate) async fn member(house: &House, owner: &Customer, role: &str) -> Customer {
    let guest = Customer::signed_in(house).await.expect("a guest");
    let sent = invite(owner, &guest.email, role).await;
    assert!(sent.status == 200 && sent.text().contains("on its way"), "{}", sent.text());
    let page = take(&guest, &link(house, &guest.email, 1).await).await;
    assert_eq!((page.status, page.url.path()), (200, "/dashboard/"), "{}", page.text());
    guest
}

pub(super) async fn take(guest: &Customer, link: &Url) -> Page {
    let page = guest.visitor.open(link.as_str()).await.expect("the invitation").ok().expect("the invitation");
    guest.visitor.submit(&page, "/accounts/invitation/", &[]).await.expect("an answer")
}

/// The accounts a person sees as theirs, and what they are there.
pub(super) async fn roles(house: &House, email: &str) -> Vec<String> {
    sqlx::query_scalar(
        "select m.role from members m join users u on u.id = m.user_id where u.email = $1 order by m.created_at",
    )
    .bind(email)
    .fetch_all(house.db())
    .await
    .expect("the table")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_works_once_for_whom_it_was_sent_to() {
    let house = open("invitations").await;
    let owner = Customer::signed_in(&house).await.expect("an owner");
    let guest = Customer::signed_in(&house).await.expect("a guest");
    let thief = Customer::signed_in(&house).await.expect("a thief");
    assert_eq!(invite(&owner, "nobody", "technical").await.status, 422);

    assert_eq!(invite(&owner, &guest.email, "technical").await.status, 200);
    let link = link(&house, &guest.email, 1).await;
    let page = thief.visitor.open(link.as_str()).await.expect("a page").ok().expect("a page");
    assert!(page.text().contains("another address") && !page.has_form("/accounts/invitation/"), "{}", page.text());
    // The form is sent although the page offers none.
    let csrf = page.attributes("header input[name=csrf]", "value").remove(0);
    let of = |name: &str| link.query_pairs().find(|(key, _)| key == name).expect("a part").1.into_owned();
    let fields = [("csrf", csrf), ("id", of("id")), ("tag", of("tag"))];
    let path = house.url().join("/accounts/invitation/").expect("a path");
    let answer = thief.visitor.http.post(path).form(&fields).send().await.expect("an answer");
    assert_eq!(answer.status(), 403, "somebody else took it");
    assert_eq!(roles(&house, &thief.email).await, ["owner"], "somebody else belongs to the account");

    let page = guest.visitor.open(link.as_str()).await.expect("a page").ok().expect("the invitation");
    assert!(page.text().contains(&owner.email) && page.text().contains("Technical"), "{}", page.text());
    let press = || guest.visitor.submit(&page, "/accounts/invitation/", &[]);
    let (one, two) = tokio::join!(press(), press());
    let pages = [one.expect("an answer"), two.expect("an answer")];
    let won = pages.iter().filter(|page| page.url.path() == "/dashboard/").count();
    assert_eq!(won, 1, "it worked {won} times: {:?}", pages.map(|page| (page.status, page.text())));
    assert_eq!(roles(&house, &guest.email).await, ["owner", "technical"]);
    assert_stale(&guest.visitor.open(link.as_str()).await.expect("a page"), "used already", "/accounts/members/");
    let seen = owner.visitor.open("/accounts/members/").await.expect("a page").ok().expect("the members");
    assert!(seen.text().contains(&guest.email), "{}", seen.text());
    assert_eq!(invite(&owner, &guest.email, "owner").await.status, 422, "whoever belongs to it was invited");
    assert_eq!(count(house.db(), "select count(*) from letters where occasion like '%@%'").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_new_makes_a_log_in_with_the_invitation_and_it_is_their_address() {
    let house = open("invitation-new").await;
    let owner = Customer::signed_in(&house).await.expect("an owner");
    let guest = Customer::stranger(&house).expect("a stranger");
    assert_eq!(invite(&owner, &guest.email, "read_only").await.status, 200);
    let link = link(&house, &guest.email, 1).await;
    let page = guest.visitor.open(link.as_str()).await.expect("a page").ok().expect("the invitation");
    let join = async |values: &[(&str, &str)]| {
        guest.visitor.submit(&page, "/accounts/invitation/join/", values).await.expect("an answer")
    };
    let weak = join(&[("name", "Grace"), ("password", "short")]).await;
    assert_eq!((weak.status, weak.attributes("#faults a", "href")), (422, vec!["#password".to_owned()]));
    let done = join(&[("name", "Grace"), ("password", &guest.password)]).await;
    assert_eq!((done.status, done.url.path()), (200, "/dashboard/"), "{}", done.text());
    assert_eq!(roles(&house, &guest.email).await, ["owner", "read_only"]);
    let confirmed = "select count(*) from users where email_verified_at is null";
    assert_eq!(count(house.db(), confirmed).await, 0, "the address the link was read at is not confirmed");
    let browser = house.visitor().expect("a browser");
    log_in(&browser, &guest.email, &guest.password).await;
    assert!(is_in(&browser).await, "the log-in that was made does not work");
    let again = join(&[("name", "Grace"), ("password", &guest.password)]).await;
    assert!(again.status != 200, "it worked twice: {}", again.text());
    assert_eq!(count(house.db(), "select count(*) from users where name = 'Grace'").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_that_is_old_garbled_or_taken_back_says_what_to_do() {
    let house = open("invitation-links").await;
    let owner = Customer::signed_in(&house).await.expect("an owner");
    let guest = Customer::signed_in(&house).await.expect("a guest");
    invite(&owner, &guest.email, "billing").await;
    let first = link(&house, &guest.email, 1).await;
    let whole = first.as_str();
    let nobodys = format!("/accounts/invitation/?id={}&tag=x", uuid::Uuid::new_v4());
    for garbled in [&whole[..whole.len() - 4], &format!("{whole}x"), &nobodys, "/accounts/invitation/"] {
        let page = guest.visitor.open(garbled).await.expect("a page");
        assert_stale(&page, "does not work", "/accounts/members/");
    }
    // A newer one makes the one before worthless.
    invite(&owner, &guest.email, "technical").await;
    let second = link(&house, &guest.email, 2).await;
    assert_stale(&guest.visitor.open(whole).await.expect("a page"), "used already", "/accounts/members/");

    let page = guest.visitor.open(second.as_str()).await.expect("a page").ok().expect("the invitation");
    let press = async || guest.visitor.submit(&page, "/accounts/invitation/", &[]).await.expect("an answer");
    let later = "update invitations set expires_at = expires_at - interval '7 days'";
    sqlx::query(later).execute(house.db()).await.expect("time passes");
    assert_stale(&press().await, "too old", "/accounts/members/");
    let sooner = "update invitations set expires_at = expires_at + interval '7 days'";
    sqlx::query(sooner).execute(house.db()).await.expect("time goes back");
    let open = owner.visitor.open("/accounts/members/").await.expect("a page").ok().expect("the members");
    let back = owner.visitor.submit(&open, "/accounts/members/withdraw/", &[]).await.expect("an answer");
    assert_eq!(back.texts("#invitations tbody tr").len(), 0, "{}", back.text());
    assert_stale(&press().await, "used already", "/accounts/members/");
    assert_eq!(roles(&house, &guest.email).await, ["owner"], "a worthless link worked");

    // Whoever does not own the account any more invites nobody, also not by what they sent before.
    let partner = member(&house, &owner, "owner").await;
    invite(&partner, &guest.email, "owner").await;
    let third = link(&house, &guest.email, 3).await;
    super::members::press(&house, &owner, "/accounts/members/role/", &partner, &[("role", "billing")]).await;
    assert_stale(&guest.visitor.open(third.as_str()).await.expect("a page"), "used already", "/accounts/members/");
}
