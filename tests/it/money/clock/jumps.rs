//! A clock that jumps: web and worker believe for a while in a day that is weeks or hours away. Nobody who paid loses anything,
//! nothing is charged but what Stripe charges, no letter is sent twice, and what was missed meanwhile is made up for.
use domain::DAY_SECS;
use house::{Customer, House, HouseOptions, PolicySecs, WrongClock};
use serde_json::json;

use super::{
    super::story::{Bought, act, becomes, buy, newest, word},
    months::{by_our_tables, by_stripe},
};
use crate::{
    buyers::customers,
    shop::{SOON, engine, open_with, until},
    storm::assert_letters_by_occasion,
    world::{assert_stripe_contract, count, list},
};

const HOUR_SECS: i64 = 3_600;
const REMINDERS: &str = "select count(*) from letters where kind = 'payment_reminder'";
const PAST_DUE: &str = "select count(*) from subscriptions where phase = 'past_due'";

struct Shop<'a> {
    house: &'a House,
    clock: &'a WrongClock,
    pays: Bought,
    /// Has not paid, and was reminded once; the next reminder is due in an hour.
    owes: Bought,
    /// Pays each time a while after it was asked.
    late: Bought,
}

/// A house whose web and worker have the wrong clock; rounds come every second.
async fn wrong_house(clock: &WrongClock) -> House {
    let policy = PolicySecs {
        reminders: vec![1, 3_600],
        suspend_after: 7_200,
        grace: 36_000,
        subscription_poll: 2,
        checkout_poll: 600,
        payment_window: 3_000,
        events: 1,
        ..PolicySecs::default()
    };
    let mut options = HouseOptions { policy, ..HouseOptions::named("jumps") };
    for (name, value) in clock.settings() {
        options = options.with(name, &value);
    }
    open_with(options).await
}

impl<'a> Shop<'a> {
    async fn of(house: &'a House, clock: &'a WrongClock) -> Self {
        let buyers: Vec<Customer> = customers(house, 3).await;
        let pays = buy(house, &buyers[0], "jumps-pays").await;
        let owes = buy(house, &buyers[1], "jumps-owes").await;
        let late = buy(house, &buyers[2], "jumps-late").await;
        becomes(house, "all are delivered", "select count(*) from orders where status = 'delivered'", 3).await;
        let shop = Self { house, clock, pays, owes, late };
        shop.owe(&shop.owes).await;
        becomes(house, "one payment is missing", PAST_DUE, 1).await;
        becomes(house, "one reminder is sent", REMINDERS, 1).await;
        shop
    }

    async fn renew(&self, bought: &Bought) {
        act(self.house, &format!("subscriptions/{}/renew", bought.subscription), json!({})).await;
    }

    /// A renewal that cannot be collected.
    async fn owe(&self, bought: &Bought) {
        act(self.house, &format!("customers/{}/card", bought.customer), json!({"fails": true})).await;
        self.renew(bought).await;
    }

    async fn pay_late(&self) {
        act(self.house, &format!("customers/{}/card", self.late.customer), json!({"fails": false})).await;
        let open = newest(self.house, "invoices", |row| {
            row["status"] == "open" && row["customer"] == self.late.customer.as_str()
        });
        act(self.house, &format!("invoices/{}/pay", word(&open.await["id"])), json!({})).await;
    }

    /// From now on the clock is wrong; the doctor says so.
    async fn jump(&self, secs: i64) {
        self.clock.wrong_by(secs).expect("another time");
        let told = self.house.run_ez(&["doctor"], "").await;
        let told = told.expect_err("the doctor finds nothing wrong").to_string();
        let words = if secs > 0 { "behind ours" } else { "ahead of ours" };
        assert!(told.contains(words), "wrong by {secs} s: {told}");
    }

    /// What Stripe tells while the clock is wrong is refused, and never told again.
    async fn miss_everything(&self) {
        let stripe = self.house.stripe();
        let refused = "select count(*) from webhook_refusals where last_at > now() - interval '10 seconds'";
        becomes(self.house, "a webhook is refused", refused, 1).await;
        stripe.delete("/_control/webhooks/pending").await.expect("Stripe gives up");
    }

    async fn agrees(&self, what: &str) {
        until(what, SOON * 2, || async {
            (by_our_tables(self.house, 0).await == by_stripe(self.house, 0).await).then_some(())
        })
        .await;
    }

    async fn one_jump(&self, secs: i64) {
        self.jump(secs).await;
        self.renew(&self.pays).await;
        self.owe(&self.late).await;
        self.miss_everything().await;
        if secs > 0 {
            // Nothing is older than the events that a clock ahead asks for.
            self.agrees(&format!("what no webhook told {secs} s ahead is found")).await;
        }
        self.clock.wrong_by(0).expect("the time");
        self.agrees(&format!("what was missed while {secs} s off is found")).await;
        self.pay_late().await;
        self.agrees(&format!("a payment after {secs} s off is known")).await;
        becomes(self.house, "only one owes", PAST_DUE, 1).await;
    }
}

/// Every paid invoice was charged once, everything runs, and nothing was sent twice.
async fn assert_nothing_lost(house: &House) {
    let state = house.stripe().state().await.expect("Stripe");
    for payment in list(&state["payments"]) {
        let wanted = i64::from(payment["status"] == "paid");
        assert_eq!(payment["paid_charges"], wanted, "charged otherwise than once: {payment}");
    }
    let running = "select count(*) from services where status = 'running'";
    assert_eq!(count(house.db(), running).await, 3, "something was taken away");
    assert_eq!(count(house.db(), "select count(*) from removals").await, 0, "something was to be taken away");
    let again = "select count(*) from letters where kind = 'payment_reminder' and occasion not like '%/1'";
    assert_eq!(count(house.db(), again).await, 0, "reminded before the time");
    let machines = house.machines().vms().await.expect("the machines");
    assert!(machines.values().all(|vm| vm.status == "running"), "{machines:?}");
    until("every letter has left", SOON, || async {
        (count(house.db(), "select count(*) from letters where state <> 'sent'").await == 0).then_some(())
    })
    .await;
    assert_letters_by_occasion(house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_takes_nothing_from_whoever_paid_and_what_was_missed_is_made_up_for() {
    let clock = WrongClock::new(engine().await.place(), "jumps").await.expect("a wrong clock");
    let house = wrong_house(&clock).await;
    let shop = Shop::of(&house, &clock).await;
    for secs in [40 * DAY_SECS, -40 * DAY_SECS, 3 * HOUR_SECS, -3 * HOUR_SECS] {
        shop.one_jump(secs).await;
    }
    assert_nothing_lost(&house).await;
    assert_stripe_contract(&house).await;
    house.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_wrong_clock_dated_into_the_future_hides_nothing_that_happens_now() {
    let policy = PolicySecs { subscription_poll: 600, events: 1, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("future") }).await;
    let customer = customers(&house, 1).await.remove(0);
    let bought = buy(&house, &customer, "future-1").await;
    becomes(&house, "it is delivered", "select count(*) from orders where status = 'delivered'", 1).await;
    let known = "select count(*) from payments where status = 'succeeded'";
    becomes(&house, "its payment is known", known, 1).await;
    // Meanwhile nobody knows better.
    house.stop_worker().await.expect("ended");
    for table in ["invoices", "payments", "billing_customers"] {
        let ahead = format!("update {table} set read_at = now() + interval '40 days'");
        let moved = sqlx::query(sqlx::AssertSqlSafe(ahead)).execute(house.db()).await.expect("a wrong clock");
        assert!(moved.rows_affected() > 0, "{table} is empty");
    }
    let walked = "update rounds set walked_to = now() + interval '40 days' where name = 'events'";
    sqlx::query(walked).execute(house.db()).await.expect("a wrong clock");
    let stripe = house.stripe();
    stripe.post("/_control/webhooks", json!({"drop_percent": 100})).await.expect("webhooks are lost");
    house.start_worker().await.expect("a worker");

    let charge = newest(&house, "charges", |charge| charge["paid"] == true).await;
    let back = [("charge", word(&charge["id"])), ("amount", "100".to_owned())];
    let back: Vec<(&str, &str)> = back.iter().map(|(name, value)| (*name, value.as_str())).collect();
    super::super::story::at_dashboard(&house, "/v1/refunds", &back).await;
    becomes(&house, "a refund is known", "select count(*) from payments where refunded_minor = 100", 1).await;
    let invoice = newest(&house, "invoices", |invoice| invoice["status"] == "paid").await;
    sqlx::query("update invoices set status = 'open', read_at = now() + interval '40 days' where id = $1")
        .bind(word(&invoice["id"]))
        .execute(house.db())
        .await
        .expect("what an earlier look saw");
    act(&house, &format!("subscriptions/{}/renew", bought.subscription), json!({})).await;
    becomes(&house, "both are paid", "select count(*) from invoices where status = 'paid'", 2).await;
    until("how far the rounds came is by Stripe's clock", SOON, || async {
        let ahead = "select count(*) from rounds where name = 'events' and walked_to > now()";
        (count(house.db(), ahead).await == 0).then_some(())
    })
    .await;
    // A later round still finds what comes.
    act(&house, &format!("subscriptions/{}/renew", bought.subscription), json!({})).await;
    becomes(&house, "all are paid", "select count(*) from invoices where status = 'paid'", 3).await;
    house.stop().await.expect("a clean end");
}
