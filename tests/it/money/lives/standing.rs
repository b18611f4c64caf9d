//! Whether every life stands where Stripe says.
use std::collections::BTreeMap;

use house::House;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{super::story::word, deal::Step, life::Life};
use crate::world::list;

/// Where an order of ours stands, as it has to agree with Stripe.
const OURS: &str = "
    select o.id, jsonb_build_object(
        'order', o.status,
        'subscription', (select jsonb_build_object('id', s.id, 'phase', s.phase, 'status', s.status,
            'ends', s.cancel_at_period_end, 'period_end', extract(epoch from s.period_end)::bigint, 'price', p.stripe_price_id)
            from subscriptions s join prices p on p.id = s.price_id where s.order_id = o.id),
        'services', (select jsonb_agg(v.status) from services v where v.order_id = o.id),
        'invoices', (select jsonb_object_agg(i.id, jsonb_build_array(i.status, i.amount_paid_minor))
            from invoices i join subscriptions s on s.id = i.subscription_id where s.order_id = o.id),
        'payments', (select jsonb_object_agg(p.id, jsonb_build_array(p.status, p.amount_minor, p.refunded_minor, p.disputed))
            from payments p join billing_customers c on c.id = p.customer_id where c.account_id = o.account_id),
        'refunds', (select jsonb_object_agg(r.id, r.status) from refunds r join payments p on p.id = r.payment_id
            where p.account_id = o.account_id),
        'disputes', (select jsonb_object_agg(d.id, d.status) from disputes d join payments p on p.id = d.payment_id
            where p.account_id = o.account_id),
        'deleted', (select jsonb_object_agg(c.id, c.deleted) from billing_customers c where c.account_id = o.account_id),
        'told', (select coalesce(jsonb_agg(split_part(t.fact, '/', 4) order by split_part(t.fact, '/', 4) collate \"C\"), '[]') from timeline t
            where t.order_id = o.id and t.kind = 'renewal'),
        'twice', (select count(*) from (select 1 from letters l where l.kind = 'service_delivered'
            and (l.order_id = o.id or l.service_id = o.service_id) offset 1) more),
        'strangers', (select coalesce(jsonb_agg(distinct e.subscription_id order by e.subscription_id), '[]') from payment_events e
            where e.state = 'unclaimed' and e.type <> 'difference' and e.customer_id in
                (select c.id from billing_customers c where c.account_id = o.account_id)),
        'lost', (select coalesce(jsonb_agg(r.id order by r.id collate \"C\"), '[]') from refunds r
            join payments p on p.id = r.payment_id join payment_events e on e.id = 'difference/refund/' || r.id
            where p.account_id = o.account_id),
        'held', (select count(*) from reservations r join orders h on h.id = r.order_id
            where h.account_id = o.account_id and r.released_at is null and h.status <> 'awaiting_payment'),
        'waits', (select count(*) from attention a where a.order_id = o.id and a.settled_at is null),
        'stamp', (select v.id from services v where v.order_id = o.id),
        'delivery', (select count(*) from timeline t where t.fact = 'order/' || o.id || '/delivered'),
        'history', jsonb_build_object(
            'suspended', (select count(*) from timeline t where t.order_id = o.id and t.fact like 'service/%/suspended/%'),
            'resumed', (select count(*) from timeline t where t.order_id = o.id and t.fact like 'service/%/running/%'),
            'plans', (select count(*) from timeline t where t.order_id = o.id and t.fact like 'subscription/%/plan/%'),
            'refunds', (select count(*) from timeline t join instructions i on t.fact = 'instruction/' || i.id
                where t.order_id = o.id and i.kind = 'refund'),
            'silent', (select count(*) from instructions i where i.order_id = o.id and i.state = 'done'
                and not exists (select from timeline t where t.fact = 'instruction/' || i.id))),
        'untold', (select count(*) from disputes d join payments p on p.id = d.payment_id where p.order_id = o.id and (
            not exists (select from timeline t where t.fact = 'dispute/' || d.id || '/opened')
            or d.status in ('won', 'lost')
                and not exists (select from timeline t where t.fact = 'dispute/' || d.id || '/' || d.status)))
    ) from orders o";

/// The same as Stripe says it.
fn expected(life: &Life<'_>, state: &Value) -> Value {
    let customer = life.at_stripe.as_str();
    let of_customer = |kind: &str| -> Vec<Value> {
        list(&state[kind]).into_iter().filter(|row| row["customer"] == customer).collect()
    };
    let subscriptions = of_customer("subscriptions");
    let own = subscriptions.iter().find(|row| row["id"] == life.subscription.as_str()).expect("its subscription");
    let (phase, service, machine) = match own["status"].as_str() {
        Some("active") => ("active", "running", "running"),
        // What is missing here is missing until it is suspended.
        Some("past_due") => ("suspended", "suspended", "stopped"),
        Some("canceled") => ("retained", "retained", "stopped"),
        other => panic!("the subscription is {other:?}"),
    };
    let invoice_of = |row: &Value| row["parent"]["subscription_details"]["subscription"].clone();
    let map = |rows: Vec<(String, Value)>| -> Value {
        if rows.is_empty() { Value::Null } else { Value::Object(rows.into_iter().collect()) }
    };
    let charges = of_customer("charges");
    let ours = |row: &Value| charges.iter().any(|charge| charge["id"] == row["charge"]);
    let by_charge = |kind: &str| -> Vec<(String, Value)> {
        list(&state[kind]).iter().filter(|row| ours(row)).map(|row| (word(&row["id"]), row["status"].clone())).collect()
    };
    let mut strangers: Vec<Value> =
        subscriptions.iter().filter(|row| row["id"] != own["id"]).map(|row| row["id"].clone()).collect();
    strangers.sort_by_key(ToString::to_string);
    let paid = |row: &&Value| row["status"] == "paid" && invoice_of(row) == own["id"];
    let mut told: Vec<Value> = of_customer("invoices").iter().filter(paid).map(|row| row["id"].clone()).collect();
    told.sort_by_key(ToString::to_string);
    let gone = list(&state["customers"]).iter().all(|row| row["id"] != customer || row["deleted"] == true);
    let refunds = by_charge("refunds");
    let mut lost: Vec<String> =
        refunds.iter().filter(|(_, status)| *status == "failed").map(|(id, _)| id.clone()).collect();
    lost.sort_unstable();
    let item = &own["items"]["data"][0];
    let by_date = own["cancel_at"].as_i64().is_some_and(|at| Some(at) <= item["current_period_end"].as_i64());
    let ends = own["cancel_at_period_end"] == true || by_date;
    json!({
        "order": "delivered",
        "subscription": {
            "id": own["id"], "phase": phase, "status": own["status"], "ends": ends,
            "period_end": item["current_period_end"], "price": item["price"]["id"],
        },
        "services": [service],
        "machines": [machine],
        "invoices": map(of_customer("invoices").iter().filter(|row| invoice_of(row) == own["id"])
            .map(|row| (word(&row["id"]), json!([row["status"], row["amount_paid"]]))).collect()),
        "payments": map(charges.iter().map(|row| (word(&row["id"]),
            json!([row["status"], row["amount"], row["amount_refunded"], row["disputed"]]))).collect()),
        "refunds": map(refunds),
        "disputes": map(by_charge("disputes")),
        "deleted": {customer: gone},
        "told": told,
        "twice": 0,
        "strangers": strangers,
        "lost": lost,
        // The page of another order that is not paid lapses by itself.
        "held": 1,
        "waits": 0,
        "delivery": 1,
        "history": history(life, own),
        "untold": 0,
    })
}

/// What its history has to tell, once each. What was given back in the dashboard has a line of its own, not counted here.
fn history(life: &Life<'_>, own: &Value) -> Value {
    let lived = |wanted: &[Step]| life.lived.iter().filter(|step| wanted.contains(*step)).count();
    let suspended = lived(&[Step::SuspendedThenPays]);
    let resumed = if own["status"] == "past_due" { 0 } else { suspended };
    json!({
        "suspended": suspended,
        "resumed": resumed,
        "plans": lived(&[Step::LargerPlan, Step::SmallerPlan]),
        "refunds": lived(&[Step::RefundedByStaff]),
        "silent": 0,
    })
}

/// The command that lives these again.
pub(super) fn repeats(seeds: &str) -> String {
    format!("EZ_MONEY_SEED={seeds} cargo test --locked --workspace --test it -- --ignored --nocapture money::lives")
}

/// Every life that does not stand where Stripe says.
pub(super) async fn astray(house: &House, lives: &[Life<'_>]) -> Vec<String> {
    // What nobody lives with is shown to staff after a minute of tries: the minute passes.
    sqlx::query(
        "update payment_events set attempts = 100, next_attempt_at = least(next_attempt_at, now())
         where state = 'received' and attempts > 0 and order_id is null
            and subscription_id is not null and subscription_id not in (select id from subscriptions)",
    )
    .execute(house.db())
    .await
    .expect("time passes");
    let state = house.stripe().state().await.expect("Stripe");
    let ours: Vec<(Uuid, Value)> = sqlx::query_as(OURS).fetch_all(house.db()).await.expect("the standings");
    let ours: BTreeMap<Uuid, Value> = ours.into_iter().collect();
    let cluster = house.proxmox().expect("a stand-in").state().await.expect("the cluster");
    let machines: Vec<Value> = list(&cluster["vms"]).into_iter().filter(|vm| vm["template"] != true).collect();
    let mut left = vec![];
    for life in lives {
        let (mut stands, wanted) = (ours[&life.order].clone(), expected(life, &state));
        let stamp = stands["stamp"].as_str().unwrap_or("no service").to_owned();
        let its_own = machines.iter().filter(|vm| vm["config"]["description"].to_string().contains(&stamp));
        stands["machines"] = its_own.map(|vm| vm["status"].clone()).collect();
        let differs: Vec<String> = wanted
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(field, value)| stands[field.as_str()] != **value)
            .map(|(field, value)| format!("{field}: we say {}, Stripe {value}", stands[field.as_str()]))
            .collect();
        if !differs.is_empty() {
            let (seed, clean) = (life.seed, life.clean);
            left.push(format!(
                "{} (clean: {clean}, {:?}, {:?}): {}",
                repeats(&seed.to_string()),
                life.beginning,
                life.steps,
                differs.join("; ")
            ));
        }
    }
    left
}
