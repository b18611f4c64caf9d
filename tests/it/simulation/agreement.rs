//! Whether our tables, the machines, the names and the letters say what Stripe says.
use std::collections::BTreeMap;

use house::{Customer, House, Record, Vm};
use serde_json::Value;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use crate::world::{Vendors, list, vendors};

/// One order with everything we keep of it.
#[derive(Debug, FromRow)]
struct Ours {
    id: Uuid,
    service_id: Uuid,
    email: String,
    status: String,
    stripe_session_id: Option<String>,
    vmid: Option<i32>,
    held: bool,
    service: Option<String>,
    subscription: Option<String>,
    mirrored: Option<String>,
    phase: Option<String>,
    period_end: Option<i64>,
    letters: i64,
    unsent: i64,
}

const OURS: &str = "
    select o.id, o.service_id, u.email, o.status, o.stripe_session_id, r.vmid,
        r.order_id is not null and r.released_at is null as held,
        s.status as service, sub.id as subscription, sub.status as mirrored, sub.phase,
        extract(epoch from sub.period_end)::bigint as period_end,
        (select count(*) from letters l where l.kind = 'service_delivered' and l.service_id = o.service_id) as letters,
        (select count(*) from letters l where l.state <> 'sent' and
            (l.order_id = o.id or l.service_id = o.service_id or l.subscription_id = sub.id
                or (l.user_id = u.id and l.state <> 'refused'))) as unsent
    from orders o join users u on u.account_id = o.account_id
    left join reservations r on r.order_id = o.id
    left join services s on s.order_id = o.id
    left join subscriptions sub on sub.order_id = o.id";

/// Everything that has to agree, asked at one moment.
struct Moment {
    ours: Vec<Ours>,
    money: Value,
    world: Vendors,
    stamps: BTreeMap<u32, String>,
}

impl Moment {
    async fn of(house: &House) -> Self {
        let world = vendors(house).await;
        let vms = world.machine_state["vms"].as_object().cloned().unwrap_or_default();
        let stamp = |(vmid, vm): (String, Value)| Some((vmid.parse().ok()?, vm["config"]["description"].to_string()));
        Self {
            ours: orders(house.db()).await,
            money: house.stripe().state().await.expect("Stripe"),
            stamps: vms.into_iter().filter_map(stamp).collect(),
            world,
        }
    }

    fn machines_of(&self, service: Uuid) -> Vec<&Vm> {
        let ours = self.stamps.iter().filter(|(_, stamp)| stamp.contains(&service.to_string()));
        ours.filter_map(|(vmid, _)| self.world.machines.get(vmid)).collect()
    }

    /// The names of a service carry the end of its id.
    fn names_of(&self, service: Uuid) -> Vec<&Record> {
        let id = service.simple().to_string();
        let mark = format!("-{}.", &id[id.len() - 8..]);
        self.world.names.iter().filter(|record| record.name.contains(&mark) || record.content.contains(&mark)).collect()
    }

    fn subscription(&self, id: &Value) -> Option<Value> {
        list(&self.money["subscriptions"]).into_iter().find(|row| row["id"] == *id)
    }
}

async fn orders(db: &PgPool) -> Vec<Ours> {
    sqlx::query_as(OURS).fetch_all(db).await.expect("the orders")
}

/// What does not agree, by seed.
pub(super) async fn disagreements(house: &House, lives: &[u64], customers: &[Customer]) -> Vec<(u64, String)> {
    let moment = Moment::of(house).await;
    let mut left = vec![];
    for (seed, customer) in lives.iter().zip(customers) {
        let mut why: Vec<String> = one_customer(&moment, customer).into_iter().collect();
        for order in moment.ours.iter().filter(|order| order.email == customer.email) {
            why.extend(one_order(&moment, order).err().map(|why| format!("{why}: {order:?}")));
        }
        if !why.is_empty() {
            left.push((*seed, format!("seed {seed}: {}", why.join("; "))));
        }
    }
    left
}

/// One customer at Stripe, and no charge that no invoice asked for.
fn one_customer(moment: &Moment, customer: &Customer) -> Option<String> {
    let known = list(&moment.money["customers"]).into_iter().filter(|row| row["email"] == customer.email.as_str());
    let known: Vec<Value> = known.collect();
    match known.as_slice() {
        [] => None,
        [one] => list(&moment.money["payments"])
            .into_iter()
            .filter(|payment| payment["customer"] == one["id"])
            .find(|payment| payment["paid_charges"] != i32::from(payment["status"] == "paid"))
            .map(|payment| format!("a period is not charged once: {payment}")),
        more => Some(format!("{} customers at Stripe", more.len())),
    }
}

fn one_order(moment: &Moment, order: &Ours) -> Result<(), String> {
    let of_order = |session: &Value| session["client_reference_id"] == order.id.to_string();
    let sessions: Vec<Value> = moment.world.money["sessions"].iter().filter(|row| of_order(row)).cloned().collect();
    let [session] = sessions.as_slice() else { return Err(format!("{} payment pages", sessions.len())) };
    agree("the page's id", order.stripe_session_id.as_deref(), session["id"].as_str())?;
    agree("letters that wait", order.unsent, 0)?;
    match session["status"].as_str() {
        Some("expired") => gone(moment, order, "lapsed"),
        Some("complete") => {
            let at_stripe = moment.subscription(&session["subscription"]).ok_or("its subscription is not there")?;
            paid(moment, order, &at_stripe)
        }
        other => Err(format!("the payment page is {other:?}")),
    }
}

/// What was paid was delivered once, and lives as its subscription does.
fn paid(moment: &Moment, order: &Ours, at_stripe: &Value) -> Result<(), String> {
    agree("the subscription", order.subscription.as_deref(), at_stripe["id"].as_str())?;
    agree("its status", order.mirrored.as_deref(), at_stripe["status"].as_str())?;
    agree("its period", order.period_end, at_stripe["items"]["data"][0]["current_period_end"].as_i64())?;
    agree("letters of delivery", order.letters, 1)?;
    let (phase, service, machine) = match at_stripe["status"].as_str() {
        Some("active") => ("active", "running", "running"),
        Some("past_due") => ("suspended", "suspended", "stopped"),
        Some("canceled") => {
            agree("the phase", order.phase.as_deref(), Some("expired"))?;
            agree("the service", order.service.as_deref(), Some("expired"))?;
            return gone(moment, order, "delivered");
        }
        other => return Err(format!("the subscription is {other:?}")),
    };
    agree("the order", order.status.as_str(), "delivered")?;
    agree("the phase", order.phase.as_deref(), Some(phase))?;
    agree("the service", order.service.as_deref(), Some(service))?;
    agree("its place is held", order.held, true)?;
    let machines: Vec<&str> = moment.machines_of(order.service_id).iter().map(|vm| vm.status.as_str()).collect();
    agree("its machines", machines, vec![machine])?;
    agree("its names", moment.names_of(order.service_id).len(), 4)
}

/// Nothing is left of it, at no vendor.
fn gone(moment: &Moment, order: &Ours, status: &str) -> Result<(), String> {
    agree("the order", order.status.as_str(), status)?;
    agree("its place is held", order.held, false)?;
    agree("its machines", moment.machines_of(order.service_id).len(), 0)?;
    agree("its names", moment.names_of(order.service_id).len(), 0)?;
    let held_by_another =
        |vmid: &u32| moment.ours.iter().any(|other| other.held && other.vmid == i32::try_from(*vmid).ok());
    let vmid = order.vmid.and_then(|vmid| u32::try_from(vmid).ok());
    agree(
        "a machine without a stamp",
        vmid.filter(|v| moment.world.machines.contains_key(v) && !held_by_another(v)),
        None,
    )
}

#[expect(clippy::needless_pass_by_value, reason = "both are mostly made for the comparison")]
fn agree<T: PartialEq + std::fmt::Debug>(what: &str, ours: T, theirs: T) -> Result<(), String> {
    if ours == theirs { Ok(()) } else { Err(format!("{what} is {ours:?}, not {theirs:?}")) }
}
