//! One server sold as a customer would buy it: pages over HTTP, letters over SMTP, payments over webhooks.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use house::{Customer, DECLINED_CARD, Engine, GOOD_CARD, House, HouseOptions, OrderForm, order_id};
use sqlx::Row as _;
use time::OffsetDateTime;
use url::Url;

use crate::announce::{self, Announcement};
use crate::steps::Steps;
use crate::{asked_to_end, life};

const MONTH_SECS: u32 = 8;
const DELIVERY_LIMIT: Duration = Duration::from_mins(2);
const LETTER_LIMIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const HOSTNAME: &str = "web-1";

/// Starts a house, sells and lives, and stays up until asked to end unless `once`.
///
/// *Errors*: a step failed, or it was asked to end before the journey was over although only the journey was wanted.
pub(crate) async fn run(once: bool) -> Result<()> {
    let mut steps = Steps::default();
    Steps::heading("Starting")?;
    let engine = tokio::select! {
        started = steps.run("PostgreSQL, Temporal and PowerDNS", Engine::start(false)) => started?,
        asked = asked_to_end() => return asked.and_then(|()| interrupted(once)),
    };
    let mut house = None;
    let lived = tokio::select! {
        lived = in_house(&engine, &mut house, &mut steps, once) => lived,
        asked = asked_to_end() => asked.and_then(|()| interrupted(once)),
    };
    let left = match house {
        Some(house) => house.stop().await,
        None => Ok(()),
    };
    lived.and(left).and(engine.stop().await)
}

fn interrupted(once: bool) -> Result<()> {
    ensure!(!once, "asked to end before the journey was over");
    Ok(())
}

async fn in_house(engine: &Engine, slot: &mut Option<House>, steps: &mut Steps, once: bool) -> Result<()> {
    let mut options = HouseOptions::named("vps");
    options.month_secs = Some(MONTH_SECS);
    let starting = House::start(engine, options);
    let house = slot.insert(steps.run("Stripe, Proxmox and mail; tables, catalogue, web and worker", starting).await?);
    let customer = Customer::stranger(house)?;
    let _announcement = Announcement::write(house, &customer)?;
    let sold = async {
        let machine = sell(house, &customer, steps).await?;
        life::pass(house, &customer, &machine, steps).await
    };
    sold.await.with_context(|| format!("the logs are in {}", house.logs().display()))?;
    if once {
        return Steps::heading("Everything worked.");
    }
    announce::print(house, &customer)?;
    std::future::pending().await
}

/// The machine that was sold.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Its number on the cluster.
    pub(crate) vmid: u32,
    /// As the customer named it.
    pub(crate) hostname: &'static str,
    /// Its subscription at Stripe.
    pub(crate) subscription: String,
}

async fn sell(house: &House, customer: &Customer, steps: &mut Steps) -> Result<Machine> {
    Steps::heading("A stranger buys a server")?;
    steps.run("looks at the plans", async { customer.visitor.open("/pricing/").await?.ok() }).await?;
    steps.run(&format!("signs up as {}", customer.email), customer.sign_up()).await?;
    steps.run("opens the letter's link and confirms the address", customer.verify()).await?;
    steps.run("logs in", customer.log_in()).await?;
    let form = OrderForm { plan: "small", hostname: HOSTNAME, image: "debian-13", ssh_key: "", term: "monthly" };
    let payment_page = steps.run("orders; a place is held, Stripe's payment page opens", customer.order(&form)).await?;
    let declined = steps
        .run(&format!("tries the card {DECLINED_CARD}, which is declined"), customer.decline(&payment_page))
        .await?;
    let back = steps.run(&format!("pays with the card {GOOD_CARD}"), customer.pay(&declined, GOOD_CARD)).await?;
    let order_page = customer.order_page(&back).await?;
    let paid_at = Instant::now();
    steps
        .run(
            "reads on the order's page that it is delivered",
            customer.wait_until_page_says(order_page.as_str(), "Your server is ready", DELIVERY_LIMIT),
        )
        .await?;
    print_parts(house, &order_page).await?;
    Steps::part("from payment to delivery, as the customer saw it", paid_at.elapsed())?;
    let letter = format!("{HOSTNAME} is ready");
    steps
        .run("receives the letter that says so", customer.mailbox().wait_for(&customer.email, &letter, 1, LETTER_LIMIT))
        .await?;
    steps.run("is a running machine on Proxmox, with its names in DNS", look(house, &order_page)).await
}

/// Prints the order's own steps with their own times.
async fn print_parts(house: &House, order_page: &Url) -> Result<()> {
    let question = "select step, started_at, finished_at from order_steps where order_id = $1::uuid and finished_at is not null order by started_at, finished_at";
    for row in sqlx::query(question).bind(order_id(order_page)?).fetch_all(house.db()).await? {
        let (began, ended): (OffsetDateTime, OffsetDateTime) =
            (row.try_get("started_at")?, row.try_get("finished_at")?);
        Steps::part(row.try_get("step")?, (ended - began).unsigned_abs())?;
    }
    Ok(())
}

/// Asks the vendors themselves what was delivered.
async fn look(house: &House, order_page: &Url) -> Result<Machine> {
    let question = "select r.vmid, host(r.ipv4) as ipv4, host(r.ipv6) as ipv6, o.subscription_id, s.dns_name from orders o \
                    join reservations r on r.order_id = o.id join services s on s.order_id = o.id where o.id = $1::uuid";
    let row = sqlx::query(question).bind(order_id(order_page)?).fetch_one(house.db()).await?;
    let vmid = u32::try_from(row.try_get::<i32, _>("vmid")?)?;
    let vms = house.machines().vms().await?;
    let vm = vms.get(&vmid).with_context(|| format!("no VM {vmid} on Proxmox, but {vms:?}"))?;
    ensure!(vm.status == "running", "VM {vmid} is {} on Proxmox", vm.status);
    let records = house.dns().records().await?;
    let contents: BTreeSet<&str> = records.iter().map(|record| record.content.as_str()).collect();
    let (ipv4, ipv6): (String, String) = (row.try_get("ipv4")?, row.try_get("ipv6")?);
    ensure!(
        contents.contains(ipv4.as_str()) && contents.contains(ipv6.as_str()),
        "{ipv4} or {ipv6} is not in DNS: {records:?}"
    );
    let reverse = records.iter().filter(|record| record.kind == "PTR").count();
    ensure!(reverse == 2, "{reverse} reverse names instead of 2: {records:?}");
    Ok(Machine { vmid, hostname: HOSTNAME, subscription: row.try_get("subscription_id")? })
}

/// Waits until `happened` says yes, at most `limit`.
///
/// *Errors*: `happened`'s own, or that `what` did not happen in time.
pub(crate) async fn wait_until<F, Fut>(what: &str, limit: Duration, mut happened: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool>>,
{
    let until = Instant::now() + limit;
    while !happened().await? {
        ensure!(Instant::now() < until, "{what} did not happen within {} s", limit.as_secs());
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
