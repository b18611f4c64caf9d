//! A person who buys: signs up, reads letters, orders, pays.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use url::Url;

use crate::control::Mailbox;
use crate::house::House;
use crate::visitor::{Page, Visitor};

/// A card that pays.
pub const GOOD_CARD: &str = "4242424242424242";
/// A card that is declined at once.
pub const DECLINED_CARD: &str = "4000000000000002";
/// A card that pays at checkout and is declined ever after.
pub const FAILS_LATER_CARD: &str = "4000000000000341";

const LETTER_LIMIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A customer with a browser and a mailbox.
#[derive(Clone, Debug)]
pub struct Customer {
    /// Their name.
    pub name: String,
    /// Their address.
    pub email: String,
    /// Their password.
    pub password: String,
    /// Their browser at the portal.
    pub visitor: Visitor,
    mailbox: Mailbox,
}

/// What a customer fills in at checkout.
#[derive(Clone, Debug)]
pub struct OrderForm<'a> {
    /// The plan's slug.
    pub plan: &'a str,
    /// The machine's name.
    pub hostname: &'a str,
    /// The image's slug.
    pub image: &'a str,
    /// A public key, or nothing for a generated password.
    pub ssh_key: &'a str,
    /// `monthly` or `annual`.
    pub term: &'a str,
}

impl<'a> OrderForm<'a> {
    /// The smallest plan by the month, under `hostname`, without a key.
    pub fn small(hostname: &'a str) -> Self {
        Self { plan: "small", hostname, image: "debian-13", ssh_key: "", term: "monthly" }
    }
}

impl Customer {
    /// A stranger with an address nobody else has.
    pub fn stranger(house: &House) -> Result<Self> {
        let email = format!("ada-{:08x}@example.test", rand::random::<u32>());
        let password = format!("correct-horse-{:012x}", rand::random::<u64>() >> 16);
        Self::at(house, "Ada Example", &email, &password)
    }

    /// Somebody known, with a browser that is not logged in.
    pub fn at(house: &House, name: &str, email: &str, password: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            email: email.to_owned(),
            password: password.to_owned(),
            visitor: house.visitor()?,
            mailbox: house.mail().clone(),
        })
    }

    /// Somebody whose browser is logged in already, by this cookie (`name=value`).
    pub fn with_cookie(house: &House, email: &str, cookie: &str) -> Result<Self> {
        let visitor = Visitor::with_cookie(house.url(), cookie)?;
        Ok(Self { visitor, ..Self::at(house, "Ada Example", email, "")? })
    }

    /// A stranger who signed up, confirmed the address and logged in.
    pub async fn signed_in(house: &House) -> Result<Self> {
        let customer = Self::stranger(house)?;
        customer.sign_up().await?;
        customer.verify().await?;
        customer.log_in().await?;
        Ok(customer)
    }

    /// Fills the sign-up form.
    pub async fn sign_up(&self) -> Result<Page> {
        let page = self.visitor.open("/accounts/signup/").await?.ok()?;
        let values = [("name", self.name.as_str()), ("email", &self.email), ("password", &self.password)];
        self.visitor.submit(&page, "/accounts/signup/", &values).await?.ok()
    }

    /// Waits for the letter with the link that confirms the address.
    pub async fn verification_link(&self) -> Result<Url> {
        let until = Instant::now() + LETTER_LIMIT;
        loop {
            let letters = self.mailbox.letters(&self.email, "").await?;
            if let Some(link) = letters.iter().rev().find_map(|letter| letter.link("/accounts/verify/").ok()) {
                return Ok(link);
            }
            ensure!(
                Instant::now() < until,
                "no letter with a link to confirm {} within {} s",
                self.email,
                LETTER_LIMIT.as_secs()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Follows the link in the letter, logs in where it asks for that, and presses its button.
    pub async fn verify(&self) -> Result<Page> {
        let link = self.verification_link().await?;
        let mut page = self.visitor.open(link.as_str()).await?.ok()?;
        if page.url.path().starts_with("/accounts/login/") {
            let values = [("email", self.email.as_str()), ("password", &self.password)];
            page = self.visitor.submit(&page, "/accounts/login/", &values).await?.ok()?;
        }
        self.visitor.submit(&page, "/accounts/verify/", &[]).await?.ok()
    }

    /// Logs in, unless the browser is logged in already.
    pub async fn log_in(&self) -> Result<Page> {
        let page = self.visitor.open("/accounts/login/").await?.ok()?;
        if !page.url.path().starts_with("/accounts/login/") {
            return Ok(page);
        }
        let values = [("email", self.email.as_str()), ("password", &self.password)];
        let page = self.visitor.submit(&page, "/accounts/login/", &values).await?.ok()?;
        ensure!(
            !page.url.path().starts_with("/accounts/login/"),
            "logging in as {} did not work: {}",
            self.email,
            page.text()
        );
        Ok(page)
    }

    /// Sends the order form, whatever the answer; a good one leads to Stripe's payment page.
    pub async fn send_order(&self, form: &OrderForm<'_>) -> Result<Page> {
        let page = self.visitor.open(&format!("/billing/checkout/{}/?term={}", form.plan, form.term)).await?.ok()?;
        let values =
            [("hostname", form.hostname), ("image", form.image), ("ssh_key", form.ssh_key), ("term", form.term)];
        self.visitor.submit(&page, "/billing/checkout/", &values).await
    }

    /// Orders, and gives Stripe's payment page.
    pub async fn order(&self, form: &OrderForm<'_>) -> Result<Page> {
        let page = self.send_order(form).await?.ok()?;
        ensure!(
            page.url.origin() != self.visitor.home.origin(),
            "ordering did not lead to the payment page but to {}: {}",
            page.url,
            page.text()
        );
        Ok(page)
    }

    /// Pays on Stripe's payment page with this card, and gives the page it leads back to.
    pub async fn pay(&self, payment_page: &Page, card: &str) -> Result<Page> {
        self.visitor.submit(payment_page, "/c/pay/", &[("card", card), ("action", "pay")]).await?.ok()
    }

    /// Tries a card that is declined, and gives the payment page that says so.
    pub async fn decline(&self, payment_page: &Page) -> Result<Page> {
        let page = self.visitor.submit(payment_page, "/c/pay/", &[("card", DECLINED_CARD), ("action", "pay")]).await?;
        ensure!(
            page.url.origin() == payment_page.url.origin(),
            "a declined card led away from the payment page to {}",
            page.url
        );
        Ok(page)
    }

    /// Leaves the payment page without paying, and gives the page it leads back to.
    pub async fn abandon(&self, payment_page: &Page) -> Result<Page> {
        self.visitor.submit(payment_page, "/c/pay/", &[("action", "abandon")]).await?.ok()
    }

    /// Orders and pays with a good card; gives the order's page.
    pub async fn buy(&self, form: &OrderForm<'_>) -> Result<Url> {
        let payment_page = self.order(form).await?;
        let back = self.pay(&payment_page, GOOD_CARD).await?;
        self.order_page(&back).await
    }

    /// The address of the newest order's page, starting from the page Stripe led back to.
    pub async fn order_page(&self, back: &Page) -> Result<Url> {
        if is_order(&back.url) {
            return Ok(back.url.clone());
        }
        match back.link("/dashboard/orders/") {
            Ok(link) => Ok(link),
            Err(_) => self.dashboard().await?.link("/dashboard/orders/"),
        }
    }

    /// What the customer has.
    pub async fn dashboard(&self) -> Result<Page> {
        self.visitor.open("/dashboard/").await?.ok()
    }

    /// Stripe's page for cards, invoices and cancelling, opened from the portal.
    pub async fn billing_portal(&self) -> Result<Page> {
        let page = self.visitor.open("/billing/portal/").await?.ok()?;
        let page = self.visitor.submit(&page, "/billing/portal/", &[]).await?.ok()?;
        if page.url.origin() == self.visitor.home.origin() {
            bail!("the billing portal did not open: {} {}", page.url, page.text());
        }
        Ok(page)
    }

    /// Opens Stripe's page for the customer and presses one of its buttons: `good-card`, `failing-card`, `pay` (the first open
    /// invoice), `cancel`, `resume`, `cancel-now`.
    pub async fn at_stripe(&self, button: &str) -> Result<Page> {
        let page = self.billing_portal().await?;
        self.visitor.submit(&page, "/p/session/", &[("action", button)]).await?.ok()
    }

    /// Changes the plan on Stripe's page to the price with this Stripe id.
    pub async fn change_plan(&self, stripe_price_id: &str) -> Result<Page> {
        let page = self.billing_portal().await?;
        self.visitor.submit(&page, "/p/session/", &[("price", stripe_price_id), ("action", "change-plan")]).await?.ok()
    }

    /// Waits until a page of the portal says `words` in any case, and gives it.
    ///
    /// *Errors*: it did not within `limit`; the error holds what it said last.
    pub async fn wait_until_page_says(&self, address: &str, words: &str, limit: Duration) -> Result<Page> {
        let until = Instant::now() + limit;
        loop {
            let page = self.visitor.open(address).await?;
            if page.status == 200 && page.text().to_lowercase().contains(&words.to_lowercase()) {
                return Ok(page);
            }
            if Instant::now() >= until {
                bail!(
                    "{address} did not say “{words}” within {} s, but ({}): {}",
                    limit.as_secs(),
                    page.status,
                    page.text()
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Their letters.
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }
}

fn is_order(url: &Url) -> bool {
    url.path().starts_with("/dashboard/orders/")
}

/// The order's id at the end of its page's address.
pub fn order_id(order_page: &Url) -> Result<String> {
    let mut parts = order_page.path_segments().context("an order's page has a path")?;
    let id = parts.nth(2).filter(|id| !id.is_empty());
    id.map(str::to_owned).with_context(|| format!("no order's id in {order_page}"))
}
