//! The Checkout page.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cards::{self, Card};
use super::checkout::Typed;
use super::page::{amount, escape, page};
use super::world::World;
use super::{App, checkout};

const GOOD_CARD: &str = "4242 4242 4242 4242";

/// Route `/c/pay/{session}`.
pub(super) fn router(app: Arc<App>) -> Router {
    Router::new().route("/c/pay/{id}", get(show).post(act)).with_state(app)
}

#[derive(Deserialize)]
struct Act {
    action: String,
    #[serde(default)]
    card: String,
    #[serde(default)]
    country: String,
    #[serde(default)]
    vat_id: String,
    #[serde(default)]
    promotion_code: String,
}

impl Act {
    fn typed(&self) -> Typed {
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        Typed {
            card: given(&self.card),
            address: given(&self.country).map(|country| json!({"country": country.to_uppercase()})),
            tax_id: given(&self.vat_id).map(|value| ("eu_vat".to_owned(), value)),
            promotion_code: given(&self.promotion_code),
            authentication_fails: self.action == "fail-authentication",
        }
    }
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
    let typed = match asked.action.as_str() {
        "pay" if Card::typed(&asked.card).is_ok_and(|card| card == Card::Authenticate) => {
            return challenge(&asked);
        }
        "pay" | "authenticate" | "fail-authentication" => asked.typed(),
        "decline" => Typed::card(cards::DECLINED),
        "abandon" => {
            return match session["cancel_url"].as_str() {
                Some(url) => Redirect::to(url).into_response(),
                None => render(&world, &id, None),
            };
        }
        _ => return render(&world, &id, Some("There is no such button.")),
    };
    match checkout::pay(&mut world, &id, &typed) {
        Ok(()) => Redirect::to(&checkout::success_url(&session)).into_response(),
        Err(refusal) => render(&world, &id, Some(refusal.message())),
    }
}

/// The bank's page, as a card that needs it shows it; what was typed goes along.
fn challenge(asked: &Act) -> Response {
    let kept = [
        ("card", &asked.card),
        ("country", &asked.country),
        ("vat_id", &asked.vat_id),
        ("promotion_code", &asked.promotion_code),
    ];
    let hidden: String = kept
        .iter()
        .map(|(name, value)| format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escape(value)))
        .collect::<Vec<String>>()
        .concat();
    let body = format!(
        "<p>Your bank asks whether it is you who pays.</p><form method=\"post\">{hidden}\
         <button class=\"main\" id=\"authenticate\" name=\"action\" value=\"authenticate\">Complete authentication</button>\
         <button id=\"fail-authentication\" name=\"action\" value=\"fail-authentication\">Fail authentication</button></form>"
    );
    page(StatusCode::OK, "3D Secure", &body)
}

/// Fields that only some sessions have.
fn more_fields(session: &Value) -> String {
    let mut fields = String::new();
    if session["automatic_tax"]["enabled"] == true || session["billing_address_collection"] == "required" {
        fields.push_str("<label for=\"country\">Country (two letters)</label><input id=\"country\" name=\"country\" autocomplete=\"country\">");
    }
    if session["tax_id_collection"]["enabled"] == true {
        fields.push_str("<label for=\"vat_id\">VAT id of your business</label><input id=\"vat_id\" name=\"vat_id\">");
    }
    if session["allow_promotion_codes"] == true {
        fields.push_str(
            "<label for=\"promotion_code\">Promotion code</label><input id=\"promotion_code\" name=\"promotion_code\">",
        );
    }
    fields
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
         <input id=\"card\" name=\"card\" inputmode=\"numeric\" autocomplete=\"cc-number\" value=\"{GOOD_CARD}\">{}\
         <button class=\"main\" id=\"pay\" name=\"action\" value=\"pay\">Pay {total}</button>\
         <button id=\"decline\" name=\"action\" value=\"decline\">Pay with a card that is declined</button>\
         <button id=\"abandon\" name=\"action\" value=\"abandon\">Cancel and return</button></form>",
        lines(world, id),
        escape(email),
        more_fields(session),
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
