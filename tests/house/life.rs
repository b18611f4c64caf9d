//! The months after a sale, in seconds: renewed, unpaid, suspended, paid, resumed, cancelled, gone.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use house::{Customer, House, Letter};

use crate::demo::{Machine, wait_until};
use crate::steps::Steps;

/// The longest anything here takes: three of the demo's months and some.
const LIMIT: Duration = Duration::from_mins(1);

const OPEN_INVOICES_MAX: u32 = 12;

/// Lets the whole life of `machine` pass.
pub(crate) async fn pass(house: &House, customer: &Customer, machine: &Machine, steps: &mut Steps) -> Result<()> {
    let life = Life { house, customer, machine };
    Steps::heading("The months pass, each in a few seconds")?;
    steps.run("renews, and mails a receipt", life.paid_invoices(2)).await?;
    steps.run("renews once more", life.paid_invoices(3)).await?;
    steps.run("the customer's card becomes one that fails", customer.at_stripe("failing-card")).await?;
    steps
        .run("the next payment fails; the dashboard says a payment is missing", life.dashboard_says("Payment missing"))
        .await?;
    steps.run("a reminder arrives", life.letter("is missing", 1)).await?;
    steps.run("a second reminder arrives", life.letter("is missing", 2)).await?;
    steps.run("suspends: the machine is stopped on Proxmox", life.machine_is("stopped")).await?;
    steps.run("a letter says why and how to pay", life.letter("is suspended", 1)).await?;
    steps.run("the customer pays from the dashboard", life.pay_what_is_open()).await?;
    steps.run("resumes by itself: the machine runs on Proxmox", life.machine_is("running")).await?;
    steps.run("a letter says so", life.letter("runs again", 1)).await?;
    steps.run("the customer cancels on Stripe's page", customer.at_stripe("cancel")).await?;
    steps.run("a letter says that the plan ends", life.letter(" ends", 1)).await?;
    steps
        .run("the period ends; the machine stops, and its data are kept a while", life.letter("has stopped", 1))
        .await?;
    steps.run("a last warning arrives", life.letter("Last call", 1)).await?;
    steps.run("expires: no machine on Proxmox, no name in DNS", life.gone()).await?;
    steps.run("a last letter says so", life.letter("is gone", 1)).await?;
    Ok(())
}

struct Life<'a> {
    house: &'a House,
    customer: &'a Customer,
    machine: &'a Machine,
}

impl Life<'_> {
    async fn letter(&self, subject: &str, nth: usize) -> Result<Letter> {
        self.customer.mailbox().wait_for(&self.customer.email, subject, nth, LIMIT).await
    }

    async fn paid_invoices(&self, count: i64) -> Result<()> {
        let question = "select count(*) from invoices where subscription_id = $1 and status = 'paid'";
        wait_until(&format!("payment number {count}"), LIMIT, async || {
            let paid: i64 =
                sqlx::query_scalar(question).bind(&self.machine.subscription).fetch_one(self.house.db()).await?;
            Ok(paid >= count)
        })
        .await?;
        self.letter("received your payment", usize::try_from(count)? - 1).await.map(drop)
    }

    async fn dashboard_says(&self, words: &str) -> Result<()> {
        self.customer.wait_until_page_says("/dashboard/", words, LIMIT).await.map(drop)
    }

    async fn machine_is(&self, status: &str) -> Result<()> {
        wait_until(&format!("the machine's being {status}"), LIMIT, async || {
            let vms = self.house.machines().vms().await?;
            Ok(vms.get(&self.machine.vmid).is_some_and(|vm| vm.status == status))
        })
        .await
    }

    /// Follows the dashboard's "Pay now", after giving Stripe a card that pays, and pays whatever else became due meanwhile.
    async fn pay_what_is_open(&self) -> Result<()> {
        self.customer.at_stripe("good-card").await?;
        let invoice = self.customer.dashboard().await?.link("/i/")?;
        let page = self.customer.visitor.open(invoice.as_str()).await?.ok()?;
        let mut page = self.customer.visitor.submit(&page, "/i/", &[]).await?.ok()?;
        for _ in 0..OPEN_INVOICES_MAX {
            page = self.customer.billing_portal().await?;
            if !page.attributes("button", "value").iter().any(|value| value == "pay") {
                return Ok(());
            }
            page = self.customer.visitor.submit(&page, "/p/session/", &[("action", "pay")]).await?.ok()?;
        }
        bail!("invoices are still open after {OPEN_INVOICES_MAX} payments: {}", page.text())
    }

    async fn gone(&self) -> Result<()> {
        wait_until("the machine's removal", LIMIT, async || {
            Ok(!self.house.machines().vms().await?.contains_key(&self.machine.vmid))
        })
        .await?;
        wait_until("the names' removal", LIMIT, async || Ok(self.house.dns().records().await?.is_empty())).await?;
        let row = "select count(*) from reservations where vmid = $1 and released_at is null";
        wait_until("the addresses' return", LIMIT, async || {
            let held: i64 =
                sqlx::query_scalar(row).bind(i32::try_from(self.machine.vmid)?).fetch_one(self.house.db()).await?;
            Ok(held == 0)
        })
        .await?;
        let page = self.customer.dashboard().await?;
        ensure!(!page.text().contains("Running"), "the dashboard still shows {} running", self.machine.hostname);
        Ok(())
    }
}
