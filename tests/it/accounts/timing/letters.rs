//! The same where a letter is asked for: another one to confirm an address, another address, an invitation.
use house::{Customer, HouseOptions};

use super::{assert_alike, slow_disk};
use crate::shop::open_with;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_asking_for_a_letter_does_not_tell_who_is_known() {
    let options = HouseOptions::named("timing-letters").with("EZ_LIMIT_ADDRESS", "100000");
    let house = open_with(options.with("EZ_LIMIT_LOCK", "100000")).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let other = Customer::signed_in(&house).await.expect("somebody else");
    let stranger = Customer::stranger(&house).expect("a stranger");
    stranger.sign_up().await.expect("signing up");
    slow_disk(&house).await;
    for change in [
        // Up to five rows are written one after the other here, and all of them together take less than what evens them out.
        "create or replace function slow() returns trigger language plpgsql as
         $$ begin perform pg_sleep(0.01); return new; end $$",
        "create trigger slow before insert on email_verifications for each row execute function slow()",
        "create trigger slow before insert on invitations for each row execute function slow()",
    ] {
        sqlx::query(change).execute(house.db()).await.expect("a slow disk");
    }
    // Every question does all it ever does, however soon it is asked again.
    let anew = async || {
        for forget in [
            "update email_verifications set created_at = created_at - interval '1 hour'",
            "update letters set created_at = created_at - interval '2 hours' where kind = 'account_exists'",
            "update invitations set withdrawn_at = now() where withdrawn_at is null",
        ] {
            sqlx::query(forget).execute(house.db()).await.expect("as if asked an hour ago");
        }
    };
    let nobody = house.visitor().expect("a browser");
    let verify = ("/accounts/verify/", "/accounts/verify/resend/");
    assert_alike(&nobody, verify, &stranger.email, &[], &anew).await;
    let address = ("/accounts/address/", "/accounts/address/");
    assert_alike(&customer.visitor, address, &other.email, &[], &anew).await;
    let invite = ("/accounts/members/", "/accounts/members/invite/");
    assert_alike(&customer.visitor, invite, &other.email, &[("role", "billing")], &anew).await;
    // All of it was done, for whoever is known and for whoever is not.
    for (kind, least) in
        [("verify_address", 7), ("address_confirm", 7), ("account_exists", 7), ("member_invitation", 14)]
    {
        let queued: i64 = sqlx::query_scalar("select count(*) from letters where kind = $1")
            .bind(kind)
            .fetch_one(house.db())
            .await
            .expect("the letters");
        assert!(queued >= least, "{queued} letters {kind}: something was not asked for");
    }
}
