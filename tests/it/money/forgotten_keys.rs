//! Stripe may forget an idempotency key after a day: what is written again after a lost answer is found, and is there once.
//! And what comes back, such as an amount, a name or an address, is another act: no old answer stands in for it. Neither does
//! one to a refund that failed since, or was refused for a reason that is gone.
use activities::{
    fault::Fault,
    payment::stripe::{
        Attempt, StripeApi,
        checkout::CheckoutOrder,
        customer::{Addressee, Buyer},
    },
};
use contract::payment::{CarriedOut, CheckoutState, Errand};
use domain::{
    ids::{AccountId, InstructionId, OrderId, ServiceId, SubscriptionId},
    instruction::{Ask, Instruction},
    money::Money,
    plan::Term,
};
use house::House;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::story::{act, newest, word};
use crate::{
    shop::open,
    world::{assert_stripe_contract, list},
};

/// More answers than this are lost only by what never finds what it did.
const LOST_MAX: u32 = 20;

/// The product's own hands at the Stripe of a house.
pub(crate) fn hands(house: &House) -> StripeApi {
    let setting = |name: &str| house.setting(name).unwrap_or_else(|| panic!("{name} is not set")).to_owned();
    StripeApi::new(&setting("STRIPE_SECRET_KEY"), &setting("EZ_STRIPE_API_URL")).expect("Stripe")
}

/// What a subscription is told.
pub(super) fn errand(subscription: &SubscriptionId, what: Ask) -> Errand {
    let id = InstructionId(Uuid::new_v4());
    let instruction = Instruction { id, by: "an operator".to_owned(), reason: "a try".to_owned(), what };
    Errand { subscription: subscription.clone(), instruction, may_wait: false }
}

struct Shop<'a> {
    house: &'a House,
    stripe: StripeApi,
}

/// A payment page that is open, for which order, and who would pay.
struct Opened {
    order: OrderId,
    customer: String,
    session: String,
}

/// What was bought, and by whom.
struct Sold {
    order: OrderId,
    customer: String,
    subscription: SubscriptionId,
}

impl<'a> Shop<'a> {
    /// A house where nobody but the test writes.
    async fn alone(house: &'a House) -> Self {
        house.stop_worker().await.expect("nobody else writes");
        Self { house, stripe: hands(house) }
    }

    /// Does it until it is done: the answer to every new write is lost, and every key is forgotten before the next try.
    async fn done<T>(&self, what: &str, act: impl AsyncFn(Attempt) -> Result<T, Fault>) -> T {
        let stripe = self.house.stripe();
        for method in ["POST", "DELETE"] {
            let lost = json!({"kind": "drop", "method": method, "path": "/v1/", "once_each": true});
            stripe.add_fault(lost).await.expect("a fault");
        }
        let mut lost = 0;
        let done = loop {
            match act(Attempt(1)).await {
                Ok(done) => break done,
                Err(fault) => {
                    assert_ne!(fault.kind(), "give_up", "{what}: {}", fault.words());
                    lost += 1;
                    assert!(lost < LOST_MAX, "{what} does not find what it did: {}", fault.words());
                }
            }
            stripe.delete("/_control/idempotency_keys").await.expect("forgotten");
        };
        assert!(lost > 0, "{what}: no answer was lost");
        stripe.clear_faults().await.expect("mended");
        done
    }

    /// Tells a subscription something in this manner.
    async fn told(&self, sold: &Sold, what: Ask) -> CarriedOut {
        let name = format!("{what:?}");
        let errand = errand(&sold.subscription, what);
        self.done(&name, async |attempt| Box::pin(self.stripe.carry_out(&errand, attempt)).await).await
    }

    /// Tells it something once, and no answer is lost.
    async fn told_plainly(&self, sold: &Sold, what: Ask) -> CarriedOut {
        let errand = errand(&sold.subscription, what);
        Box::pin(self.stripe.carry_out(&errand, Attempt(1))).await.expect("an answer")
    }

    /// Becomes a customer, opens a payment page and pays.
    async fn buy(&self, who: &str) -> Sold {
        let Opened { order, customer, session } = self.page(who).await;
        let paid = act(self.house, &format!("sessions/{session}/pay"), json!({})).await;
        Sold { order, customer, subscription: SubscriptionId(word(&paid["subscription"])) }
    }

    /// Becomes a customer and opens a payment page.
    async fn page(&self, who: &str) -> Opened {
        let (account, order) = (AccountId(Uuid::new_v4()), OrderId(Uuid::new_v4()));
        let email = format!("{who}@example.test");
        let buyer = Buyer { account, name: who, email: &email, deleted: 0 };
        let customer =
            self.done("a customer", async |attempt| self.stripe.ensure_customer(&buyer, attempt).await).await;
        let (price, site) = (self.price("small").await, self.house.setting("SITE_URL").expect("an address").to_owned());
        let page = CheckoutOrder {
            order,
            account,
            service: ServiceId(Uuid::new_v4()),
            customer_id: &customer,
            price_id: &price,
            site_url: &site,
            trial_days: 0,
            ordered: ["plan", "term", "currency", "hostname", "image"].map(|name| (name, "a word".to_owned())),
        };
        let opened =
            self.done("a page", async |attempt| Box::pin(self.stripe.open_checkout(&page, attempt)).await).await;
        let known = self.rows("customers", |row| row["email"] == email.as_str()).await;
        assert_eq!(known.len(), 1, "made otherwise than once: {known:?}");
        let named = order.to_string();
        let pages = self.rows("sessions", |row| row["client_reference_id"] == named.as_str()).await;
        assert_eq!(pages.len(), 1, "opened otherwise than once: {pages:?}");
        Opened { order, customer, session: opened.session }
    }

    /// How often something at this address was written.
    async fn writes(&self, path: &str) -> usize {
        let asked = self.house.stripe().requests(Some(path)).await.expect("the requests");
        asked.iter().filter(|request| request["method"] == "POST" && request["path"] == path).count()
    }

    async fn price(&self, plan: &str) -> String {
        sqlx::query_scalar(
            "select pr.stripe_price_id from prices pr join plans p on p.id = pr.plan_id
             where p.slug = $1 and pr.term = 'monthly' and pr.active",
        )
        .bind(plan)
        .fetch_one(self.house.db())
        .await
        .expect("a price")
    }

    /// What Stripe holds of a kind, oldest first.
    async fn rows(&self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let state = self.house.stripe().state().await.expect("Stripe");
        list(&state[kind]).into_iter().filter(wanted).collect()
    }

    async fn invoices(&self, sold: &Sold) -> Vec<Value> {
        let of = |row: &Value| row["parent"]["subscription_details"]["subscription"] == sold.subscription.0.as_str();
        self.rows("invoices", of).await
    }

    async fn subscription(&self, sold: &Sold) -> Value {
        self.rows("subscriptions", |row| row["id"] == sold.subscription.0.as_str()).await.remove(0)
    }

    /// What was given back, the smallest first.
    async fn refunds(&self) -> Vec<i64> {
        let refunds = self.rows("refunds", |_| true).await;
        let mut amounts: Vec<i64> = refunds.iter().filter_map(|refund| refund["amount"].as_i64()).collect();
        amounts.sort_unstable();
        amounts
    }

    /// The one payment of a customer.
    async fn charge(&self, sold: &Sold) -> Value {
        let mut charges = self.rows("charges", |row| row["customer"] == sold.customer.as_str()).await;
        assert_eq!(charges.len(), 1, "{charges:?}");
        charges.remove(0)
    }

    /// Gives up what was bought, in a run of the step that has this name.
    async fn gives_up(&self, sold: &Sold, run: &str) -> Result<(), Fault> {
        Box::pin(self.stripe.in_run(&[run]).refund_order(sold.order, &sold.subscription, Attempt(1))).await
    }

    /// Sells a plan that is sold nowhere else, and gives its price.
    async fn offer(&self, name: &str, amount_minor: i64) -> String {
        let offered = self.stripe.ensure_product_and_price("probe", name, Term::Monthly, &euro(amount_minor)).await;
        offered.expect("a price")
    }
}

fn euro(amount_minor: i64) -> Money {
    Money { amount_minor, currency: "eur".parse().expect("a currency") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_again_after_stripe_forgot_its_key_is_there_once() {
    let house = open("forgotten-keys").await;
    let shop = Shop::alone(&house).await;
    let sold = shop.buy("keys").await;
    let invoice = word(&shop.invoices(&sold).await[0]["id"]);
    let back = shop.told(&sold, Ask::Refund { invoice, money: euro(200) }).await;
    assert!(matches!(back, CarriedOut::Done { object: Some(_) }), "{back:?}");
    assert_eq!(shop.refunds().await, [200]);
    plans(&shop, &sold).await;
    credit_time_and_end(&shop, &sold).await;
    assert_eq!(shop.refunds().await, [200]);

    let given_up = shop.buy("given-up").await;
    let refund =
        async |attempt| Box::pin(shop.stripe.refund_order(given_up.order, &given_up.subscription, attempt)).await;
    shop.done("an order that is given up", refund).await;
    assert_eq!(shop.refunds().await, [200, 500]);
    assert_eq!(shop.subscription(&given_up).await["status"], "canceled");
    let asked = house.stripe().get("/_control/requests?path=/v1/&method=POST").await.expect("the requests");
    let keyed = |request: &Value| request["headers"]["idempotency-key"].is_string();
    assert!(list(&asked).iter().any(keyed), "no request shows its key");
    assert_stripe_contract(&house).await;
}

/// Another plan at the end of the period, kept after all, and another one now: one schedule, one invoice.
async fn plans(shop: &Shop<'_>, sold: &Sold) {
    let price = shop.price("medium").await;
    let at_end = shop.told(sold, Ask::ChangePlanAtEnd { price: price.clone() }).await;
    assert!(matches!(at_end, CarriedOut::Done { .. }), "{at_end:?}");
    let schedules = shop.rows("schedules", |_| true).await;
    assert!(schedules.len() == 1 && schedules[0].to_string().contains(&price), "{schedules:?}");
    let kept = shop.told(sold, Ask::KeepPlan).await;
    assert!(matches!(kept, CarriedOut::Done { .. }), "{kept:?}");

    let seen = OffsetDateTime::now_utc().unix_timestamp();
    let cost = async |from| shop.stripe.preview_plan(&sold.subscription, &price, from).await.expect("a price");
    let change = |proration_date, shown| Ask::ChangePlan { price: price.clone(), proration_date, shown };
    // From a moment that is not yet, it would cost less.
    let late = shop.told_plainly(sold, change(seen + 600, cost(seen + 600).await)).await;
    assert!(matches!(late, CarriedOut::Refused { .. }), "counted from a moment to come: {late:?}");
    let shown = cost(seen).await;
    let changed = shop.told(sold, change(seen, shown.clone())).await;
    let of_change = |row: &Value| row["billing_reason"] == "subscription_update" && row["amount_paid"] != 0;
    let paid: Vec<Value> = shop.invoices(sold).await.into_iter().filter(of_change).collect();
    assert_eq!(paid.len(), 1, "charged otherwise than once: {paid:?}");
    assert_eq!(paid[0]["amount_paid"], json!(shown.amount_minor));
    assert_eq!(changed, CarriedOut::Done { object: Some(word(&paid[0]["id"])) }, "what was paid is not found");
    // Another tab asks for the same, seen at another moment: nothing is paid for that.
    let again = shop.told_plainly(sold, change(seen - 60, shown)).await;
    assert_eq!(again, CarriedOut::Done { object: None });
}

async fn credit_time_and_end(shop: &Shop<'_>, sold: &Sold) {
    let credit = shop.told(sold, Ask::Credit { money: euro(300) }).await;
    assert!(matches!(credit, CarriedOut::Done { object: Some(_) }), "{credit:?}");
    let payer = shop.rows("customers", |row| row["id"] == sold.customer.as_str()).await.remove(0);
    assert_eq!(payer["balance"], json!(-300), "given otherwise than once");

    let before = shop.subscription(sold).await;
    let until = before["items"]["data"][0]["current_period_end"].as_i64().expect("a time") + 30 * 86_400;
    let extended = shop.told(sold, Ask::Extend { until }).await;
    assert_eq!(extended, CarriedOut::Done { object: None });
    let begun = shop.invoices(sold).await.into_iter().filter(|row| row["total"] == 0).count();
    assert_eq!((begun, shop.subscription(sold).await["trial_end"].clone()), (1, json!(until)));

    assert_eq!(shop.told(sold, Ask::CancelAtEnd).await, CarriedOut::Done { object: None });
    assert_eq!(shop.subscription(sold).await["cancel_at_period_end"], json!(true));
    assert_eq!(shop.told(sold, Ask::CancelNow).await, CarriedOut::Done { object: None });
    assert_eq!(shop.subscription(sold).await["status"], "canceled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_offered_renamed_closed_or_moved_after_stripe_forgot_its_key_is_written_once() {
    let house = open("forgotten-others").await;
    let shop = Shop::alone(&house).await;
    for (what, name) in [("a plan that is offered", "Kept"), ("its other name", "Kept on")] {
        let offer =
            async |_: Attempt| shop.stripe.ensure_product_and_price("kept", name, Term::Monthly, &euro(700)).await;
        let price = shop.done(what, offer).await;
        let prices = shop.rows("prices", |row| row["product"] == "ez-kept").await;
        assert_eq!(prices.len(), 1, "made otherwise than once: {prices:?}");
        assert_eq!(prices[0]["id"], json!(price));
        let products = shop.rows("products", |row| row["id"] == "ez-kept").await;
        assert_eq!(products.len(), 1, "made otherwise than once: {products:?}");
        assert_eq!(products[0]["name"], name);
    }
    assert_eq!(shop.writes("/v1/products/ez-kept").await, 1, "renamed otherwise than once");

    let Opened { order, customer, session } = shop.page("leaves").await;
    let close = async |attempt: Attempt| Box::pin(shop.stripe.expire_checkout(order, &session, attempt)).await;
    assert_eq!(shop.done("a page that is closed", close).await, CheckoutState::Expired);
    assert_eq!(shop.writes(&format!("/v1/checkout/sessions/{session}/expire")).await, 1, "closed otherwise than once");

    let to = Addressee { email: "moved@example.test", name: Some("Moved"), instead_of: None };
    let change = format!("account-{}/address", Uuid::new_v4());
    let moves = async |attempt: Attempt| Box::pin(shop.stripe.set_address(&customer, &to, &change, attempt)).await;
    shop.done("another address", moves).await;
    let payer = shop.rows("customers", |row| row["id"] == customer.as_str()).await.remove(0);
    assert_eq!((&payer["email"], &payer["name"]), (&json!("moved@example.test"), &json!("Moved")));
    assert_eq!(shop.writes(&format!("/v1/customers/{customer}")).await, 1, "moved otherwise than once");
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_is_another_act_and_an_old_invoice_is_found() {
    let house = open("comes-back").await;
    let shop = Shop::alone(&house).await;
    let sold = shop.buy("old").await;
    let first = word(&shop.invoices(&sold).await[0]["id"]);
    for _ in 0..25 {
        act(&house, &format!("subscriptions/{}/renew", sold.subscription), json!({})).await;
    }
    let back = shop.told_plainly(&sold, Ask::Refund { invoice: first, money: euro(100) }).await;
    assert!(matches!(back, CarriedOut::Done { object: Some(_) }), "{back:?}");
    let unknown = Ask::Refund { invoice: "in_unknown".to_owned(), money: euro(100) };
    let unknown = shop.told_plainly(&sold, unknown).await;
    assert!(matches!(unknown, CarriedOut::Refused { .. }), "{unknown:?}");
    assert_eq!(shop.refunds().await, [100]);

    // The address is another one when the answer that was lost is asked for again.
    let account = AccountId(Uuid::new_v4());
    let buyer = |email: &'static str| Buyer { account, name: "Somebody", email, deleted: 0 };
    let lost = json!({"kind": "drop", "times": 1, "method": "POST", "path": "/v1/customers"});
    house.stripe().add_fault(lost).await.expect("a fault");
    let lost = shop.stripe.ensure_customer(&buyer("before@example.test"), Attempt(1)).await;
    assert!(lost.is_err(), "no answer was lost");
    let made = shop.stripe.ensure_customer(&buyer("after@example.test"), Attempt(2)).await.expect("a customer");
    let made = shop.rows("customers", |row| row["id"] == made.as_str()).await.remove(0);
    assert_eq!(made["email"], "after@example.test");

    for amount_minor in [500, 600, 500, 600] {
        let price = shop.offer("Probe", amount_minor).await;
        let row = shop.rows("prices", |row| row["id"] == price.as_str()).await.remove(0);
        let held = (row["unit_amount"].clone(), row["lookup_key"].clone());
        assert_eq!(held, (json!(amount_minor), json!("probe-monthly-eur")), "a price that is not sold any more");
    }
    for name in ["Other", "Probe", "Other"] {
        act(&house, "clock", json!({"advance_secs": 2})).await;
        shop.offer(name, 600).await;
        let product = shop.rows("products", |row| row["id"] == "ez-probe").await.remove(0);
        assert_eq!(product["name"], name);
    }
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refund_that_failed_or_was_refused_is_given_anew_although_stripe_knows_its_key() {
    let house = open("refund-anew").await;
    let shop = Shop::alone(&house).await;
    let answers = async |status: &str| act(&house, "refunds", json!({"status": status})).await;

    // On its way when its answer is lost, and failed before it is asked for again.
    let sold = shop.buy("on-its-way").await;
    let invoice = word(&shop.invoices(&sold).await[0]["id"]);
    let told = errand(&sold.subscription, Ask::Refund { invoice, money: euro(200) });
    answers("pending").await;
    let lost = json!({"kind": "drop", "times": 1, "method": "POST", "path": "/v1/refunds"});
    house.stripe().add_fault(lost).await.expect("a fault");
    assert!(Box::pin(shop.stripe.carry_out(&told, Attempt(1))).await.is_err(), "no answer was lost");
    let failed = word(&newest(&house, "refunds", |_| true).await["id"]);
    act(&house, &format!("refunds/{failed}/fail"), json!({})).await;
    answers("succeeded").await;
    for _ in 0..2 {
        let given = Box::pin(shop.stripe.carry_out(&told, Attempt(1))).await.expect("an answer");
        let CarriedOut::Done { object: Some(given) } = given else { panic!("not given: {given:?}") };
        assert_ne!(given, failed, "what failed is taken for given");
    }
    assert_eq!(shop.charge(&sold).await["amount_refunded"], json!(200), "given otherwise than once");

    // Failed at once, twice.
    let given_up = shop.buy("fails").await;
    answers("failed").await;
    for run in ["one", "two"] {
        let fault = shop.gives_up(&given_up, run).await.expect_err("it failed");
        assert_eq!(fault.kind(), "give_up", "{}", fault.words());
    }
    answers("succeeded").await;
    shop.gives_up(&given_up, "three").await.expect("it can be given now");
    assert_eq!(shop.charge(&given_up).await["refunded"], json!(true));

    // Refused while the bank disputes it.
    let disputed = shop.buy("disputed").await;
    let charge = word(&shop.charge(&disputed).await["id"]);
    let dispute = word(&act(&house, &format!("charges/{charge}/dispute"), json!({})).await["id"]);
    for run in ["one", "two"] {
        let fault = shop.gives_up(&disputed, run).await.expect_err("it is disputed");
        assert_eq!(fault.kind(), "give_up", "{}", fault.words());
    }
    act(&house, &format!("disputes/{dispute}/win"), json!({})).await;
    assert!(shop.gives_up(&disputed, "two").await.is_err(), "Stripe does not repeat what it said");
    for _ in 0..2 {
        shop.gives_up(&disputed, "three").await.expect("the dispute is over");
    }
    assert_eq!(shop.charge(&disputed).await["refunded"], json!(true));
    assert_stripe_contract(&house).await;
}
