//! Log-ins in the trail: in, refused, locked, out and ended, each with where it came from.
use house::{Customer, House};

use super::{FIREFOX, SAFARI, behind_a_proxy, browser_at, is_in, log_in, send};
use crate::{shop::open_with, world::count};

/// From where an action was done, oldest first, for one person's account, or for nobody's.
async fn places(house: &House, action: &str, email: Option<&str>) -> Vec<Option<String>> {
    sqlx::query_scalar(
        "select p.network from audit a left join audit_particulars p on p.audit_id = a.id
         where a.action = $1 and a.account_id is not distinct from (select account_id from users where email = $2)
         order by a.id",
    )
    .bind(action)
    .bind(email)
    .fetch_all(house.db())
    .await
    .expect("entries")
}

fn at(places: &[&str]) -> Vec<Option<String>> {
    places.iter().map(|place| Some((*place).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_in_and_out_is_in_the_trail_with_where_it_came_from() {
    let house =
        open_with(behind_a_proxy("trail-log-ins").with("EZ_LIMIT_ADDRESS", "3").with("EZ_LIMIT_LOCK", "3")).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (email, password) = (customer.email.as_str(), customer.password.as_str());
    let (desk, phone) = (browser_at(&house, "198.51.100.1", FIREFOX), browser_at(&house, "2001:db8::7", SAFARI));
    for browser in [&desk, &phone] {
        log_in(browser, email, password).await;
    }
    assert_eq!(places(&house, "session.begun", Some(email)).await, at(&["127.0.0.1", "198.51.100.1", "2001:db8::7"]));

    let thief = browser_at(&house, "203.0.113.9", FIREFOX);
    for _ in 0..3 {
        assert_eq!(log_in(&thief, email, "not the password").await.status, 422);
    }
    assert_eq!(places(&house, "log_in.refused", Some(email)).await, at(&["203.0.113.9", "203.0.113.9"]));
    assert_eq!(places(&house, "log_in.locked", Some(email)).await, at(&["203.0.113.9"]));
    assert_eq!(log_in(&thief, "nobody@example.test", "whatever it is").await.status, 422);
    assert_eq!(
        places(&house, "log_in.refused", None).await,
        at(&["203.0.113.9"]),
        "an unknown address is not noted alike"
    );
    let kept = "select count(*) from audit a left join audit_particulars p on p.audit_id = a.id
        where to_jsonb(a)::text || coalesce(to_jsonb(p)::text, '') like '%nobody@example.test%'";
    assert_eq!(count(house.db(), kept).await, 0, "what was typed is kept");

    send(&phone, "/accounts/logout/", "/accounts/logout/", &[]).await;
    assert_eq!(places(&house, "session.ended", Some(email)).await, at(&["2001:db8::7"]));
    let page = desk.open("/accounts/sessions/").await.expect("a page").ok().expect("the list");
    desk.submit(&page, "/accounts/sessions/end/", &[("which", "others")]).await.expect("an answer");
    assert!(!is_in(&customer.visitor).await);
    assert_eq!(places(&house, "session.ended", Some(email)).await, at(&["2001:db8::7", "198.51.100.1"]));
    let by = "select count(*) from audit a join users u on u.id = a.actor_id
        where a.action = 'session.ended' and a.actor_kind = 'user' and a.account_id = u.account_id and not u.is_staff";
    assert_eq!(count(house.db(), by).await, 2, "the owner ended them");

    let values = [("old", "not my password"), ("password", "green bottle on sand")];
    assert_eq!(send(&desk, "/accounts/password/", "/accounts/password/", &values).await.status, 422);
    assert_eq!(places(&house, "password.refused", Some(email)).await, at(&["198.51.100.1"]));
    let values = [("old", password), ("password", "green bottle on sand")];
    assert_eq!(send(&desk, "/accounts/password/", "/accounts/password/", &values).await.status, 200);
    assert_eq!(places(&house, "user.password", Some(email)).await, at(&["198.51.100.1"]));
    let page = desk.open("/accounts/activity/").await.expect("a page").ok().expect("the page").text();
    for words in
        ["A log-in was refused", "203.0.113.9", "A session ended", "The password was changed", "Firefox on Linux"]
    {
        assert!(page.contains(words), "not “{words}”: {page}");
    }
    // A session that is over by itself was ended by nobody.
    sqlx::query("update sessions set expires_at = now() where user_id is not null")
        .execute(house.db())
        .await
        .expect("late");
    sqlx::query("delete from sessions where expires_at <= now()").execute(house.db()).await.expect("pruned");
    let over = "select count(*) from audit where action = 'session.ended' and actor_kind = 'system'
        and after->>'why' = 'time'";
    assert_eq!(count(house.db(), over).await, 1);
    // Neither an id nor a handle that opens anything stands there.
    let secrets = "select count(*) from audit a, sessions s where to_jsonb(a)::text like '%' || s.id || '%'";
    assert_eq!(count(house.db(), secrets).await, 0);
}
