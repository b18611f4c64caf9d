//! The Checkout page, and the page of one invoice.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::Value;

use super::page::{amount, escape, moment, page};
use super::world::World;
use super::{App, checkout, invoices};

const GOOD_CARD: &str = "4242 4242 4242 4242";

/// Routes `/c/pay/{session}` and `/i/{invoice}`.
pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/c/pay/{id}", get(show).post(act))
        .route("/i/{id}", get(show_invoice).post(pay_invoice))
        .with_state(app)
}

#[derive(Deserialize)]
struct Act {
    action: String,
    #[serde(default)]
    card: String,
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    let mut world = app.world();
    // Nothing the page shows depends on what could not be expired here.
    let _ = checkout::expire_due(&mut world);
    render(&world, &id, None)
}

async fn act(State(app): State<Arc<App>>, Path(id): Path<String>, Form(asked): Form<Act>) -> Response {
    let mut world = app.world();
    let Ok(session) = world.copy("checkout.session", &id) else {
        return render(&world, &id, None);
    };
    let card = match asked.action.as_str() {
        "pay" => asked.card.as_str(),
        "decline" => checkout::DECLINED_CARD,
        "abandon" => {
            return match session["cancel_url"].as_str() {
                Some(url) => Redirect::to(url).into_response(),
                None => render(&world, &id, None),
            };
        }
        _ => return render(&world, &id, Some("There is no such button.")),
    };
    match checkout::pay(&mut world, &id, card) {
        Ok(()) => Redirect::to(&checkout::success_url(&session)).into_response(),
        Err(refusal) if refusal.status == 402 => render(&world, &id, Some(refusal.message())),
        Err(_) => render(&world, &id, None),
    }
}

fn render(world: &World, id: &str, fault: Option<&str>) -> Response {
    let Ok(session) = world.get("checkout.session", id, "id") else {
        return page(StatusCode::NOT_FOUND, "Checkout", "<p>There is no such checkout.</p>");
    };
    match session["status"].as_str() {
        Some("complete") => {
            let body = format!(
                "<p class=\"note\" role=\"status\">This has been paid.</p><p><a href=\"{}\">Return to merchant</a></p>",
                escape(&checkout::success_url(session))
            );
            return page(StatusCode::OK, "Checkout complete", &body);
        }
        Some("open") => {}
        _ => {
            let back = session["cancel_url"]
                .as_str()
                .map_or_else(String::new, |url| format!("<p><a href=\"{}\">Return to merchant</a></p>", escape(url)));
            let body =
                format!("<p class=\"alert\" role=\"alert\">This checkout has expired. Nothing was charged.</p>{back}");
            return page(StatusCode::GONE, "Checkout expired", &body);
        }
    }
    let alert = fault.map_or_else(String::new, |fault| {
        format!("<p class=\"alert\" role=\"alert\" id=\"fault\">{} Try another card.</p>", escape(fault))
    });
    let email = session["customer_details"]["email"].as_str().unwrap_or_default();
    let total = amount(session["amount_total"].as_i64().unwrap_or(0), session["currency"].as_str().unwrap_or_default());
    let body = format!(
        "{alert}<section aria-label=\"Order\">{}<p>Due today: <strong id=\"total\">{total}</strong></p></section>\
         <form method=\"post\"><label for=\"email\">E-mail</label>\
         <input id=\"email\" value=\"{}\" readonly>\
         <label for=\"card\">Card number</label>\
         <input id=\"card\" name=\"card\" inputmode=\"numeric\" autocomplete=\"cc-number\" value=\"{GOOD_CARD}\">\
         <button class=\"main\" id=\"pay\" name=\"action\" value=\"pay\">Pay {total}</button>\
         <button id=\"decline\" name=\"action\" value=\"decline\">Pay with a card that is declined</button>\
         <button id=\"abandon\" name=\"action\" value=\"abandon\">Cancel and return</button></form>",
        lines(world, id),
        escape(email),
    );
    let status = if fault.is_some() { StatusCode::PAYMENT_REQUIRED } else { StatusCode::OK };
    page(status, "Checkout", &body)
}

fn lines(world: &World, session: &str) -> String {
    world
        .all("item")
        .filter(|line| line["session"] == session)
        .map(|line| {
            let recurring = &line["price"]["recurring"];
            format!(
                "<p>{} × <strong>{}</strong>: {} every {} {}</p>",
                line["quantity"],
                escape(line["description"].as_str().unwrap_or_default()),
                amount(line["amount_total"].as_i64().unwrap_or(0), line["currency"].as_str().unwrap_or_default()),
                recurring["interval_count"],
                escape(recurring["interval"].as_str().unwrap_or_default()),
            )
        })
        .collect::<Vec<String>>()
        .concat()
}

async fn show_invoice(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    render_invoice(&app.world(), &id, None)
}

async fn pay_invoice(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    let mut world = app.world();
    let fault = match invoices::collect(&mut world, &id, false) {
        Ok(true) => None,
        Ok(false) => Some("Your card was declined."),
        Err(_) => Some("This invoice cannot be paid."),
    };
    render_invoice(&world, &id, fault)
}

fn render_invoice(world: &World, id: &str, fault: Option<&str>) -> Response {
    let Ok(invoice) = world.get("invoice", id, "id") else {
        return page(StatusCode::NOT_FOUND, "Invoice", "<p>There is no such invoice.</p>");
    };
    let text = |value: &Value| escape(value.as_str().unwrap_or_default());
    let alert =
        fault.map_or_else(String::new, |fault| format!("<p class=\"alert\" role=\"alert\">{}</p>", escape(fault)));
    let form = if invoice["status"] == "open" {
        "<form method=\"post\"><button class=\"main\" id=\"pay\">Pay with the card on file</button></form>"
    } else {
        ""
    };
    let body = format!(
        "{alert}<p>{}: <strong>{}</strong>, {}, {}</p>{form}",
        text(&invoice["number"]),
        amount(invoice["amount_due"].as_i64().unwrap_or(0), invoice["currency"].as_str().unwrap_or_default()),
        text(&invoice["status"]),
        moment(invoice["created"].as_i64().unwrap_or(0)),
    );
    page(StatusCode::OK, "Invoice", &body)
}
