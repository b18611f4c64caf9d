//! Every activity of the contract run two times, through a real worker, by the product's own hands: the second time gives
//! the same answer and leaves the same world, at the vendors and in our tables.
use std::{collections::BTreeSet, sync::Arc, time::Duration};

use activities::{
    ledger::LedgerDesk,
    machine::{MachineDesk, proxmox::ProxmoxApi},
    mail::{MailDesk, smtp::SmtpApi},
    name::{NameDesk, powerdns::PowerDnsApi},
    payment::{
        PaymentDesk,
        mirror::Mirror,
        stripe::{Attempt, StripeApi, customer::Buyer, living::Portion},
    },
    privacy::PrivacyDesk,
    round::RoundDesk,
};
use house::{Customer, House};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Allowance, KeyRing, Store};
use temporalio_client::{Client, WorkflowStartOptions};
use temporalio_macros::{workflow, workflow_methods};
use temporalio_sdk::{Runtime, Worker, WorkerOptions, runtime::RuntimeOptions};
use temporalio_workflow::{
    ActivityOptions, RetryPolicy, WorkflowContext, WorkflowContextView, WorkflowResult, common::ActivityDefinition,
};

use crate::{
    shop::open,
    world::{Vendors, tables, vendors},
};

/// One activity by its wire name.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Call {
    activity: String,
    input: Value,
}

impl ActivityDefinition for Call {
    type Input = Value;
    type Output = Value;

    fn name(&self) -> &str {
        &self.activity
    }
}

/// Runs one activity, once.
#[workflow]
struct Once {
    call: Call,
}

#[workflow_methods]
impl Once {
    #[init]
    fn new(_ctx: &WorkflowContextView, call: Call) -> Self {
        Self { call }
    }

    #[run(name = "once")]
    async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<Value> {
        let call = ctx.state(|s| s.call.clone());
        let input = call.input.clone();
        let options = ActivityOptions::with_start_to_close_timeout(Duration::from_mins(1))
            .retry_policy(RetryPolicy::builder().maximum_attempts(3).build())
            .build();
        Ok(ctx.execute_activity(call, input, options).await?)
    }
}

struct Bench<'a> {
    house: &'a House,
    client: Client,
    queue: String,
    ran: std::sync::Mutex<BTreeSet<String>>,
}

fn setting(house: &House, name: &str) -> String {
    house.setting(name).unwrap_or_else(|| panic!("{name} is not set")).to_owned()
}

impl<'a> Bench<'a> {
    /// A worker of the product's own hands, on a task queue of its own.
    async fn set_up(house: &'a House) -> Self {
        let of = |name: &str| setting(house, name);
        let store = Store::connect(&of("DATABASE_URL"), 5).expect("the store");
        let keys = Arc::new(KeyRing::from_base64(&of("EZ_SECRET_KEY")).expect("the keys"));
        let ca = std::fs::read(of("PROXMOX_CA_FILE")).expect("the authority's certificate");
        let url = |name: &str| of(name).parse::<url::Url>().expect("an address");
        let proxmox =
            ProxmoxApi::new(&url("PROXMOX_URL"), &of("PROXMOX_TOKEN_ID"), &of("PROXMOX_TOKEN_SECRET"), true, Some(&ca))
                .expect("Proxmox");
        let dns = PowerDnsApi::new(&url("EZ_DNS_URL"), &of("EZ_DNS_API_KEY"), &of("EZ_DNS_ZONE")).expect("PowerDNS");
        let smtp = SmtpApi::new(&of("EZ_SMTP_URL"), &of("EZ_MAIL_FROM")).expect("SMTP");
        let stripe = StripeApi::new(&of("STRIPE_SECRET_KEY"), &of("EZ_STRIPE_API_URL")).expect("Stripe");
        let site = of("SITE_URL");
        let queue = format!("{}-twice", house.task_queue());
        let options = WorkerOptions::new(queue.clone())
            .register_workflow::<Once>()
            .expect("a workflow")
            .register_activities(LedgerDesk { store: store.clone(), allowance: Allowance { number: 5, percent: 5 } })
            .register_activities(RoundDesk {
                mirror: Mirror { store: store.clone(), stripe: stripe.clone() },
                portion: Portion::Whole,
            })
            .register_activities(PaymentDesk { store: store.clone(), stripe, site_url: site.clone() })
            .register_activities(MachineDesk::new(store.clone(), proxmox, keys.clone()))
            .register_activities(NameDesk::new(store.clone(), dns))
            .register_activities(PrivacyDesk {
                store: store.clone(),
                stripe: StripeApi::new(&of("STRIPE_SECRET_KEY"), &of("EZ_STRIPE_API_URL")).expect("Stripe"),
                keys: keys.clone(),
                export_secs: 60,
                books_years: 10,
            })
            .register_activities(MailDesk::new(store, smtp, keys, &site, house.staff_email()))
            .build();
        let client = house.temporal().await.expect("Temporal");
        let runtime = Runtime::from_current_tokio(RuntimeOptions::default()).expect("a runtime");
        let mut worker = Worker::new(&runtime, client.clone(), options).expect("a worker");
        let handle = tokio::runtime::Handle::current();
        std::thread::spawn(move || {
            let _runtime = runtime;
            handle.block_on(worker.run()).expect("the worker runs");
        });
        Self { house, client, queue, ran: std::sync::Mutex::default() }
    }

    async fn once(&self, activity: &str, input: &Value) -> Result<Value, String> {
        let call = Call { activity: activity.to_owned(), input: input.clone() };
        let id = format!("once-{}", uuid::Uuid::new_v4());
        let options = WorkflowStartOptions::new(self.queue.clone(), id).build();
        let run = self.client.start_workflow(Once::run, call, options).await.expect("a start");
        run.get_result(Default::default()).await.map_err(|fault| format!("{activity}: {fault:?}"))
    }

    async fn world(&self) -> (std::collections::BTreeMap<String, Vec<Value>>, Vendors) {
        let mut rows = tables(self.house.db()).await;
        // Stripe writes into the inbox whenever it likes.
        rows.remove("payment_events");
        (rows, vendors(self.house).await)
    }

    /// Runs an activity two times and gives its answer.
    async fn twice(&self, activity: &str, input: Value) -> Value {
        self.ran.lock().expect("no panic").insert(activity.to_owned());
        let first = self.once(activity, &input).await.unwrap_or_else(|fault| panic!("{fault}"));
        let after_first = self.world().await;
        // What finds its first try only by the key it was made under would do it again.
        self.house.stripe().delete("/_control/idempotency_keys").await.expect("Stripe forgets");
        let second = self.once(activity, &input).await.unwrap_or_else(|fault| panic!("the second time {fault}"));
        let after_second = self.world().await;
        assert_eq!(second, first, "{activity} answered differently the second time");
        for (table, rows) in &after_second.0 {
            assert_eq!(Some(rows), after_first.0.get(table), "{activity} changed {table} the second time");
        }
        assert_eq!(after_second.1, after_first.1, "{activity} changed a vendor the second time");
        first
    }
}

fn order_input(account: uuid::Uuid, hostname: &str) -> Value {
    json!({
        "order": uuid::Uuid::new_v4(), "account": account, "service": uuid::Uuid::new_v4(), "plan": "small",
        "term": "monthly", "currency": "eur", "hostname": hostname, "image": "debian-13", "sealed_ssh_key": null,
        "policy": {
            "order": {"payment_window_secs": 60, "checkout_poll_secs": 5, "step_patience_secs": 60},
            "subscription": {
                "reminders_secs": [1], "suspend_after_secs": 2, "grace_secs": 3, "retention_secs": 4,
                "retention_warning_secs": 1, "expiry_warning_secs": 1, "poll_secs": 60, "step_patience_secs": 60
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_activity_run_two_times_leaves_the_same_world() {
    let house = open("twice").await;
    Customer::signed_in(&house).await.expect("a customer");
    house.stop_worker().await.expect("nobody else works");
    let account: uuid::Uuid = sqlx::query_scalar("select account_id from users where not is_staff")
        .fetch_one(house.db())
        .await
        .expect("an account");
    let bench = Bench::set_up(&house).await;
    let subscription = life(&bench, account).await;
    end(&bench, &subscription).await;
    unpaid(&bench, account).await;
    given_up(&bench, account).await;
    forgotten(&bench).await;
    crate::money::told(&house).await;
    for round in ["Events", "Comparison"] {
        let activity = if round == "Events" { "round.events" } else { "round.compare" };
        bench.twice(activity, json!({round: {"every_secs": 0}})).await;
    }

    let promised: BTreeSet<String> = contract_names();
    let ran = bench.ran.lock().expect("no panic").clone();
    assert_eq!(ran, promised, "an activity of the contract was not run two times");
}

/// An order from its reservation to its delivery, and the machine's first suspension.
async fn life(bench: &Bench<'_>, account: uuid::Uuid) -> (Value, Value) {
    let input = order_input(account, "twice-1");
    let order = input["order"].clone();
    let machine = bench.twice("ledger.reserve", input).await["Held"].clone();
    assert!(machine["vmid"].is_number(), "{machine}");
    bench.twice("ledger.step", json!({"order": order, "step": "checkout", "state": "running"})).await;
    let session = bench.twice("payment.open_checkout", order.clone()).await;
    assert_eq!(bench.twice("payment.read_checkout", session.clone()).await, json!("Open"));
    let id = session["session"].as_str().expect("a session");
    bench.house.stripe().post(&format!("/_control/sessions/{id}/pay"), json!({})).await.expect("paid");
    let paid = bench.twice("payment.read_checkout", session.clone()).await;
    let subscription = paid["Paid"]["subscription"].clone();
    assert!(subscription.is_string(), "{paid}");
    assert_eq!(bench.twice("payment.expire_checkout", session).await, paid, "a paid page was closed");
    bench.twice("ledger.paid", json!({"order": order, "subscription": subscription})).await;
    assert_eq!(bench.twice("machine.clone", machine.clone()).await, json!("Cloned"));
    for step in ["configure", "resize", "protect", "start", "answer"] {
        bench.twice(&format!("machine.{step}"), machine.clone()).await;
    }
    bench.twice("name.publish", order.clone()).await;
    bench.twice("ledger.delivered", order.clone()).await;
    let letter = json!({
        "kind": "service_delivered", "subject": {"Order": order}, "service": machine["service"],
        "occasion": format!("service_delivered/{}", machine["service"].as_str().expect("an id"))
    });
    bench.twice("ledger.queue_letter", letter.clone()).await;
    bench.twice("mail.send", letter).await;
    let view = bench.twice("payment.read_subscription", subscription.clone()).await;
    assert_eq!(view["status"], "active");
    let mirror = json!({"subscription": subscription, "view": view, "phase": "active", "destroy_at": null});
    bench.twice("ledger.mirror_subscription", mirror).await;
    leave(bench, &subscription).await;
    told(bench, &subscription).await;
    grown(bench, &subscription, &machine).await;
    let services = bench.twice("ledger.services", subscription.clone()).await;
    assert_eq!(services.as_array().map(Vec::len), Some(1), "{services}");
    (subscription, machine)
}

/// What would be taken away: an invoice that is paid never suspends, and the end gets its place once.
async fn leave(bench: &Bench<'_>, subscription: &Value) {
    let invoice: String =
        sqlx::query_scalar("select id from invoices").fetch_one(bench.house.db()).await.expect("one invoice");
    let removal = |kind: &str, invoice: Option<&str>| {
        json!({
            "subscription": subscription, "kind": kind, "occasion": format!("{kind}/twice"), "invoice": invoice,
            "payment_pending": false, "reminders": 0, "notice_secs": 0
        })
    };
    let held = bench.twice("ledger.ask_leave", removal("suspend", Some(&invoice))).await;
    assert!(held["Held"]["why"].is_string(), "a paid invoice suspends: {held}");
    assert_eq!(bench.twice("ledger.ask_leave", removal("retain", None)).await, json!("Given"));
    let places: i64 = sqlx::query_scalar("select count(*) from removals where allowed_at is not null")
        .fetch_one(bench.house.db())
        .await
        .expect("the places");
    assert_eq!(places, 1, "asked twice, counted otherwise than once");
}

/// What people tell a subscription: each is done once, and its row says so.
async fn told(bench: &Bench<'_>, subscription: &Value) {
    let invoice: String =
        sqlx::query_scalar("select id from invoices").fetch_one(bench.house.db()).await.expect("one invoice");
    let money = json!({"amount_minor": 200, "currency": "eur"});
    for what in [json!({"Refund": {"invoice": invoice, "money": money}}), json!("CancelAtEnd"), json!("GoOn")] {
        let id = uuid::Uuid::new_v4();
        let instruction = json!({"id": id, "by": "somebody", "reason": "kindness", "what": what});
        let mut note = json!({"subscription": subscription, "instruction": instruction, "outcome": null});
        assert_eq!(bench.twice("ledger.note_instruction", note.clone()).await, json!("accepted"));
        let errand = json!({"subscription": subscription, "instruction": instruction});
        let answer = bench.twice("payment.carry_out", errand).await;
        note["outcome"] = json!({"state": "done", "words": null, "object": answer["Done"]["object"]});
        assert_eq!(bench.twice("ledger.note_instruction", note).await, json!("done"));
    }
    let refunds = vendors(bench.house).await.money["refunds"].clone();
    assert_eq!(refunds.len(), 1, "given back otherwise than once: {refunds:?}");
    assert_eq!(refunds[0]["amount"], 200);
}

/// Another plan, and the machine fitted to it.
async fn grown(bench: &Bench<'_>, subscription: &Value, machine: &Value) {
    let price: String = sqlx::query_scalar(
        "select pr.stripe_price_id from prices pr join plans p on p.id = pr.plan_id
         where p.slug = 'medium' and pr.term = 'monthly' and pr.active",
    )
    .fetch_one(bench.house.db())
    .await
    .expect("a price");
    let change = |price: &str, stage: &str| json!({"subscription": subscription, "price": price, "stage": stage});
    assert_eq!(bench.twice("ledger.change_plan", change("price_of_nobody", "Room")).await, json!("Unknown"));
    for stage in ["Room", "GiveBack", "Apply"] {
        assert_eq!(bench.twice("ledger.change_plan", change(&price, stage)).await, json!("Done"));
    }
    bench.twice("machine.fit", json!({"machine": machine, "runs": true})).await;
    let vms = vendors(bench.house).await.machine_state["vms"].to_string();
    assert!(vms.contains("4096"), "the machine was not fitted: {vms}");
}

/// Suspension, return, and the end of everything.
async fn end(bench: &Bench<'_>, (subscription, machine): &(Value, Value)) {
    let change = |status: &str| json!({"service": machine["service"], "status": status});
    bench.twice("machine.suspend", machine.clone()).await;
    bench.twice("ledger.change_service", change("suspended")).await;
    bench.twice("machine.resume", machine.clone()).await;
    bench.twice("ledger.change_service", change("running")).await;
    let subject = json!({"Subscription": subscription});
    let raised = json!({"subject": subject, "step": "suspend", "reason": "it does not stop", "occurrence": 1});
    bench.twice("ledger.raise_attention", raised).await;
    let decision = json!({"step": "suspend", "verdict": "Retry", "by": "somebody", "reason": "try again"});
    bench.twice("ledger.settle_attention", json!({"subject": subject, "occurrence": 1, "decision": decision})).await;
    let id = subscription.as_str().expect("an id");
    let cancel = format!("/_control/subscriptions/{id}/cancel");
    bench.house.stripe().post(&cancel, json!({})).await.expect("cancelled");
    let ended = bench.twice("payment.end_subscription", subscription.clone()).await;
    assert_eq!(ended["status"], "canceled");
    bench.twice("name.withdraw", machine["order"].clone()).await;
    bench.twice("machine.destroy", machine.clone()).await;
    bench.twice("ledger.change_service", change("expired")).await;
}

/// An order whose number is taken, and that is never paid.
async fn unpaid(bench: &Bench<'_>, account: uuid::Uuid) {
    let input = order_input(account, "twice-2");
    let order = input["order"].clone();
    let machine = bench.twice("ledger.reserve", input).await["Held"].clone();
    let next = bench.twice("ledger.renumber", machine.clone()).await["Held"].clone();
    assert_ne!(next["vmid"], machine["vmid"]);
    let mut adopted = next.clone();
    adopted["vmid"] = json!(170_000);
    bench.twice("ledger.adopt_number", adopted).await;
    let session = bench.twice("payment.open_checkout", order.clone()).await;
    assert_eq!(bench.twice("payment.expire_checkout", session).await, json!("Expired"));
    bench.twice("ledger.close_order", json!({"order": order, "status": "lapsed", "reason": "not paid in time"})).await;
}

/// Somebody who has a copy of everything, and then everything erased.
async fn forgotten(bench: &Bench<'_>) {
    let (account, user, export, erasure) =
        (uuid::Uuid::new_v4(), uuid::Uuid::new_v4(), uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    let of = |name: &str| setting(bench.house, name);
    let stripe = StripeApi::new(&of("STRIPE_SECRET_KEY"), &of("EZ_STRIPE_API_URL")).expect("Stripe");
    let (id, email) = (domain::ids::AccountId(account), "gone@example.test");
    let buyer = Buyer { account: id, name: "Gone", email, deleted: 0 };
    let customer = stripe.ensure_customer(&buyer, Attempt(1)).await.expect("a customer");
    for statement in [
        "insert into accounts (id, name, stripe_customer_id) values ($1, 'Gone', $5)",
        "insert into users (id, account_id, name, email, password_hash) values ($2, $1, 'Gone', 'gone@example.test', 'x')",
        "insert into data_exports (id, user_id, account_id, state) values ($3, $2, $1, 'asked')",
        "insert into erasures (id, user_id, account_id, state, email, expires_at, due_at)
         values ($4, $2, $1, 'waiting', 'gone@example.test', now(), now())",
    ] {
        // Each names some of these, and every one has to be named.
        let whole = format!(
            "with who as (select $1::uuid as a, $2::uuid as b, $3::uuid as c, $4::uuid as d, $5::text as e) {statement}"
        );
        sqlx::query(sqlx::AssertSqlSafe(whole))
            .bind(account)
            .bind(user)
            .bind(export)
            .bind(erasure)
            .bind(&customer)
            .execute(bench.house.db())
            .await
            .expect("somebody");
    }
    bench.twice("privacy.export", json!(export)).await;
    let sealed: String = sqlx::query_scalar("select sealed_archive from data_exports where id = $1")
        .bind(export)
        .fetch_one(bench.house.db())
        .await
        .expect("a sealed archive");
    assert!(sealed.starts_with("1."), "not sealed");
    assert_eq!(bench.twice("privacy.look", json!(erasure)).await, json!("Due"));
    assert_eq!(bench.twice("privacy.begin", json!(erasure)).await, json!("Begun"));
    bench.twice("privacy.forget_customer", json!(erasure)).await;
    assert!(stripe.person(&customer).await.expect("an answer").is_none(), "the customer is still there");
    bench.twice("privacy.erase", json!(erasure)).await;
    bench.twice("privacy.finish", json!(erasure)).await;
    let left: String = sqlx::query_scalar("select name from users where id = $1")
        .bind(user)
        .fetch_one(bench.house.db())
        .await
        .expect("a row");
    assert_eq!(left, "erased");
}

/// An order given up after it was paid.
async fn given_up(bench: &Bench<'_>, account: uuid::Uuid) {
    let input = order_input(account, "twice-3");
    let order = input["order"].clone();
    let machine = bench.twice("ledger.reserve", input).await["Held"].clone();
    let session = bench.twice("payment.open_checkout", order.clone()).await;
    let id = session["session"].as_str().expect("a session");
    bench.house.stripe().post(&format!("/_control/sessions/{id}/pay"), json!({})).await.expect("paid");
    let subscription = bench.twice("payment.read_checkout", session).await["Paid"]["subscription"].clone();
    bench.twice("ledger.paid", json!({"order": order, "subscription": subscription})).await;
    let building = json!({"machine": machine, "from": "clone", "step_limit_secs": 60});
    assert_eq!(bench.twice("machine.build", building).await, json!("Ready"));
    bench.twice("machine.destroy", machine).await;
    bench.twice("payment.refund", json!({"order": order, "subscription": subscription})).await;
    bench.twice("ledger.close_order", json!({"order": order, "status": "abandoned", "reason": "given up"})).await;
    let world = vendors(bench.house).await;
    let whole = world.money["refunds"].iter().filter(|refund| refund["amount"] == 500).count();
    assert_eq!(whole, 1, "refunded more or less than once");
}

/// Every activity name the contract declares.
pub(crate) fn contract_names() -> BTreeSet<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows/contract");
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("the contract") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(&path).expect("a file");
            names.extend(
                text.split("#[activity(name = \"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned),
            );
        }
    }
    assert!(names.len() > 20, "the contract declares only {names:?}");
    names
}
