//! One order of the matrix: a buyer of its own, driven through the real engine to the end its story has.
use std::time::Duration;

use contract::order::OrderInput;
use domain::{
    ids::{InstructionId, OrderId, ServiceId},
    instruction::{Ask, Instruction},
    money::Money,
};
use house::House;
use serde_json::{Value, json};
use temporalio_client::{Client, WorkflowExecuteUpdateOptions, WorkflowStartOptions};
use uuid::Uuid;
use workflows::{order::Order, subscription::Subscription};

use crate::{
    shop::until,
    world::{count, list},
};

/// The longest anything of a cell takes, however busy the machine is.
pub(crate) const LIMIT: Duration = Duration::from_mins(4);
/// A step is tried this long before it waits for staff.
pub(crate) const PATIENCE_SECS: u64 = 300;

/// What an order lives through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Story {
    /// Paid, built, delivered.
    Delivered,
    /// The same, although somebody else's machine has its number.
    Renumbered,
    /// The same, with a machine that staff cloned by hand.
    Adopted,
    /// Never paid.
    Lapsed,
    /// Paid, built but for its name, given up.
    GivenUp,
    /// Delivered, unpaid the second month, suspended, paid, resumed.
    Resumed,
    /// Delivered, unpaid until it ends, destroyed.
    Ended,
    /// Delivered; then its price is changed at Stripe, and it grows.
    Grown,
    /// Delivered; then staff give back all that was paid, and it goes on.
    Told,
}

/// A moment of a story at which a fault may be laid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Before the order is begun.
    Begin,
    /// Before it is paid; its place and its payment page are known.
    Pay,
    /// Just after it was paid; its subscription is known.
    Paid,
    /// Before staff give it up.
    GiveUp,
    /// Once it is delivered, before its next payment fails.
    Delivered,
    /// Once it is suspended.
    Suspended,
}

/// An order and everything that is known of it.
pub(crate) struct Bought<'a> {
    pub(crate) house: &'a House,
    pub(crate) story: Story,
    pub(crate) order: OrderId,
    pub(crate) service: ServiceId,
    account: Uuid,
    pub(crate) email: String,
    hostname: String,
    /// The published name, canonical.
    pub(crate) name: String,
    pub(crate) vmid: u32,
    pub(crate) ipv4: String,
    pub(crate) session: String,
    pub(crate) subscription: String,
    pub(crate) customer: String,
    pub(crate) intent: String,
    /// How long after a missed payment it is stopped.
    pub(crate) suspend_after_secs: u32,
}

impl<'a> Bought<'a> {
    /// A buyer who has not ordered yet.
    pub(crate) async fn new(house: &'a House, story: Story, word: &str) -> Self {
        let (account, user, order, service) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        let hostname = word.replace(['.', '_'], "-");
        let email = format!("{hostname}-{}@example.test", &account.simple().to_string()[..8]);
        sqlx::query("insert into accounts (id, name) values ($1, $2)")
            .bind(account)
            .bind(word)
            .execute(house.db())
            .await
            .expect("an account");
        sqlx::query(
            "insert into users (id, account_id, name, email, password_hash, email_verified_at)
             values ($1, $2, $3, $4, 'none', now())",
        )
        .bind(user)
        .bind(account)
        .bind(word)
        .bind(&email)
        .execute(house.db())
        .await
        .expect("a user");
        let name = format!("{}.{}", activities::name::label(&hostname, ServiceId(service)), house.zone());
        let (order, service) = (OrderId(order), ServiceId(service));
        let nothing = String::new;
        Self {
            house,
            story,
            order,
            service,
            account,
            email,
            hostname,
            name,
            vmid: 0,
            ipv4: nothing(),
            session: nothing(),
            subscription: nothing(),
            customer: nothing(),
            intent: nothing(),
            suspend_after_secs: 2,
        }
    }

    fn input(&self) -> OrderInput {
        let window_secs = if self.story == Story::Lapsed { 4 } else { 900 };
        let (grace_secs, retention_secs) = if self.story == Story::Ended { (4, 3) } else { (900, 900) };
        let input = json!({
            "order": self.order, "account": self.account, "service": self.service, "plan": "small", "term": "monthly",
            "currency": "eur", "hostname": self.hostname, "image": "debian-13", "sealed_ssh_key": null,
            "policy": {
                "order": {
                    "payment_window_secs": window_secs, "checkout_poll_secs": 2, "step_patience_secs": PATIENCE_SECS
                },
                "subscription": {
                    "reminders_secs": [1], "suspend_after_secs": self.suspend_after_secs, "grace_secs": grace_secs,
                    "retention_secs": retention_secs, "retention_warning_secs": 1, "expiry_warning_secs": 1,
                    "poll_secs": 2, "step_patience_secs": PATIENCE_SECS
                }
            }
        });
        serde_json::from_value(input).expect("an order")
    }

    /// What only the change to the first of its reverse names holds: its own name is published by then.
    pub(super) fn reverse_name(&self) -> String {
        format!(r#""type":"PTR","changetype":"REPLACE","ttl":300,"records":[{{"content":"{}""#, self.name)
    }

    pub(crate) fn workflow_id(&self) -> String {
        self.order.workflow_id()
    }

    pub(crate) fn subscription_workflow_id(&self) -> String {
        format!("subscription-{}", self.subscription)
    }

    /// Begins the order.
    pub(crate) async fn begin(&self, client: &Client) {
        let options = WorkflowStartOptions::new(self.house.task_queue().to_owned(), self.workflow_id()).build();
        client.start_workflow(Order::run, self.input(), options).await.expect("an order begins");
    }

    /// Waits until its payment page is open, and learns where its machine will be.
    pub(crate) async fn page_opens(&mut self) {
        let (session, vmid, ipv4, customer) = until(&format!("{} has its page", self.name), LIMIT, || async {
            sqlx::query_as::<_, (String, i32, String, String)>(
                "select o.stripe_session_id, r.vmid, host(r.ipv4), a.stripe_customer_id
                 from orders o join reservations r on r.order_id = o.id join accounts a on a.id = o.account_id
                 where o.id = $1 and o.stripe_session_id is not null and a.stripe_customer_id is not null",
            )
            .bind(self.order.0)
            .fetch_optional(self.house.db())
            .await
            .expect("the order")
        })
        .await;
        (self.session, self.ipv4, self.customer) = (session, ipv4, customer);
        self.vmid = u32::try_from(vmid).expect("a number");
    }

    /// Pays as a customer does, and learns what Stripe made of it.
    pub(crate) async fn pay(&mut self) {
        let path = format!("/_control/sessions/{}/pay", self.session);
        let paid = self.house.stripe().post(&path, json!({})).await.expect("paying");
        paid["subscription"].as_str().expect("a subscription").clone_into(&mut self.subscription);
        let state = self.house.stripe().state().await.expect("Stripe");
        let intents = list(&state["payment_intents"]);
        let own = intents.iter().find(|intent| intent["customer"] == self.customer.as_str()).expect("a payment");
        own["id"].as_str().expect("an id").clone_into(&mut self.intent);
    }

    pub(crate) async fn reaches(&self, status: &str) {
        until(&format!("{} ({}) is {status}", self.name, self.workflow_id()), LIMIT, || async {
            let now: Option<String> = sqlx::query_scalar("select status from orders where id = $1")
                .bind(self.order.0)
                .fetch_optional(self.house.db())
                .await
                .expect("the order");
            (now.as_deref() == Some(status)).then_some(())
        })
        .await;
    }

    pub(crate) async fn service_is(&self, status: &str) {
        until(&format!("the service of {} is {status}", self.name), LIMIT, || async {
            let now: String = sqlx::query_scalar("select status from services where id = $1")
                .bind(self.service.0)
                .fetch_one(self.house.db())
                .await
                .expect("the service");
            (now == status).then_some(())
        })
        .await;
    }

    pub(crate) async fn machine_is(&self, status: &str) {
        until(&format!("the machine of {} is {status}", self.name), LIMIT, || async {
            let machines = self.house.machines().vms().await.expect("the machines");
            machines.get(&self.vmid).is_some_and(|vm| vm.status == status).then_some(())
        })
        .await;
    }

    /// Its price is changed in Stripe's dashboard.
    pub(crate) async fn is_repriced(&self) {
        change_to_medium(self.house, &self.subscription).await;
    }

    /// Staff give back all that was paid.
    pub(crate) async fn is_given_back(&self, client: &Client) {
        let invoice: String = until(&format!("the invoice of {} is known", self.subscription), LIMIT, || async {
            let known =
                sqlx::query_scalar("select id from invoices where subscription_id = $1").bind(&self.subscription);
            known.fetch_optional(self.house.db()).await.expect("invoices")
        })
        .await;
        let money = Money { amount_minor: 500, currency: "eur".parse().expect("a currency") };
        let id = InstructionId(self.order.0);
        self.is_asked(client, id, Ask::Refund { invoice, money }).await;
        self.has_done(id).await;
    }

    /// An operator tells its subscription something. Whoever is not answered says the same again.
    pub(super) async fn is_asked(&self, client: &Client, id: InstructionId, what: Ask) {
        let (by, reason) = ("an operator".to_owned(), "by hand".to_owned());
        let instruction = Instruction { id, by, reason, what };
        let handle = client.get_workflow_handle::<Subscription>(self.subscription_workflow_id());
        until(&format!("{} takes an instruction", self.subscription_workflow_id()), LIMIT, || async {
            let options = WorkflowExecuteUpdateOptions::builder().update_id(id.to_string()).build();
            handle.execute_update(Subscription::instruct, instruction.clone(), options).await.ok()
        })
        .await;
    }

    /// Waits until what its subscription was told is done, and gives what that made at Stripe.
    pub(super) async fn has_done(&self, id: InstructionId) -> Option<String> {
        until(&format!("{} has done what it was told", self.subscription), LIMIT, || async {
            let known: Option<(String, Option<String>, Option<String>)> =
                sqlx::query_as("select state, words, object_id from instructions where id = $1")
                    .bind(id.0)
                    .fetch_optional(self.house.db())
                    .await
                    .expect("the instruction");
            let (state, words, object) = known?;
            assert_ne!(state, "refused", "{}: {words:?}", self.subscription);
            (state == "done").then_some(object)
        })
        .await
    }

    /// The card fails from now on, and the next month begins.
    pub(crate) async fn stops_paying(&self) {
        self.card_fails(true).await;
        let renew = format!("/_control/subscriptions/{}/renew", self.subscription);
        self.house.stripe().post(&renew, json!({})).await.expect("the next month");
    }

    /// A new card, and what is open is paid with it.
    pub(crate) async fn pays_again(&self) {
        self.card_fails(false).await;
        let state = self.house.stripe().state().await.expect("Stripe");
        let own = |invoice: &&Value| invoice["customer"] == self.customer.as_str() && invoice["status"] == "open";
        for invoice in list(&state["invoices"]).iter().filter(own) {
            let path = format!("/_control/invoices/{}/pay", invoice["id"].as_str().expect("an id"));
            self.house.stripe().post(&path, json!({})).await.expect("paying");
        }
    }

    async fn card_fails(&self, fails: bool) {
        let card = format!("/_control/customers/{}/card", self.customer);
        self.house.stripe().post(&card, json!({"fails": fails})).await.expect("another card");
    }

    /// Waits until every letter about it is handed over, and at least the one whose kind is given.
    pub(crate) async fn is_told(&self, kind: &str) {
        until(&format!("{} is told of {kind}", self.email), LIMIT, || async {
            let (sent, waiting): (i64, i64) = sqlx::query_as(
                "select count(*) filter (where kind = $2 and state = 'sent'), count(*) filter (where state in ('queued', 'started'))
                 from letters
                 where order_id = $1 or subscription_id = (select subscription_id from orders where id = $1)",
            )
            .bind(self.order.0)
            .bind(kind)
            .fetch_one(self.house.db())
            .await
            .expect("the letters");
            (sent > 0 && waiting == 0).then_some(())
        })
        .await;
    }
}

/// Changes the price of a subscription as somebody does in Stripe's dashboard; the next invoice settles it.
pub(crate) async fn change_price(house: &House, subscription: &str, item: &str, price: &str) {
    let url = house.stripe().base().join(&format!("/v1/subscriptions/{subscription}")).expect("an address");
    let form = [("items[0][id]", item), ("items[0][price]", price), ("proration_behavior", "none")];
    let key = house.setting("STRIPE_SECRET_KEY").expect("a key");
    until("Stripe takes another price", LIMIT, || async {
        let http = &house.visitor().expect("a browser").http;
        let answer = http.post(url.clone()).bearer_auth(key).form(&form).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
}

/// Changes the price of a subscription to that of the medium plan.
pub(crate) async fn change_to_medium(house: &House, subscription: &str) {
    let state = house.stripe().state().await.expect("Stripe");
    let own = |row: &&Value| row["id"] == subscription;
    let item = list(&state["subscriptions"]).iter().find(own).expect("it")["items"]["data"][0]["id"].clone();
    let price: String = sqlx::query_scalar(
        "select pr.stripe_price_id from prices pr join plans p on p.id = pr.plan_id
         where p.slug = 'medium' and pr.term = 'monthly' and pr.active",
    )
    .fetch_one(house.db())
    .await
    .expect("a price");
    change_price(house, subscription, item.as_str().expect("an id"), &price).await;
}

/// How many steps wait for staff.
pub(crate) async fn waiting(house: &House) -> i64 {
    count(house.db(), "select count(*) from attention where settled_at is null").await
}
