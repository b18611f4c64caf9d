//! What no webhook told, or what was told and lost, is found: by the round through Stripe's list of events, by the comparison,
//! and by `ez reconcile`. Other portals leave such invoices pending for ever.
use house::{Customer, House, HouseOptions, PolicySecs};
use serde_json::{Map, Value, json};

use super::story::{Bought, act, at_dashboard, becomes, buy, newest, open_page, pay, phase, told, word};
use crate::{
    attention::{decide, staff},
    buyers::customers,
    shop::{SOON, open_with, until},
    world::{assert_stripe_contract, count, list},
};

const DELIVERED: &str = "select count(*) from orders where status = 'delivered'";
const RECEIPTS: &str = "select count(*) from letters where kind = 'payment_received' and state = 'sent'";
const PAID_INVOICES: &str = "select count(*) from invoices where status = 'paid'";

/// A house that hears of nothing by itself: nothing is polled, and webhooks are lost as the test says.
async fn deaf(name: &str, policy: PolicySecs) -> (House, Customer) {
    let policy = PolicySecs { checkout_poll: 600, subscription_poll: 6_000, payment_window: 3_000, ..policy };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named(name) }).await;
    let customer = customers(&house, 1).await.remove(0);
    (house, customer)
}

async fn lose_webhooks(house: &House) {
    house.stripe().post("/_control/webhooks", json!({"drop_percent": 100})).await.expect("webhooks are lost");
}

async fn renew(house: &House, bought: &Bought) {
    act(house, &format!("subscriptions/{}/renew", bought.subscription), json!({})).await;
}

/// The value of a counter, over all labels.
async fn counted(house: &House, name: &str) -> f64 {
    let told = house.metrics().await.expect("metrics");
    let lines = told.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paid_invoices_never_stay_pending_because_every_webhook_was_missed() {
    let policy =
        PolicySecs { events: 1, reminders: vec![1], suspend_after: 2, retention: 600, ..PolicySecs::default() };
    let (house, customer) = deaf("missed", policy).await;
    lose_webhooks(&house).await;
    let bought = buy(&house, &customer, "missed-1").await;
    becomes(&house, "the order is delivered", DELIVERED, 1).await;
    renew(&house, &bought).await;
    becomes(&house, "the renewal is known", PAID_INVOICES, 2).await;
    becomes(&house, "its receipt is sent", RECEIPTS, 2).await;

    act(&house, &format!("customers/{}/card", bought.customer), json!({"fails": true})).await;
    renew(&house, &bought).await;
    phase(&house, "suspended").await;
    act(&house, &format!("customers/{}/card", bought.customer), json!({"fails": false})).await;
    let open = newest(&house, "invoices", |invoice| invoice["status"] == "open").await;
    act(&house, &format!("invoices/{}/pay", open["id"].as_str().expect("an id")), json!({})).await;
    phase(&house, "active").await;
    becomes(&house, "nothing is open", "select count(*) from invoices where status <> 'paid'", 0).await;

    let charge = newest(&house, "charges", |charge| charge["paid"] == true).await;
    at_dashboard(&house, "/v1/refunds", &[("charge", charge["id"].as_str().expect("an id")), ("amount", "100")]).await;
    becomes(&house, "the refund is known", "select count(*) from payments where refunded_minor = 100", 1).await;
    act(&house, &format!("subscriptions/{}/cancel", bought.subscription), json!({})).await;
    phase(&house, "retained").await;
    assert!(counted(&house, "ez_events_missed_total").await > 10.0, "what was missed is not counted");
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "somebody had to help");
    assert_stripe_contract(&house).await;
    house.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_answered_200_and_dropped_are_made_up_for_by_the_comparison() {
    let policy = PolicySecs { comparison: 1, ..PolicySecs::default() };
    let (house, customer) = deaf("dropped", policy).await;
    let session = open_page(&customer, "dropped-1").await;
    told(&house).await;
    let bought = answered_and_dropped(&house, async { pay(&house, &session).await }).await;
    becomes(&house, "the order is delivered", DELIVERED, 1).await;
    answered_and_dropped(&house, renew(&house, &bought)).await;
    becomes(&house, "the renewal is known", PAID_INVOICES, 2).await;
    becomes(&house, "its receipt is sent", RECEIPTS, 2).await;
    // The subscription was read when it had renewed already, and its invoice when it was not yet charged.
    let torn = "update invoices set status = 'draft', amount_paid_minor = 0
        where id = (select id from invoices order by created_at desc, id desc limit 1)";
    assert_eq!(sqlx::query(torn).execute(house.db()).await.expect("a draft").rows_affected(), 1);
    becomes(&house, "the charge is known", PAID_INVOICES, 2).await;
    answered_and_dropped(&house, async {
        act(&house, &format!("customers/{}/card", bought.customer), json!({"fails": true})).await;
        renew(&house, &bought).await;
    })
    .await;
    becomes(&house, "the missing payment is known", "select count(*) from invoices where status = 'open'", 1).await;
    until("what differed is counted", SOON, || async {
        // Each worker that was started counts from nought.
        (counted(&house, "ez_differences_total").await >= 1.0).then_some(())
    })
    .await;
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "somebody had to help");
    house.stop().await.expect("a clean end");
}

/// Does something at Stripe whose every webhook is answered 200 and then forgotten by us.
async fn answered_and_dropped<T>(house: &House, happens: impl Future<Output = T>) -> T {
    house.stop_worker().await.expect("nobody reads the inbox");
    let done = happens.await;
    told(house).await;
    let dropped = sqlx::query("delete from payment_events where state = 'received'").execute(house.db()).await;
    assert!(dropped.expect("dropped").rows_affected() > 0, "nothing was told");
    house.start_worker().await.expect("a worker");
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_page_that_is_gone_is_shown_to_staff_and_whatever_else_differs_is_found() {
    let policy = PolicySecs { comparison: 1, ..PolicySecs::default() };
    let (house, customer) = deaf("page-gone", policy).await;
    let other = customers(&house, 1).await.remove(0);
    let unreadable = open_page(&customer, "page-gone-1").await;
    let session = open_page(&other, "page-gone-2").await;
    told(&house).await;
    let gone = "update orders set stripe_session_id = 'cs_test_gone' where stripe_session_id = $1";
    let gone = sqlx::query(gone).bind(&unreadable).execute(house.db()).await.expect("a page that is gone");
    assert_eq!(gone.rows_affected(), 1);
    answered_and_dropped(&house, async { pay(&house, &session).await }).await;
    becomes(&house, "the other order is delivered", DELIVERED, 1).await;
    let shown = "select count(*) from payment_events
        where type = 'difference' and object_kind = 'page' and object_id = 'cs_test_gone' and state = 'unclaimed'";
    becomes(&house, "staff are shown the page", shown, 1).await;
    let staff = staff(&house).await;
    let board = staff.visitor.open("/staff/").await.expect("the staff page").text();
    assert!(board.contains("cs_test_gone") && board.contains("reading the payment page"), "{board}");

    let back = "update orders set stripe_session_id = $1 where stripe_session_id = 'cs_test_gone'";
    sqlx::query(back).bind(&unreadable).execute(house.db()).await.expect("it is there again");
    becomes(&house, "nothing is shown any more", shown, 0).await;
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "somebody had to help");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_that_reads_one_subscription_each_time_finds_what_differs_at_the_very_end() {
    let policy = PolicySecs {
        comparison: 1,
        checkout_poll: 600,
        subscription_poll: 6_000,
        payment_window: 3_000,
        retention: 600,
        ..PolicySecs::default()
    };
    let options = HouseOptions { policy, ..HouseOptions::named("parts") };
    let house = open_with(options.with("EZ_POLICY_COMPARISON_SUBSCRIPTIONS", "1")).await;
    let mut bought = vec![];
    for (customer, number) in customers(&house, 3).await.iter().zip(1..) {
        bought.push(buy(&house, customer, &format!("parts-{number}")).await);
        becomes(&house, "the order is delivered", DELIVERED, number).await;
        becomes(&house, "its invoice is known", PAID_INVOICES, number).await;
    }
    told(&house).await;
    lose_webhooks(&house).await;
    house.stripe().forget_requests().await.expect("forgotten");
    // Stripe lists the newest first.
    renew(&house, &bought[0]).await;
    becomes(&house, "the renewal of the oldest is known", PAID_INVOICES, 4).await;
    // That one is not listed any more is known at the end of the list.
    act(&house, &format!("subscriptions/{}/cancel", bought[1].subscription), json!({})).await;
    becomes(&house, "its end is known", "select count(*) from subscriptions where status = 'canceled'", 1).await;
    renew(&house, &bought[2]).await;
    becomes(&house, "the newest is compared again after the oldest", PAID_INVOICES, 5).await;

    let mut asked = house.stripe().requests(Some("/v1/subscriptions")).await.expect("the requests");
    asked.retain(|request| request["method"] == "GET" && request["path"] == "/v1/subscriptions");
    assert!(asked.iter().all(|request| request["query"]["limit"] == "1"), "more was read at once: {asked:?}");
    let after = |subscription: &str| asked.iter().filter(|one| one["query"]["starting_after"] == subscription).count();
    assert!(after(&bought[2].subscription) > 0 && after(&bought[0].subscription) == 0, "read otherwise: {asked:?}");
    let wrong = "select count(*) from subscriptions where status <> 'canceled' and phase <> 'active'";
    assert_eq!(count(house.db(), wrong).await, 0, "one that was not listed yet was taken for ended");
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "somebody had to help");
    assert_stripe_contract(&house).await;
    house.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconcile_finds_what_was_missed_at_once() {
    let (house, customer) = deaf("missed-now", PolicySecs::default()).await;
    lose_webhooks(&house).await;
    let bought = buy(&house, &customer, "missed-now-1").await;
    let told = house.run_ez(&["reconcile"], "").await.expect("reconciled");
    assert!(told.contains("events no webhook told: ") && !told.contains("events no webhook told: 0"), "{told}");
    becomes(&house, "the order is delivered", DELIVERED, 1).await;
    renew(&house, &bought).await;
    house.run_ez(&["reconcile"], "").await.expect("reconciled once more");
    becomes(&house, "the renewal is known", PAID_INVOICES, 2).await;
}

/// What may happen to a read, together where one comes after the other.
fn blows() -> [(&'static str, Vec<Value>); 4] {
    let refusals = [json!({"kind": "status", "status": 503}), json!({"kind": "status", "status": 429})];
    let cuts = [json!({"kind": "drop"}), json!({"kind": "refuse"})];
    let garbage = |shape: &str| json!({"kind": "malformed", "shape": shape});
    [
        ("refused and garbled", refusals.into_iter().chain([garbage("half")]).collect()),
        ("cut off and empty", cuts.into_iter().chain([garbage("list")]).collect()),
        ("not answered in time", vec![json!({"kind": "hang"})]),
        (KILLED, vec![json!({"kind": "hang", "after_work": true})]),
    ]
}

/// The worker dies while it waits for an answer that Stripe gave.
const KILLED: &str = "killed";

/// A house where one kind of round alone can tell of a renewal: each read of its list is spoilt in every way, and each time
/// the round, or the next one, finds what happened meanwhile.
async fn every_blow_is_made_up_for(name: &str, policy: PolicySecs, list: &str) {
    let (house, customer) = deaf(name, policy).await;
    let bought = buy(&house, &customer, &format!("{name}-1")).await;
    becomes(&house, "the order is delivered", DELIVERED, 1).await;
    becomes(&house, "its invoice is known", PAID_INVOICES, 1).await;
    lose_webhooks(&house).await;
    let stripe = house.stripe();
    let mut paid = 1;
    for (what, blows) in blows() {
        stripe.forget_requests().await.expect("forgotten");
        for mut blow in blows {
            blow["method"] = json!("GET");
            // Only the list itself is asked for with a question right after its path.
            blow["path"] = json!(format!("{list}?"));
            blow["times"] = json!(1);
            stripe.add_fault(blow).await.expect("a fault");
        }
        renew(&house, &bought).await;
        until(&format!("{list} is {what}"), SOON * 2, || async {
            let left = stripe.get("/_control/faults").await.expect("the faults");
            (left == json!([])).then_some(())
        })
        .await;
        if what == KILLED {
            until(&format!("{list} is read and nobody has heard of it"), SOON, || async {
                let asked = stripe.requests(Some(list)).await.expect("the requests");
                asked.iter().any(|request| request["fault"] == "hang" && !request["status"].is_null()).then_some(())
            })
            .await;
            house.kill_worker().await.expect("kill -9");
            house.start_worker().await.expect("a worker");
        }
        paid += 1;
        becomes(&house, "the renewal is known all the same", PAID_INVOICES, paid).await;
    }
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "somebody had to help");
    assert_stripe_contract(&house).await;
    house.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_through_events_that_is_spoilt_in_any_way_is_made_up_for() {
    let policy = PolicySecs { events: 1, ..PolicySecs::default() };
    every_blow_is_made_up_for("walks", policy, "/v1/events").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_that_is_spoilt_in_any_way_is_made_up_for() {
    let policy = PolicySecs { comparison: 1, ..PolicySecs::default() };
    every_blow_is_made_up_for("comparisons", policy, "/v1/subscriptions").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_server_or_a_pdf_that_fails_never_takes_a_recorded_payment_back() {
    let policy = PolicySecs { subscription_poll: 600, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("no-mail") }).await;
    let customer = customers(&house, 1).await.remove(0);
    house.stripe().add_fault(json!({"kind": "status", "status": 500, "path": "pdf"})).await.expect("no PDF");
    house.kill_mail().await.expect("no mail");
    let bought = buy(&house, &customer, "no-mail-1").await;
    becomes(&house, "the order is delivered", DELIVERED, 1).await;
    renew(&house, &bought).await;
    let recorded = "select count(*) from payments p join invoices i on i.id = p.invoice_id
        where p.status = 'succeeded' and i.status = 'paid' and i.pdf_url is not null";
    becomes(&house, "both payments are recorded", recorded, 2).await;
    becomes(&house, "both receipts wait", "select count(*) from letters where kind = 'payment_received'", 2).await;
    let invoice: String =
        sqlx::query_scalar("select id from invoices where status = 'paid' order by created_at, id limit 1")
            .fetch_one(house.db())
            .await
            .expect("a paid invoice");
    let pdf = customer.visitor.open(&format!("/billing/invoices/{invoice}/pdf/")).await.expect("an answer");
    assert_eq!((pdf.status, pdf.url.path()), (500, format!("/i/{invoice}/pdf").as_str()), "{}", pdf.text());
    let struck = house.stripe().requests(Some("/pdf")).await.expect("the requests");
    assert!(struck.iter().any(|request| request["fault"] == "status"), "no PDF failed: {struck:?}");
    assert_eq!(count(house.db(), recorded).await, 2, "a payment was taken back");
    assert_eq!(count(house.db(), RECEIPTS).await, 0, "a letter left without a mail server");
    let attempts = "select count(*) from letters where kind = 'payment_received' and state = 'started'";
    becomes(&house, "the mail server was tried in vain", attempts, 2).await;
    let kept = "select count(*) from subscriptions where phase = 'active' and status = 'active'";
    assert_eq!((count(house.db(), recorded).await, count(house.db(), kept).await), (2, 1), "a payment was taken back");
    house.start_mail().await.expect("the mail server is back");
    becomes(&house, "both receipts are sent", RECEIPTS, 2).await;
    assert_eq!(customer.mailbox().letters(&customer.email, "received your payment").await.expect("letters").len(), 2);
    assert_eq!(count(house.db(), recorded).await, 2, "a payment was taken back");
}

/// What we recorded about money.
async fn recorded(house: &House) -> Value {
    sqlx::query_scalar(
        "select jsonb_build_object(
            'subscriptions', (select jsonb_object_agg(id, jsonb_build_array(status, extract(epoch from period_end)::bigint))
                from subscriptions),
            'invoices', (select jsonb_object_agg(id, jsonb_build_array(status, amount_paid_minor)) from invoices),
            'payments', (select jsonb_object_agg(id, jsonb_build_array(status, amount_minor, refunded_minor))
                from payments))",
    )
    .fetch_one(house.db())
    .await
    .expect("what is recorded")
}

/// The same as Stripe says it.
async fn at_stripe(house: &House) -> Value {
    let state = house.stripe().state().await.expect("Stripe");
    let each = |kind: &str, told: fn(&Value) -> Value| -> Map<String, Value> {
        list(&state[kind]).iter().map(|row| (word(&row["id"]), told(row))).collect()
    };
    json!({
        "subscriptions": each("subscriptions", |row| {
            json!([row["status"], row["items"]["data"][0]["current_period_end"]])
        }),
        "invoices": each("invoices", |row| json!([row["status"], row["amount_paid"]])),
        "payments": each("charges", |row| json!([row["status"], row["amount"], row["amount_refunded"]])),
    })
}

/// Waits until a step of the one order waits for staff, and asserts that our record is what Stripe says, and stays it for
/// the next period.
async fn waits_and_renews(house: &House, bought: &Bought, waiting: &'static str, paid: i64) {
    becomes(house, "it waits for staff", waiting, 1).await;
    becomes(house, "what was paid before has its receipt", RECEIPTS, paid).await;
    renew(house, bought).await;
    becomes(house, "the renewal is known", PAID_INVOICES, paid + 1).await;
    until("the record is as Stripe has it", SOON, || async {
        (recorded(house).await == at_stripe(house).await).then_some(())
    })
    .await;
    assert_eq!(count(house.db(), waiting).await, 1, "it does not wait any more");
    assert_eq!(count(house.db(), DELIVERED).await, 0, "delivered without a machine or a name");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_or_a_name_server_that_fails_never_changes_what_is_recorded_about_money() {
    let policy = PolicySecs { step_patience: 6, subscription_poll: 600, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("no-machine").with_gates() }).await;
    let (customer, staff) = (customers(&house, 1).await.remove(0), staff(&house).await);
    let (cluster, names) = (house.proxmox().expect("a stand-in"), house.names_gate().expect("a gate"));
    for vendor in [cluster, names] {
        vendor.add_fault(json!({"kind": "status", "status": 500})).await.expect("it fails for good");
    }
    let bought = buy(&house, &customer, "no-machine-1").await;
    let order = format!("order-{}", bought.order);
    let at_its_machine = "select count(*) from attention where step = 'clone' and settled_at is null";
    waits_and_renews(&house, &bought, at_its_machine, 1).await;
    cluster.clear_faults().await.expect("mended");
    decide(&staff, &order, &[("verdict", "retry")]).await;
    let at_its_name = "select count(*) from attention where step = 'name' and settled_at is null";
    waits_and_renews(&house, &bought, at_its_name, 2).await;
    let before = recorded(&house).await;
    names.clear_faults().await.expect("mended");
    decide(&staff, &order, &[("verdict", "retry")]).await;
    becomes(&house, "the order is delivered", DELIVERED, 1).await;
    becomes(&house, "each payment has its receipt", RECEIPTS, 3).await;
    assert_eq!(recorded(&house).await, before, "what was recorded has changed");
    assert_eq!(at_stripe(&house).await, before, "Stripe was told something else");
    assert_stripe_contract(&house).await;
}
