//! The Billing Portal page: what the customer has, and forms to change it.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::Value;

use super::cards::Card;
use super::page::{amount, escape, moment, page};
use super::payments::Outcome;
use super::plan_change::{self, Change, Manner};
use super::refusal::Refusal;
use super::world::World;
use super::{App, invoices, payments, subscriptions};

const CARD_BUTTONS: &[(&str, &str, Card)] = &[
    ("good-card", "Use a card that works", Card::Good),
    ("failing-card", "Use a card that fails", Card::FailsLater),
    ("authenticated-card", "Use a card whose payments have to be authenticated", Card::Authenticate),
];

/// Route `/p/session/{id}`.
pub(super) fn router(app: Arc<App>) -> Router {
    Router::new().route("/p/session/{id}", get(show).post(act)).with_state(app)
}

#[derive(Deserialize)]
struct Act {
    action: String,
    #[serde(default)]
    subscription: String,
    #[serde(default)]
    invoice: String,
    #[serde(default)]
    price: String,
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    render(&app.world(), &id, None)
}

async fn act(State(app): State<Arc<App>>, Path(id): Path<String>, Form(asked): Form<Act>) -> Response {
    let mut world = app.world();
    let done = world.copy("billing_portal.session", &id).and_then(|session| change(&mut world, &session, &asked));
    match done {
        Ok(()) => Redirect::to(&format!("/p/session/{id}")).into_response(),
        Err(refusal) => render(&world, &id, Some(refusal.message())),
    }
}

fn change(world: &mut World, session: &Value, asked: &Act) -> Result<(), Refusal> {
    let customer = session["customer"].as_str().unwrap_or_default();
    if let Some((_, _, card)) = CARD_BUTTONS.iter().find(|(action, _, _)| *action == asked.action) {
        return payments::attach_card(world, customer, *card).map(drop);
    }
    if asked.action == "pay" {
        let invoice = world.get("invoice", &asked.invoice, "invoice")?;
        if invoice["customer"] != customer {
            return Err(Refusal::no_such("invoice", &asked.invoice, "invoice"));
        }
        return match invoices::collect(world, &asked.invoice, false)? {
            Outcome::Paid | Outcome::Processing => Ok(()),
            Outcome::Declined => Err(Refusal::card_declined("generic_decline")),
            Outcome::NeedsAction => Err(Refusal::needs_action()),
        };
    }
    let id = asked.subscription.as_str();
    let subscription = world.get("subscription", id, "subscription")?;
    if subscription["customer"] != customer {
        return Err(Refusal::no_such("subscription", id, "subscription"));
    }
    if subscription["status"] == "canceled" {
        return Err(Refusal::state("This subscription has ended."));
    }
    let quantity = subscription["items"]["data"][0]["quantity"].as_i64().unwrap_or(1);
    match asked.action.as_str() {
        "cancel" => subscriptions::set_cancel_at_period_end(world, id, true),
        "resume" => subscriptions::set_cancel_at_period_end(world, id, false),
        "cancel-now" => subscriptions::end(world, id, "cancellation_requested"),
        "change-plan" => {
            let price = world.get("price", &asked.price, "price")?;
            if price["active"] != true || price["type"] != "recurring" {
                return Err(Refusal::state("This plan is not on offer."));
            }
            plan_change::apply(world, id, &Change::of_item(0, &asked.price, quantity), Manner::default())
        }
        _ => Err(Refusal::state("There is no such button.")),
    }
}

fn render(world: &World, id: &str, fault: Option<&str>) -> Response {
    let Ok(session) = world.get("billing_portal.session", id, "id") else {
        return page(StatusCode::NOT_FOUND, "Billing", "<p>There is no such portal session.</p>");
    };
    let customer = session["customer"].as_str().unwrap_or_default();
    let mut body = String::new();
    if let Some(fault) = fault {
        let _ = write!(body, "<p class=\"alert\" role=\"alert\" id=\"fault\">{}</p>", escape(fault));
    }
    for row in world.all("subscription").rev().filter(|row| row["customer"] == customer) {
        body.push_str(&subscription_section(world, row));
    }
    for row in world.all("invoice").filter(|row| row["customer"] == customer && row["status"] == "open") {
        let _ = write!(
            body,
            "<section aria-label=\"Open invoice\"><p>Invoice {} is open: <strong>{}</strong></p>{}</section>",
            escape(row["number"].as_str().unwrap_or_default()),
            amount(row["amount_due"].as_i64().unwrap_or(0), row["currency"].as_str().unwrap_or_default()),
            button("pay", "Pay this invoice", "invoice", row["id"].as_str().unwrap_or_default()),
        );
    }
    let card = world
        .get("customer", customer, "customer")
        .ok()
        .and_then(|row| row["invoice_settings"]["default_payment_method"].as_str())
        .and_then(|method| world.find(method))
        .and_then(|method| method["card"]["last4"].as_str())
        .map_or_else(|| "none".to_owned(), |last4| format!("ending in {last4}"));
    let _ = write!(
        body,
        "<section aria-label=\"Card\"><p>Card: {card}</p>{}</section>",
        CARD_BUTTONS.iter().map(|(action, label, _)| button(action, label, "", "")).collect::<Vec<String>>().concat(),
    );
    if let Some(url) = session["return_url"].as_str() {
        let _ = write!(body, "<p><a id=\"return\" href=\"{}\">Return to merchant</a></p>", escape(url));
    }
    let status = if fault.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    page(status, "Billing", &body)
}

fn button(action: &str, label: &str, field: &str, value: &str) -> String {
    let hidden = if field.is_empty() {
        String::new()
    } else {
        format!("<input type=\"hidden\" name=\"{field}\" value=\"{}\">", escape(value))
    };
    format!("<form method=\"post\">{hidden}<button name=\"action\" value=\"{action}\">{label}</button></form>")
}

fn product_name(world: &World, price: &Value) -> String {
    price["product"]
        .as_str()
        .and_then(|product| world.find(product))
        .map_or_else(String::new, |product| escape(product["name"].as_str().unwrap_or_default()))
}

fn price_label(world: &World, price: &Value) -> String {
    format!(
        "{}: {} a {}",
        product_name(world, price),
        amount(price["unit_amount"].as_i64().unwrap_or(0), price["currency"].as_str().unwrap_or_default()),
        escape(price["recurring"]["interval"].as_str().unwrap_or_default()),
    )
}

fn subscription_section(world: &World, row: &Value) -> String {
    let id = row["id"].as_str().unwrap_or_default();
    let status = row["status"].as_str().unwrap_or_default();
    let item = &row["items"]["data"][0];
    let end = moment(item["current_period_end"].as_i64().unwrap_or(0));
    let ends = row["cancel_at_period_end"] == true;
    let mut section = format!(
        "<section aria-label=\"Subscription\"><p><strong>{}</strong></p><p>Status: <span class=\"status\">{}</span></p>",
        price_label(world, &item["price"]),
        escape(status),
    );
    if status == "canceled" {
        section.push_str("</section>");
        return section;
    }
    let _ = write!(section, "<p>{} {end}</p>", if ends { "Ends on" } else { "Renews on" });
    if ends {
        section.push_str(&button("resume", "Do not cancel", "subscription", id));
    } else {
        section.push_str(&button("cancel", "Cancel at period end", "subscription", id));
    }
    section.push_str(&button("cancel-now", "Cancel now", "subscription", id));
    let options: String = world
        .all("price")
        .filter(|price| {
            price["active"] == true
                && price["type"] == "recurring"
                && price["currency"] == row["currency"]
                && price["id"] != item["price"]["id"]
        })
        .map(|price| {
            let value = escape(price["id"].as_str().unwrap_or_default());
            format!("<option value=\"{value}\">{}</option>", price_label(world, price))
        })
        .collect::<Vec<String>>()
        .concat();
    if !options.is_empty() {
        let _ = write!(
            section,
            "<form method=\"post\"><input type=\"hidden\" name=\"subscription\" value=\"{id}\">\
             <label for=\"price-{id}\">Change plan to</label><select id=\"price-{id}\" name=\"price\">{options}</select>\
             <button name=\"action\" value=\"change-plan\">Change plan</button></form>"
        );
    }
    section.push_str("</section>");
    section
}
