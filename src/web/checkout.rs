//! Ordering a plan: one form, and one write, which is Temporal's. The order's workflow writes it down and opens the payment
//! page; here the customer is only sent there.
use activities::machine::SSH_KEY_PURPOSE;
use askama::Template;
use axum::{
    extract::{Path, Query, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use contract::order::{CheckoutReply, OrderInput};
use domain::{
    ids::{OrderId, ServiceId},
    order::{OrderStatus, hostname},
    plan::Term,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use store::{Image, OrderBrief, Plan, Price, StoreError, User};
use uuid::Uuid;

use super::{
    Portal, Shared,
    engine::EngineRefusal,
    fields::{Field, Summary},
    page::{self, Refusal, Shell},
    posted::Posted,
    redirect, ssh_key,
    visitor::Customer,
};

/// How many orders of one account may wait for their payment at the same time; each of them holds a place.
const UNPAID_LIMIT: i64 = 5;

/// Why an order was not taken.
enum CheckoutRefusal {
    /// As everywhere.
    Page(Refusal),
    /// The address is not confirmed.
    Unverified(Shell, String),
    /// Nothing is left of this plan.
    SoldOut(Shell, Plan),
    /// Too many orders wait for their payment already.
    ManyUnpaid(Shell),
    /// Temporal is away; the same form may be sent again.
    EngineAway(Shell, Box<Form>, EngineRefusal),
    /// A field has to be corrected.
    Faulted(Shell, Box<Form>),
}

impl<T: Into<Refusal>> From<T> for CheckoutRefusal {
    fn from(fault: T) -> Self {
        Self::Page(fault.into())
    }
}

impl IntoResponse for CheckoutRefusal {
    fn into_response(self) -> Response {
        match self {
            Self::Page(refusal) => refusal.into_response(),
            Self::Unverified(shell, email) => page::render(StatusCode::FORBIDDEN, &Unverified { shell, email }),
            Self::SoldOut(shell, plan) => page::render(StatusCode::CONFLICT, &SoldOut { shell, plan }),
            Self::ManyUnpaid(shell) => page::render(StatusCode::TOO_MANY_REQUESTS, &ManyUnpaid { shell }),
            Self::EngineAway(shell, form, fault) => {
                tracing::warn!(fault = page::whole(&fault), "no checkout without Temporal");
                let mut response = page::render(StatusCode::SERVICE_UNAVAILABLE, &Away { shell, form: *form });
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
                response
            }
            Self::Faulted(shell, form) => {
                page::render(StatusCode::UNPROCESSABLE_ENTITY, &Checkout { shell, form: *form })
            }
        }
    }
}

/// The form with everything it shows.
struct Form {
    plan: Plan,
    price: Price,
    images: Vec<Image>,
    order: OrderId,
    hostname: Field,
    image: Field,
    ssh_key: Field,
    term: Term,
    often: Field,
    /// How many days cost nothing at first.
    trial_days: u32,
    /// Whether the payment page says how much tax there is.
    adds_tax: bool,
}

impl Form {
    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.hostname, &self.image, &self.ssh_key, &self.often])
    }
}

#[derive(Template)]
#[template(path = "page/checkout.html")]
struct Checkout {
    shell: Shell,
    form: Form,
}

#[derive(Template)]
#[template(path = "page/checkout_away.html")]
struct Away {
    shell: Shell,
    form: Form,
}

#[derive(Template)]
#[template(path = "page/sold_out.html")]
struct SoldOut {
    shell: Shell,
    plan: Plan,
}

#[derive(Template)]
#[template(path = "page/unverified.html")]
struct Unverified {
    shell: Shell,
    email: String,
}

#[derive(Template)]
#[template(path = "page/many_unpaid.html")]
struct ManyUnpaid {
    shell: Shell,
}

/// Which price was chosen.
#[derive(Deserialize)]
pub(crate) struct Chosen {
    #[serde(default)]
    term: String,
    #[serde(default)]
    currency: String,
}

/// The form. The order's id is made here, so that a form sent twice is one order.
pub(crate) async fn form(
    State(portal): Shared,
    Path(slug): Path<String>,
    Query(chosen): Query<Chosen>,
    mut customer: Customer,
) -> Response {
    let shown = async {
        let shell = customer.visitor.form_shell("pricing").await?;
        let (shell, plan) = may_order(&portal, shell, &customer.user, &slug).await?;
        if plan.free <= 0 {
            return Err(CheckoutRefusal::SoldOut(shell, plan));
        }
        let (order, asked) = (OrderId(Uuid::new_v4()), (chosen.term.as_str(), chosen.currency.as_str()));
        let form = filled(&portal, plan, order, asked, &customer.user).await?;
        if !form.summary().is_empty() {
            return Err(CheckoutRefusal::Faulted(shell, Box::new(form)));
        }
        Ok(page::ok(&Checkout { shell, form }))
    };
    shown.await.unwrap_or_else(CheckoutRefusal::into_response)
}

/// Takes the form and leads to the payment page.
pub(crate) async fn submit(State(portal): Shared, Path(slug): Path<String>, mut posted: Posted) -> Response {
    let taken = async {
        let user = posted.user()?;
        let shell = posted.visitor.form_shell("pricing").await?;
        let (shell, plan) = may_order(&portal, shell, &user, &slug).await?;
        let order = posted.text("order").parse::<OrderId>().map_err(|_| Refusal::Unreadable)?;
        let known = portal.store.brief(order).await?;
        let is_new = known.is_none();
        match known {
            Some(known) if opening(&known, &user) => {}
            Some(known) => return Ok(way_on(&portal, &known, &user)?),
            None if portal.store.unpaid_orders(user.account).await? >= UNPAID_LIMIT => {
                return Err(CheckoutRefusal::ManyUnpaid(shell));
            }
            None => {}
        }
        let asked = (posted.text("term"), posted.text("currency"));
        let mut form = filled(&portal, plan, order, asked, &user).await?;
        let input = checked(&portal, &mut form, &posted, &user)?;
        let Some(input) = input else { return Err(CheckoutRefusal::Faulted(shell, Box::new(form))) };
        if is_new {
            portal.take_order(&posted.visitor.caller, user.account).await?;
        }
        let reply = match portal.temporal.open_checkout(input).await {
            Ok(reply) => reply,
            Err(fault) => return Err(CheckoutRefusal::EngineAway(shell, Box::new(form), fault)),
        };
        if reply == CheckoutReply::SoldOut {
            return Err(CheckoutRefusal::SoldOut(shell, form.plan));
        }
        let Some(known) = portal.store.brief(order).await? else {
            let fault = EngineRefusal::Away { doing: "waiting for the order to be written down", source: None };
            return Err(CheckoutRefusal::EngineAway(shell, Box::new(form), fault));
        };
        Ok(way_on(&portal, &known, &user)?)
    };
    Box::pin(taken).await.unwrap_or_else(CheckoutRefusal::into_response)
}

/// Only confirmed addresses may order, and only what is on sale.
async fn may_order(portal: &Portal, shell: Shell, user: &User, slug: &str) -> Result<(Shell, Plan), CheckoutRefusal> {
    let plan = portal.store.plan(slug).await?.ok_or(Refusal::NotFound)?;
    if !user.email_verified {
        return Err(CheckoutRefusal::Unverified(shell, user.email.clone()));
    }
    Ok((shell, plan))
}

/// The form before anything was typed, with the price that was asked for or the one that comes nearest to it.
async fn filled(
    portal: &Portal,
    plan: Plan,
    order: OrderId,
    (term, currency): (&str, &str),
    user: &User,
) -> Result<Form, CheckoutRefusal> {
    let images = portal.store.images().await?;
    let bound = portal.store.account_currency(user.account).await?;
    let term = term.parse::<Term>().unwrap_or(Term::Monthly);
    let wanted = Some(currency.to_ascii_lowercase()).filter(|wanted| !wanted.is_empty());
    let is_in = |price: &&Price, code: &Option<String>| Some(price.money.currency.as_str()) == code.as_deref();
    let of_term: Vec<&Price> = plan.prices.iter().filter(|price| price.term == term).collect();
    let asked = of_term.iter().find(|price| is_in(price, &wanted)).copied();
    let usual = of_term.iter().find(|price| is_in(price, &bound)).or(of_term.first()).copied();
    let price = asked.or(usual).or(plan.prices.first());
    let price = price.cloned().ok_or(StoreError::Corrupt { what: "a plan without a price" })?;
    let mut often = Field::new("term", "Paid", "");
    match (&wanted, &bound) {
        (Some(wanted), _) if asked.is_none() => {
            often.refuse(format!(
                "This plan is not sold in {} in that way. Look at the price again.",
                wanted.to_uppercase()
            ));
        }
        (_, Some(bound)) if price.money.currency.as_str() != bound => {
            let bound = bound.to_uppercase();
            often.refuse(format!("Your other servers are paid in {bound}, and an account pays in one currency. Choose a price in {bound}."));
        }
        _ => {}
    }
    let first = images.first().map(|image| image.slug.clone()).unwrap_or_default();
    let tries = plan.trial_days > 0 && portal.store.trial_is_left(user.account, order).await?;
    Ok(Form {
        order,
        hostname: Field::new("hostname", "Name of your server", ""),
        image: Field::new("image", "Operating system", first),
        ssh_key: Field::new("ssh_key", "SSH public key", ""),
        term: price.term,
        often,
        trial_days: if tries { plan.trial_days } else { 0 },
        adds_tax: portal.settings.adds_tax,
        plan,
        price,
        images,
    })
}

/// Puts what was typed into the form, with its faults; gives the order when there are none.
fn checked(portal: &Portal, form: &mut Form, posted: &Posted, user: &User) -> Result<Option<OrderInput>, Refusal> {
    let typed = machine(portal, &form.images, (&mut form.hostname, &mut form.image, &mut form.ssh_key), posted)?;
    if posted.text("term") != form.term.as_str() {
        form.often.refuse("This plan is not paid in that way. Look at the price again.");
    }
    // Nobody who was told of free days is led to a page that charges at once.
    if !posted.text("trial_days").is_empty() && posted.text("trial_days") != form.trial_days.to_string() {
        form.often.refuse("How many days are free has changed: look at what is to be paid, and send the form again.");
    }
    let (Some((hostname, sealed_ssh_key)), true) = (typed, form.summary().is_empty()) else { return Ok(None) };
    Ok(Some(OrderInput {
        order: form.order,
        account: user.account,
        service: service_of(form.order),
        plan: form.plan.slug.clone(),
        term: form.term,
        currency: form.price.money.currency.as_str().to_owned(),
        hostname,
        image: form.image.value.clone(),
        sealed_ssh_key,
        trial_days: form.trial_days,
        covered_by: None,
        attention_raised: 0,
        given_up: None,
        policy: portal.settings.policy.clone(),
    }))
}

/// Puts what was typed about a machine (name, system, key) into its fields, with their faults; gives the name and the sealed
/// key when there are none.
pub(super) fn machine(
    portal: &Portal,
    images: &[Image],
    (name, image, ssh_key): (&mut Field, &mut Field, &mut Field),
    posted: &Posted,
) -> Result<Option<(String, Option<String>)>, Refusal> {
    for field in [&mut *name, &mut *image, &mut *ssh_key] {
        posted.text(field.name).clone_into(&mut field.value);
    }
    let label = hostname(&name.value).map_err(|fault| name.refuse(fault.to_string()));
    if !images.iter().any(|known| known.slug == image.value) {
        image.refuse("Choose one of the operating systems.");
    }
    let key = ssh_key::public_key(&ssh_key.value).map_err(|fault| {
        if fault == ssh_key::SshKeyFault::Private {
            ssh_key.value.clear();
        }
        ssh_key.refuse(fault.to_string());
    });
    let (Ok(label), Ok(key), None) = (label, key, &image.fault) else { return Ok(None) };
    let sealed = key.map(|key| portal.keys.seal(SSH_KEY_PURPOSE, key.as_bytes())).transpose();
    Ok(Some((label, sealed.map_err(|_| Refusal::Broken("sealing an SSH key"))?)))
}

/// The service an order becomes: made of the order's id alone, so that a form sent twice names the same one.
pub(super) fn service_of(order: OrderId) -> ServiceId {
    let mut hash = Sha256::new();
    hash.update(b"service of order ");
    hash.update(order.0.as_bytes());
    let mut bytes = [0; 16];
    for (byte, hashed) in bytes.iter_mut().zip(hash.finalize()) {
        *byte = hashed;
    }
    ServiceId(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

/// Whether the payment page of this customer's order is being opened right now, by the same form sent a moment ago. Asking
/// the order's workflow again waits for that page.
fn opening(order: &OrderBrief, user: &User) -> bool {
    order.account == user.account && order.status == OrderStatus::AwaitingPayment && order.checkout_url.is_none()
}

/// Where the customer goes with an order that is written down: to the payment page, or to the order's own.
fn way_on(portal: &Portal, order: &OrderBrief, user: &User) -> Result<Response, Refusal> {
    if order.account != user.account {
        return Err(Refusal::NotFound);
    }
    match &order.checkout_url {
        Some(address) if order.status == OrderStatus::AwaitingPayment => {
            Ok(redirect::to_stripe(address, &portal.settings.checkout_origins))
        }
        _ => Ok(redirect::see_other(&format!("/dashboard/orders/{}/", order.order))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_always_becomes_the_same_service() {
        let (one, two) = (OrderId(Uuid::new_v4()), OrderId(Uuid::new_v4()));
        assert_eq!(service_of(one), service_of(one));
        assert_ne!(service_of(one), service_of(two));
        assert_ne!(service_of(one).0, one.0);
        assert_eq!(service_of(one).0.get_version_num(), 4);
    }
}
