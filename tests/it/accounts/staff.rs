//! Who works here, as what, and from where.
use house::{Customer, House, Page, Visitor};

use super::{FIREFOX, behind_a_proxy, browser_at, is_in, log_in, send};
use crate::{
    attention::staff,
    shop::{open, open_with},
    world::count,
};

/// Says what somebody does here, by the page.
pub(crate) async fn make(admin: &Customer, email: &str, role: &str) -> Page {
    let values = [("email", email), ("role", role), ("password", admin.password.as_str())];
    send(&admin.visitor, "/staff/people/", "/staff/people/", &values).await
}

/// Somebody who signed up and works here as this.
pub(crate) async fn person(house: &House, admin: &Customer, role: &str) -> Customer {
    let person = Customer::signed_in(house).await.expect("somebody");
    let page = make(admin, &person.email, role).await;
    assert!(page.status == 200 && page.text().contains(&person.email), "{}", page.text());
    assert!(!is_in(&person.visitor).await, "a session outlived what its user may do");
    person.log_in().await.expect("logged in again");
    person
}

/// What somebody did here before and after each change that somebody else made, as the trail tells it.
async fn roles_in_the_trail(house: &House, of: &str, by: &str) -> Vec<(String, Option<String>, Option<String>)> {
    sqlx::query_as(
        "select a.actor_kind, a.before->>'role', a.after->>'role' from audit a
         where a.action = 'user.staff' and a.subject = 'user/' || (select id from users where email = $1)
            and a.actor_id = (select id from users where email = $2) order by a.id",
    )
    .bind(of)
    .bind(by)
    .fetch_all(house.db())
    .await
    .expect("entries")
}

async fn status(visitor: &Visitor, path: &str) -> u16 {
    visitor.open(path).await.expect("a page").status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_says_who_works_here_and_each_sees_what_is_theirs() {
    let house = open("staff-roles").await;
    let admin = staff(&house).await;
    let stranger = Customer::stranger(&house).expect("a stranger");
    stranger.sign_up().await.expect("signing up");
    for (email, role, help) in [
        ("nobody@example.test", "support", "Nobody logs in"),
        (stranger.email.as_str(), "support", "not confirmed"),
        ("nobody", "support", "e-mail address"),
    ] {
        let refused = make(&admin, email, role).await;
        assert!(refused.status >= 400 && refused.text().contains(help), "{email}: {}", refused.text());
    }
    let values = [("email", stranger.email.as_str()), ("role", "support"), ("password", "not my password")];
    let wrong = send(&admin.visitor, "/staff/people/", "/staff/people/", &values).await;
    assert_eq!((wrong.status, wrong.attributes("#faults a", "href")), (422, vec!["#password".to_owned()]));

    for (role, people, viewing) in [("support", 403, 200), ("operator", 403, 403), ("finance", 403, 403)] {
        let person = person(&house, &admin, role).await;
        let seen = async |path: &str| status(&person.visitor, path).await;
        assert_eq!(seen("/staff/").await, 200, "{role}");
        assert_eq!(seen("/staff/coming/").await, 200, "{role}");
        assert_eq!(seen("/staff/people/").await, people, "{role}");
        assert_eq!(seen("/staff/viewing/").await, viewing, "{role}");
        let gone = make(&admin, &person.email, "none").await;
        assert!(gone.status == 200 && !gone.text().contains(&person.email), "{role}: {}", gone.text());
        assert!(!is_in(&person.visitor).await, "{role}: a session outlived the work");
        person.log_in().await.expect("logged in again");
        assert_eq!(seen("/staff/").await, 404, "{role}");
        assert_eq!(seen("/dashboard/").await, 200, "{role}: a customer as everybody");
        let was = Some(role.to_owned());
        let told = roles_in_the_trail(&house, &person.email, &admin.email).await;
        assert_eq!(told, [("staff".to_owned(), None, was.clone()), ("staff".to_owned(), was, None)], "{role}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_admins_who_take_the_work_from_each_other_at_once_leave_one() {
    let house = open("staff-race").await;
    let one = staff(&house).await;
    let last = make(&one, &one.email, "support").await;
    assert!(last.status == 409 && last.text().contains("Somebody has to"), "{}", last.text());
    let two = person(&house, &one, "admin").await;
    let page = async |by: &Customer| by.visitor.open("/staff/people/").await.expect("a page").ok().expect("the people");
    let (ones, twos) = (page(&one).await, page(&two).await);
    let against = |by: &Customer, other: &Customer| {
        vec![("email", other.email.clone()), ("role", "none".to_owned()), ("password", by.password.clone())]
    };
    let (first, second) = (against(&one, &two), against(&two, &one));
    let first: Vec<(&str, &str)> = first.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let second: Vec<(&str, &str)> = second.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (a, b) = tokio::join!(
        one.visitor.submit(&ones, "/staff/people/", &first),
        two.visitor.submit(&twos, "/staff/people/", &second)
    );
    let told = [a.expect("an answer"), b.expect("an answer")].map(|page| (page.status, page.text()));
    let admins = "select count(*) from users where is_staff and closed_at is null";
    assert_eq!(count(house.db(), admins).await, 1, "{told:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_staff_pages_are_there_from_the_networks_of_staff_alone() {
    let options = behind_a_proxy("staff-networks").with("EZ_STAFF_NETWORKS", "198.51.100.0/24, 2001:db8::/32");
    let house = open_with(options).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    customer.order(&house::OrderForm::small("theirs-1")).await.expect("the payment page");
    let order: String =
        sqlx::query_scalar("select id::text from orders").fetch_one(house.db()).await.expect("the table");
    let order = format!("/dashboard/orders/{order}/");
    for (address, is_inside) in [
        ("198.51.100.7", true),
        ("2001:db8::7", true),
        ("203.0.113.9", false),
        // What stands before the last address, anybody may have written.
        ("198.51.100.7, 203.0.113.9", false),
        ("nonsense", false),
    ] {
        let browser = browser_at(&house, address, FIREFOX);
        log_in(&browser, house.staff_email(), house.staff_password()).await;
        assert!(is_in(&browser).await, "{address}: not logged in at all");
        let expected = if is_inside { 200 } else { 404 };
        for path in ["/staff/", "/staff/coming/", "/staff/people/", "/staff/viewing/", order.as_str()] {
            assert_eq!(status(&browser, path).await, expected, "{address}: {path}");
        }
        let people = browser.home.join("/staff/people/").expect("a path");
        let other = browser.http.delete(people).send().await.expect("an answer").status().as_u16();
        assert_eq!(other, if is_inside { 405 } else { 404 }, "{address}: another method tells of staff pages");
        let dashboard = browser.open("/dashboard/").await.expect("a page");
        assert_eq!(dashboard.link("/staff/").is_ok(), is_inside, "{address}: the way there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_gives_nobody_a_password_that_is_empty_or_tried_first() {
    let house = open("weak-by-command").await;
    let email = house.staff_email();
    let another = ["user", "password", "--email", email];
    let colleague = ["user", "create", "--email", "colleague@example.test", "--staff"];
    for weak in ["", "elevenchars", "passwordpassword"] {
        for words in [&another[..], &colleague[..]] {
            let refused = house.run_ez(words, weak).await.expect_err("a password that lets strangers in");
            assert!(format!("{refused:?}").contains("standard input"), "{words:?} {weak:?}: {refused:?}");
        }
    }
    let made = "select count(*) from users where email = 'colleague@example.test'";
    assert_eq!(count(house.db(), made).await, 0, "an admin was made");
    assert!(is_in(&staff(&house).await.visitor).await, "the former password does not fit any more");
    house.run_ez(&colleague, "velvet anchor 88 lantern").await.expect("made");
    assert_eq!(count(house.db(), made).await, 1);
}
