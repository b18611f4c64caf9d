//! What staff tell a running subscription: hold, start again, refund, credit, extend. Each is done once, with who and why;
//! what cannot be is refused in words, and nothing moves.
use domain::{
    ids::InstructionId,
    instruction::{Ask, Instruction},
    money::Money,
};
use house::{Customer, House, HouseOptions, OrderForm, Page, PolicySecs};
use serde_json::{Value, json};
use time::{Date, OffsetDateTime, macros::format_description};
use workflows::subscription::Subscription;

use crate::{
    attention::{decide, staff, waiting_step},
    shop::{SOON, open_with, until},
    world::{assert_stripe_contract, list, vendors},
};

/// A customer with a delivered server.
pub(crate) struct Held<'a> {
    pub(crate) house: &'a House,
    pub(crate) customer: Customer,
    pub(crate) staff: Customer,
    pub(crate) subscription: String,
}

impl<'a> Held<'a> {
    pub(crate) async fn new(house: &'a House, hostname: &str) -> Self {
        let customer = Customer::signed_in(house).await.expect("a customer");
        let order_page = customer.buy(&OrderForm::small(hostname)).await.expect("buying");
        customer.wait_until_page_says(order_page.as_str(), "delivered", SOON).await.expect("delivery");
        let subscription = sqlx::query_scalar("select subscription_id from services where hostname = $1")
            .bind(hostname)
            .fetch_one(house.db())
            .await
            .expect("its subscription");
        Self { house, customer, staff: staff(house).await, subscription }
    }

    /// Its page for staff.
    pub(crate) async fn page(&self) -> Page {
        let address = format!("/staff/subscriptions/{}/", self.subscription);
        self.staff.visitor.open(&address).await.expect("the page").ok().expect("the page")
    }

    /// Sends one of the forms of the page.
    pub(crate) async fn send(&self, page: &Page, what: &str, values: &[(&str, &str)]) -> Page {
        let action = format!("/staff/subscriptions/{}/{what}/", self.subscription);
        self.staff.visitor.submit(page, &action, values).await.expect("an answer")
    }

    /// Tells it something by one of the forms, and waits until that has come to its end.
    pub(crate) async fn tell(&self, what: &str, values: &[(&str, &str)]) -> String {
        let answer = self.send(&self.page().await, what, values).await;
        assert_eq!(answer.status, 200, "{what} was not taken: {}", answer.text());
        self.settled(what).await
    }

    /// Waits until the newest instruction of a kind has come to its end, and gives which.
    pub(crate) async fn settled(&self, what: &str) -> String {
        until(&format!("{what} is settled"), SOON, || async {
            sqlx::query_scalar::<_, String>(
                "select state from instructions where subscription_id = $1 and kind = $2 order by asked_at desc limit 1",
            )
            .bind(&self.subscription)
            .bind(what)
            .fetch_optional(self.house.db())
            .await
            .expect("the instruction")
            .filter(|state| state != "accepted")
        })
        .await
    }

    /// Tells it something past the pages, as an operator can, and gives the end and the words about it.
    pub(crate) async fn told(&self, what: Ask) -> (String, Option<String>) {
        let id = InstructionId(uuid::Uuid::new_v4());
        let instruction = Instruction { id, by: "an operator".to_owned(), reason: "a try".to_owned(), what };
        let client = self.house.temporal().await.expect("Temporal");
        let handle = client.get_workflow_handle::<Subscription>(format!("subscription-{}", self.subscription));
        handle.execute_update(Subscription::instruct, instruction, Default::default()).await.expect("taken");
        until("it is settled", SOON, || async {
            sqlx::query_as("select state, words from instructions where id = $1 and state <> 'accepted'")
                .bind(id.0)
                .fetch_optional(self.house.db())
                .await
                .expect("the instruction")
        })
        .await
    }

    pub(crate) async fn invoice(&self) -> String {
        sqlx::query_scalar("select id from invoices where subscription_id = $1 order by created_at limit 1")
            .bind(&self.subscription)
            .fetch_one(self.house.db())
            .await
            .expect("an invoice")
    }

    pub(crate) async fn stripe(&self, path: &str, body: Value) {
        self.house.stripe().post(path, body).await.expect("Stripe's control");
    }

    /// The card fails from now on, and the next month begins.
    pub(crate) async fn stops_paying(&self) {
        self.card_fails(true).await;
        self.stripe(&format!("/_control/subscriptions/{}/renew", self.subscription), json!({})).await;
    }

    pub(crate) async fn card_fails(&self, fails: bool) {
        self.card(json!({"fails": fails})).await;
    }

    /// The card is one of Stripe's test cards from now on.
    pub(crate) async fn card_is(&self, kind: &str) {
        self.card(json!({"kind": kind})).await;
    }

    async fn card(&self, card: Value) {
        let customer: String = sqlx::query_scalar(
            "select a.stripe_customer_id from accounts a join subscriptions s on s.account_id = a.id where s.id = $1",
        )
        .bind(&self.subscription)
        .fetch_one(self.house.db())
        .await
        .expect("a customer at Stripe");
        self.stripe(&format!("/_control/customers/{customer}/card"), card).await;
    }

    pub(crate) async fn service_is(&self, status: &str) {
        until(&format!("the service is {status}"), SOON, || async {
            let now: String = sqlx::query_scalar("select status from services where subscription_id = $1")
                .bind(&self.subscription)
                .fetch_one(self.house.db())
                .await
                .expect("the service");
            (now == status).then_some(())
        })
        .await;
    }

    pub(crate) async fn refunds(&self) -> Vec<i64> {
        let refunds = vendors(self.house).await.money["refunds"].clone();
        refunds.iter().map(|refund| refund["amount"].as_i64().expect("an amount")).collect()
    }
}

/// A day that is so many days from today, as a form takes it.
pub(crate) fn day(ahead: i64) -> String {
    let day: Date = (OffsetDateTime::now_utc() + time::Duration::days(ahead)).date();
    day.format(format_description!("[year]-[month]-[day]")).expect("a day")
}

fn euro(amount_minor: i64) -> Money {
    Money { amount_minor, currency: "eur".parse().expect("a currency") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_suspension_waits_until_the_hold_is_taken_away() {
    let policy = PolicySecs { reminders: vec![1], suspend_after: 2, subscription_poll: 1, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("held") }).await;
    let held = Held::new(&house, "held-1").await;
    let silent = held.send(&held.page().await, "hold", &[("until", &day(3))]).await;
    assert_eq!(silent.status, 422, "held without a reason: {}", silent.text());
    let past = held.send(&held.page().await, "hold", &[("until", &day(-1)), ("reason", "late")]).await;
    assert_eq!(past.status, 422, "held until yesterday");
    let far = held.send(&held.page().await, "hold", &[("until", &day(500)), ("reason", "far")]).await;
    assert_eq!(far.status, 422, "held for more than a year");
    assert_eq!(held.tell("hold", &[("until", &day(3)), ("reason", "the bank is on strike")]).await, "done");
    held.stops_paying().await;
    held.customer.mailbox().wait_for(&held.customer.email, "is missing", 1, SOON).await.expect("a reminder");
    // Long after it was due, and looked at since.
    until("it was looked at after the day it was due", SOON, || async {
        let late: bool = sqlx::query_scalar(
            "select read_at > (select created_at from letters where kind = 'payment_reminder') + interval '4 seconds'
             from subscriptions where id = $1",
        )
        .bind(&held.subscription)
        .fetch_one(house.db())
        .await
        .expect("the subscription");
        late.then_some(())
    })
    .await;
    held.service_is("running").await;
    let page = held.page().await.text();
    assert!(page.contains("Held: nothing is suspended") && page.contains("the bank is on strike"), "{page}");
    assert_eq!(held.tell("release", &[("reason", "the strike is over")]).await, "done");
    held.service_is("suspended").await;
    // One click where it is read that the server will be taken away, or the form, which is filled in already.
    let coming = until("what happens next offers to start it again", SOON, || async {
        let page = held.staff.visitor.open("/staff/coming/").await.expect("the page").ok().expect("the page");
        page.has_form("/restore/").then_some(page)
    })
    .await;
    let filled = held.page().await;
    let value = |id: &str| filled.attributes(id, "value").concat();
    assert_eq!((value("#restore-until"), value("#restore-reason").is_empty()), (day(7), false));
    let clicked = held.staff.visitor.submit(&coming, "/restore/", &[]).await.expect("an answer");
    assert_eq!((clicked.status, held.settled("restore").await.as_str()), (200, "done"), "{}", clicked.text());
    held.service_is("running").await;
    held.customer.mailbox().wait_for(&held.customer.email, "started again", 1, SOON).await.expect("a letter");
    let history = held.page().await.text();
    for words in ["the strike is over", "Reason: We give you a few more days.", "was started again", "Staff"] {
        assert!(history.contains(words), "{words} is not in the history: {history}");
    }
    // Whoever still does not pay is reminded anew, stopped again after that, and told so.
    assert_eq!(held.tell("release", &[("reason", "they do not answer")]).await, "done");
    held.service_is("suspended").await;
    let in_time: bool = sqlx::query_scalar(
        "select count(*) = 2 and bool_and(l.sent_at < r.allowed_at) from removals r
         join letters l on l.occasion like replace(r.occasion, 'suspend/' || r.subscription_id, 'payment_reminder') || '/_'
         where r.kind = 'suspend'",
    )
    .fetch_one(house.db())
    .await
    .expect("stops and reminders");
    assert!(in_time, "it was stopped again without a reminder of its own");
    held.customer.mailbox().wait_for(&held.customer.email, "is missing", 2, SOON).await.expect("a second reminder");
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_stopped_at_its_end_runs_again_by_one_click_and_its_next_stop_is_told_too() {
    let policy = PolicySecs { retention: 600, subscription_poll: 1, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("end-undone") }).await;
    let held = Held::new(&house, "end-undone-1").await;
    let (mailbox, address) = (held.customer.mailbox(), &held.customer.email);
    let machine_is = async |status: &str| {
        until(&format!("the machine is {status}"), SOON, || async {
            let machines = house.machines().vms().await.expect("the machines");
            (machines.len() == 1 && machines.values().all(|machine| machine.status == status)).then_some(())
        })
        .await;
    };
    let shown = async || {
        let board = held.customer.dashboard().await.expect("the dashboard");
        let lines = |place: &str| board.texts(place).len();
        (lines("section[aria-labelledby=servers] h3"), lines("section[aria-labelledby=ended] tbody tr"))
    };
    held.stripe(&format!("/_control/subscriptions/{}/cancel", held.subscription), json!({})).await;
    held.service_is("retained").await;
    machine_is("stopped").await;
    mailbox.wait_for(address, "has stopped", 1, SOON).await.expect("a letter");
    assert_eq!(shown().await, (0, 1), "it stands among the servers that run");

    let coming = until("what happens next offers to start it again", SOON, || async {
        let page = held.staff.visitor.open("/staff/coming/").await.expect("the page").ok().expect("the page");
        page.has_form("/restore/").then_some(page)
    })
    .await;
    let clicked = held.staff.visitor.submit(&coming, "/restore/", &[]).await.expect("an answer");
    assert_eq!((clicked.status, held.settled("restore").await.as_str()), (200, "done"), "{}", clicked.text());
    held.service_is("running").await;
    machine_is("running").await;
    mailbox.wait_for(address, "started again", 1, SOON).await.expect("a letter");
    assert_eq!(shown().await, (1, 0), "it does not stand among the servers that run");

    assert_eq!(held.tell("release", &[("reason", "they have their data")]).await, "done");
    held.service_is("retained").await;
    machine_is("stopped").await;
    mailbox.wait_for(address, "has stopped", 2, SOON).await.expect("nobody is told that it stopped again");
    assert_eq!(mailbox.letters(address, "has stopped").await.expect("letters").len(), 2, "told more than once each");
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_goes_back_once_for_each_wish_and_never_more_than_was_paid() {
    let house = open_with(HouseOptions::named("refunds")).await;
    let (held, other) = (Held::new(&house, "refund-1").await, Held::new(&house, "refund-2").await);
    let page = held.page().await;
    for (values, why) in [
        (vec![("amount", "5.01"), ("reason", "too much")], "Only EUR 5.00"),
        (vec![("amount", "2.00"), ("currency", "usd"), ("reason", "dollars")], "This is in EUR"),
        (vec![("amount", "-2.00"), ("reason", "a charge")], "an amount such as"),
        (vec![("amount", "0"), ("reason", "nothing")], "more than nothing"),
        (vec![("amount", "2.00"), ("reason", " ")], "Write down why"),
    ] {
        let answer = held.send(&page, "refund", &values).await;
        assert_eq!(answer.status, 422, "{values:?} was taken: {}", answer.text());
        assert!(answer.text().contains(why), "{values:?}: {}", answer.text());
    }
    let somebody = held.customer.visitor.open(page.url.as_str()).await.expect("an answer");
    assert_eq!(somebody.status, 404, "a customer sees what staff see");
    assert_eq!(held.refunds().await, Vec::<i64>::new(), "something was given back");

    let values = [("amount", "2.00"), ("reason", "it was slow in May")];
    let answers = tokio::join!(held.send(&page, "refund", &values), held.send(&page, "refund", &values));
    assert_eq!((answers.0.status, answers.1.status), (200, 200), "{}", answers.0.text());
    assert_eq!(held.settled("refund").await, "done");
    assert_eq!(held.send(&page, "refund", &values).await.status, 200, "sent a third time");
    let (invoice, others) = (held.invoice().await, other.invoice().await);
    let refund = |invoice: &str, money| Ask::Refund { invoice: invoice.to_owned(), money };
    let (state, words) = held.told(refund(&invoice, euro(301))).await;
    assert_eq!(
        (state.as_str(), words.as_deref()),
        ("refused", Some("Only EUR 3.00 of this invoice can still be given back."))
    );
    let dollars = Money { amount_minor: 100, currency: "usd".parse().expect("a currency") };
    let (state, words) = held.told(refund(&invoice, dollars)).await;
    assert_eq!((state.as_str(), words.as_deref()), ("refused", Some("This invoice was paid in EUR.")));
    assert_eq!(held.told(refund(&others, euro(100))).await.0, "refused", "another customer's invoice");
    assert_eq!(held.refunds().await, [200], "given back otherwise than once");
    assert_eq!(held.told(refund(&invoice, euro(300))).await.0, "done");
    assert_eq!(held.refunds().await.iter().sum::<i64>(), 500);
    let page = held.page().await.text();
    for words in ["EUR 2.00", "it was slow in May", "Staff", "invoice.paid", "re_", &invoice] {
        assert!(page.contains(words), "{words} is not on the page: {page}");
    }
    let server = held.customer.dashboard().await.expect("the dashboard").link("/dashboard/vps/").expect("a link");
    let told = held.customer.visitor.open(server.as_str()).await.expect("the server's page").text();
    assert!(told.contains("were given back. Reason: it was slow in May"), "the customer is not told: {told}");
    held.service_is("running").await;
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wish_that_stripe_does_not_fulfil_waits_for_staff_who_may_drop_it() {
    let policy = PolicySecs { step_patience: 3, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("wish") }).await;
    let held = Held::new(&house, "wish-1").await;
    let fault = json!({"kind": "status", "status": 503, "body": "later", "method": "POST", "path": "/v1/refunds"});
    house.stripe().add_fault(fault).await.expect("a fault");
    let answer = held.send(&held.page().await, "refund", &[("amount", "1.00"), ("reason", "kindness")]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("Being done"), "the page does not show it: {}", answer.text());
    let workflow_id = format!("subscription-{}", held.subscription);
    assert_eq!(waiting_step(&house, &workflow_id).await, "carry_out");
    decide(&held.staff, &workflow_id, &[("verdict", "abandon"), ("reason", "it is not worth it")]).await;
    assert_eq!(held.settled("refund").await, "refused");
    house.stripe().clear_faults().await.expect("mended");
    assert_eq!(held.told(Ask::CancelAtEnd).await.0, "done", "the next wish is not fulfilled");
    assert_eq!(held.refunds().await, Vec::<i64>::new());
    let ending =
        list(&house.stripe().state().await.expect("Stripe")["subscriptions"])[0]["cancel_at_period_end"].clone();
    assert_eq!(ending, json!(true));
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refund_that_failed_or_was_refused_is_given_when_staff_have_it_tried_again() {
    let house = open_with(HouseOptions::named("refund-again")).await;
    let held = Held::new(&house, "refund-again-1").await;
    let workflow_id = format!("subscription-{}", held.subscription);
    let waits = async |amount: &str| {
        let values = [("amount", amount), ("reason", "kindness")];
        let answer = held.send(&held.page().await, "refund", &values).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(waiting_step(&house, &workflow_id).await, "carry_out");
    };
    let again = async || {
        decide(&held.staff, &workflow_id, &[("verdict", "retry")]).await;
        assert_eq!(held.settled("refund").await, "done");
    };
    held.stripe("/_control/refunds", json!({"status": "failed"})).await;
    waits("1.00").await;
    held.stripe("/_control/refunds", json!({"status": "succeeded"})).await;
    again().await;

    let charges = vendors(&house).await.money["charges"].clone();
    let charge = charges[0]["id"].as_str().expect("a payment");
    let dispute = format!("/_control/charges/{charge}/dispute");
    let dispute = house.stripe().post(&dispute, json!({})).await.expect("a dispute");
    waits("2.00").await;
    let dispute = dispute["id"].as_str().expect("an id");
    held.stripe(&format!("/_control/disputes/{dispute}/win"), json!({})).await;
    again().await;
    let charges = vendors(&house).await.money["charges"].clone();
    assert_eq!((charges.len(), &charges[0]["amount_refunded"]), (1, &json!(300)), "given otherwise than once each");
    assert_stripe_contract(&house).await;
}
