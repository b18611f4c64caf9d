//! The gate: nothing is suspended but for an overdue, finalised and delivered invoice, while no payment is on its way and nobody
//! holds it, and after the mail server has had the reminders long enough. What holds it back is read on two pages.
use domain::{
    ids::{ServiceId, SubscriptionId},
    removal::{HeldBy, RemovalKind},
};
use house::{HouseOptions, PolicySecs};
use serde_json::json;
use store::{Allowance, Held as HeldBack, NewRemoval, Store};
use uuid::Uuid;

use super::{
    staff::{Held, day},
    story::{at_dashboard, becomes, newest, word},
};
use crate::{
    histories,
    shop::{SOON, open_with, until},
    world::{assert_stripe_contract, count},
};

const SUSPENDED: &str = "select count(*) from services where status = 'suspended'";
const HELD: &str = "select count(*) from removals where cause is not null";
/// What is due has been asked for again for so long that it would have been done.
const LONG_HELD: &str =
    "select count(*) from removals where cause is not null and asked_at < now() - interval '4 seconds'";
const WARNED: &str = "select count(*) from letters where kind = 'destruction_warning'";

/// Waits until both pages for staff say why nothing happens.
async fn both_pages_say(held: &Held<'_>, hostname: &str, words: &str) {
    until(&format!("staff read: {words}"), SOON, || async {
        let coming = held.staff.visitor.open("/staff/coming/").await.expect("the page").ok().expect("the page");
        let told = coming.texts("tbody tr").iter().any(|line| line.contains(words) && line.contains(hostname));
        (told && held.page().await.text().contains(words)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_suspended_before_the_mail_server_has_had_the_reminder_long_enough() {
    let policy = PolicySecs {
        reminders: vec![1],
        suspend_after: 4,
        subscription_poll: 1,
        retention: 2,
        retention_warning: 1,
        ..PolicySecs::default()
    };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("no-notice") }).await;
    let held = Held::new(&house, "no-notice-1").await;
    held.customer.mailbox().wait_for(&held.customer.email, "ready", 1, SOON).await.expect("no letter is under way");
    until("the receipt has left", SOON, || async {
        let open = "select count(*) from letters where state <> 'sent'";
        (count(house.db(), open).await == 0).then_some(())
    })
    .await;
    house.kill_mail().await.expect("no mail server");
    held.stops_paying().await;
    both_pages_say(&held, "no-notice-1", "does not have the letter payment_reminder/").await;
    becomes(&house, "it is long due", LONG_HELD, 1).await;
    held.service_is("running").await;
    assert_eq!(count(house.db(), SUSPENDED).await, 0, "suspended without a notice");

    house.start_mail().await.expect("a mail server");
    held.service_is("suspended").await;
    held.customer.mailbox().wait_for(&held.customer.email, "is suspended", 1, SOON).await.expect("a letter");
    let waited: bool = sqlx::query_scalar(
        "select r.allowed_at >= l.sent_at + interval '3 seconds' from removals r, letters l
         where r.kind = 'suspend' and l.kind = 'payment_reminder'",
    )
    .fetch_one(house.db())
    .await
    .expect("both");
    assert!(waited, "the customer had no time after the notice");
    assert_eq!(count(house.db(), HELD).await, 0, "something is still said to be held back");
    let reminders = held.customer.mailbox().letters(&held.customer.email, "is missing").await.expect("letters");
    assert_eq!(reminders.len(), 1, "reminded more than once");
    held.stripe(&format!("/_control/subscriptions/{}/cancel", held.subscription), json!({})).await;
    held.service_is("expired").await;
    assert_stripe_contract(&house).await;
    histories::keep(&house, &format!("subscription-{}", held.subscription), "subscription-held-back").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_on_its_way_holds_a_suspension_and_one_that_fails_lets_it_go() {
    let policy = PolicySecs { reminders: vec![1], suspend_after: 10, subscription_poll: 1, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("on-its-way") }).await;
    let held = Held::new(&house, "on-its-way-1").await;
    held.stops_paying().await;
    held.customer.mailbox().wait_for(&held.customer.email, "is missing", 1, SOON).await.expect("a reminder");
    held.card_is("delayed").await;
    let open = newest(&house, "invoices", |invoice| invoice["status"] == "open").await;
    held.stripe(&format!("/_control/invoices/{}/pay", word(&open["id"])), json!({})).await;
    both_pages_say(&held, "on-its-way-1", "is on its way").await;
    becomes(&house, "it is long due", LONG_HELD, 1).await;
    held.service_is("running").await;
    let intent = newest(&house, "payment_intents", |intent| intent["status"] == "processing").await;
    held.stripe(&format!("/_control/payment_intents/{}/fail", word(&intent["id"])), json!({})).await;
    held.service_is("suspended").await;
    becomes(&house, "nothing is held back", HELD, 0).await;
    assert_stripe_contract(&house).await;
}

/// Staff give an invoice up at Stripe: the subscription is behind there, and there is nothing its customer could pay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_no_invoice_to_pay_is_not_suspended_although_a_payment_is_missing_at_stripe() {
    let policy = PolicySecs { reminders: vec![1], suspend_after: 20, subscription_poll: 1, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("no-invoice") }).await;
    let held = Held::new(&house, "no-invoice-1").await;
    held.stops_paying().await;
    let open = word(&newest(&house, "invoices", |invoice| invoice["status"] == "open").await["id"]);
    at_dashboard(&house, &format!("/v1/invoices/{open}/mark_uncollectible"), &[]).await;
    let given_up = "select count(*) from invoices where status = 'uncollectible'";
    becomes(&house, "it is known that nothing can be paid", given_up, 1).await;
    let since: time::OffsetDateTime = sqlx::query_scalar("select now()").fetch_one(house.db()).await.expect("the time");
    until("it was looked at long after the day it would have been due", SOON * 2, || async {
        let late: bool = sqlx::query_scalar(
            "select read_at > $1 + interval '22 seconds' from subscriptions where status = 'past_due'",
        )
        .bind(since)
        .fetch_one(house.db())
        .await
        .expect("the subscription is behind");
        late.then_some(())
    })
    .await;
    held.service_is("running").await;
    assert_eq!(count(house.db(), SUSPENDED).await, 0, "suspended without an invoice");
    assert_eq!(count(house.db(), "select count(*) from removals").await, 0, "leave was asked for");
    // The next month has an invoice.
    held.stripe(&format!("/_control/subscriptions/{}/renew", held.subscription), json!({})).await;
    held.service_is("suspended").await;
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reminder_that_is_refused_for_good_is_for_staff_to_decide() {
    let policy = PolicySecs { reminders: vec![1], suspend_after: 2, subscription_poll: 1, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("refused-notice") }).await;
    let held = Held::new(&house, "refused-1").await;
    until("what was to be sent before has left", SOON, || async {
        let open = "select count(*) from letters where state <> 'sent'";
        (count(house.db(), open).await == 0).then_some(())
    })
    .await;
    let mail = &house.mail().control;
    mail.add_fault(json!({"kind": "permfail", "subject": held.customer.email})).await.expect("an address that is gone");
    held.stops_paying().await;
    both_pages_say(&held, "refused-1", "refused the letter").await;
    held.service_is("running").await;
    mail.clear_faults().await.expect("mended");
    let page = held.staff.visitor.open("/staff/").await.expect("the page").ok().expect("the page");
    let occasion = page.attributes("input[name=occasion]", "value").remove(0);
    let form = [("occasion", occasion.as_str()), ("reason", "they were called")];
    let approved = held.staff.visitor.submit(&page, "/staff/removals/", &form).await.expect("an answer");
    assert_eq!(approved.status, 200, "{}", approved.text());
    held.service_is("suspended").await;
    assert!(held.page().await.text().contains("they were called"), "nobody knows why");
}

/// What the ledger answers, asked past the workflow, which would have looked at all of this by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_gives_no_leave_for_what_the_tables_do_not_say() {
    let house = open_with(HouseOptions::named("no-leave")).await;
    let held = Held::new(&house, "no-leave-1").await;
    let (paid, subscription) = (held.invoice().await, SubscriptionId(held.subscription.clone()));
    assert_eq!(held.tell("hold", &[("until", &day(3)), ("reason", "they are away")]).await, "done");
    house.stop_worker().await.expect("nobody looks");
    let store = Store::connect(house.database_url().as_str(), 2).expect("the store");
    let removal = |kind, invoice: Option<&str>, reminders| NewRemoval {
        subscription: subscription.clone(),
        kind,
        occasion: format!("{kind}/{}", invoice.unwrap_or("end")),
        invoice: invoice.map(str::to_owned),
        payment_pending: false,
        reminders,
        notice_secs: 0,
        service: None,
    };
    let ask = async |asked: &NewRemoval| -> Option<HeldBy> {
        let held: Option<HeldBack> =
            store.ask_leave(asked, Allowance { number: 100, percent: 0 }).await.expect("an answer");
        held.map(|held| held.by)
    };
    assert_eq!(ask(&removal(RemovalKind::Suspend, Some(&paid), 0)).await, Some(HeldBy::Invoice), "it is paid");
    assert_eq!(ask(&removal(RemovalKind::Suspend, Some("in_nobodys"), 0)).await, Some(HeldBy::Invoice), "not ours");
    sqlx::query("update invoices set status = 'open'").execute(house.db()).await.expect("it is unpaid");
    let suspend = removal(RemovalKind::Suspend, Some(&paid), 2);
    let pending = NewRemoval { payment_pending: true, ..suspend.clone() };
    assert_eq!(ask(&pending).await, Some(HeldBy::Payment));
    assert_eq!(ask(&suspend).await, Some(HeldBy::Hold));
    assert_eq!(ask(&removal(RemovalKind::Retain, None, 0)).await, Some(HeldBy::Hold));
    sqlx::query("update instructions set until = now() - interval '1 second' where kind = 'hold'")
        .execute(house.db())
        .await
        .expect("the hold is over");
    assert_eq!(ask(&suspend).await, Some(HeldBy::Notice), "no reminder was ever written");
    becomes(&house, "they are to be written", "select count(*) from letters where kind = 'payment_reminder'", 2).await;
    sqlx::query("update letters set state = 'sent', sent_at = now() where occasion like 'payment_reminder/%/1'")
        .execute(house.db())
        .await
        .expect("the first is sent");
    assert_eq!(ask(&suspend).await, Some(HeldBy::Notice), "the second one was not sent");
    sqlx::query("update letters set state = 'sent', sent_at = now() where kind = 'payment_reminder'")
        .execute(house.db())
        .await
        .expect("both are sent");
    let early = NewRemoval { notice_secs: 3_600, ..suspend.clone() };
    assert_eq!(ask(&early).await, Some(HeldBy::Notice), "they have had no time");
    assert_eq!(ask(&suspend).await, None);
    assert_eq!(count(house.db(), HELD).await, 0, "what is not asked for any more is said to be held back");
}

/// A database from before the warning was written down: the customer has it, and the portal does not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warning_that_the_database_has_forgotten_is_sent_again_before_anything_is_destroyed() {
    let policy = PolicySecs { retention: 2, retention_warning: 1, subscription_poll: 1, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("forgotten") }).await;
    let held = Held::new(&house, "forgotten-1").await;
    // Nothing is destroyed before the mail server has the warning, so that staff have time for their hold.
    house.kill_mail().await.expect("no mail server");
    held.stripe(&format!("/_control/subscriptions/{}/cancel", held.subscription), json!({})).await;
    becomes(&house, "a warning waits", WARNED, 1).await;
    assert_eq!(held.tell("hold", &[("until", &day(3)), ("reason", "a database is restored")]).await, "done");
    house.start_mail().await.expect("a mail server");
    becomes(
        &house,
        "the warning is sent",
        "select count(*) from letters where kind = 'destruction_warning' and state = 'sent'",
        1,
    )
    .await;
    sqlx::query("delete from letters where kind = 'destruction_warning'")
        .execute(house.db())
        .await
        .expect("an older database");
    assert_eq!(held.tell("release", &[("reason", "it is restored")]).await, "done");
    held.service_is("expired").await;
    let (mailbox, customer) = (held.customer.mailbox(), &held.customer.email);
    mailbox.wait_for(customer, "Last call", 2, SOON).await.expect("it was destroyed without a warning");
    assert_eq!(mailbox.letters(customer, "Last call").await.expect("letters").len(), 2, "warned for ever");
    assert_eq!(count(house.db(), WARNED).await, 1, "nobody can say that it was announced");
    assert_stripe_contract(&house).await;
}

/// What the ledger answers about notices that no row tells of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_server_is_destroyed_whose_notice_no_row_tells_of() {
    let house = open_with(HouseOptions::named("no-row")).await;
    let held = Held::new(&house, "no-row-1").await;
    house.stop_worker().await.expect("nobody looks");
    let service: Uuid = sqlx::query_scalar("update services set status = 'retained' returning id")
        .fetch_one(house.db())
        .await
        .expect("it");
    let store = Store::connect(house.database_url().as_str(), 2).expect("the store");
    let removal = |occasion: &str, service, notice_secs| NewRemoval {
        subscription: SubscriptionId(held.subscription.clone()),
        kind: RemovalKind::Expire,
        occasion: occasion.to_owned(),
        invoice: None,
        payment_pending: false,
        reminders: 0,
        notice_secs,
        service,
    };
    let ask = async |asked: &NewRemoval| -> Option<HeldBy> {
        let held: Option<HeldBack> =
            store.ask_leave(asked, Allowance { number: 100, percent: 0 }).await.expect("an answer");
        held.map(|held| held.by)
    };
    let (wish, other) = (format!("expire/sub/{}", Uuid::new_v4()), format!("expire/sub/{}", Uuid::new_v4()));
    let one = Some(ServiceId(service));
    let farewells = "select count(*) from letters where kind = 'service_removed'";
    for _ in 0..2 {
        assert_eq!(ask(&removal("expire/end", None, 3_600)).await, Some(HeldBy::Notice), "nobody was warned");
        assert_eq!(ask(&removal(&wish, one, 3_600)).await, Some(HeldBy::Notice), "nobody was told");
        assert_eq!((count(house.db(), WARNED).await, count(house.db(), farewells).await), (1, 1), "once each");
    }
    assert_eq!(ask(&removal(&other, one, 3_600)).await, Some(HeldBy::Notice), "that letter was about another wish");
    house.start_worker().await.expect("a worker");
    let (mailbox, customer) = (held.customer.mailbox(), &held.customer.email);
    let warning = mailbox.wait_for(customer, "Last call", 1, SOON).await.expect("a warning");
    assert!(warning.text.contains("no-row-1") && warning.text.contains("only until"), "{}", warning.text);
    mailbox.wait_for(customer, "You removed your server no-row-1", 2, SOON).await.expect("both letters");
    becomes(&house, "all have left", "select count(*) from letters where state <> 'sent'", 0).await;
    assert_eq!(ask(&removal("expire/end", None, 3_600)).await, Some(HeldBy::Notice), "they have had no time");
    assert_eq!(ask(&removal("expire/end", None, 0)).await, None);
    assert_eq!(ask(&removal(&other, one, 0)).await, None);
}
