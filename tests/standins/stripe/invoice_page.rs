//! The hosted page of one invoice, where a person pays or authenticates, its PDF, and the receipt of a charge.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::Value;

use super::cards::Card;
use super::page::{amount, escape, moment, page};
use super::payments::Outcome;
use super::refusal::Refusal;
use super::world::World;
use super::{App, invoices, payments};

/// Routes `/i/{invoice}`, `/i/{invoice}/pdf` and `/receipts/{charge}`.
pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/i/{id}", get(show).post(act))
        .route("/i/{id}/pdf", get(pdf))
        .route("/receipts/{id}", get(receipt))
        .with_state(app)
}

#[derive(Default, Deserialize)]
struct Act {
    #[serde(default)]
    action: String,
    #[serde(default)]
    card: String,
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    render(&app.world(), &id, None)
}

async fn act(State(app): State<Arc<App>>, Path(id): Path<String>, Form(asked): Form<Act>) -> Response {
    let mut world = app.world();
    let fault = match pay(&mut world, &id, &asked) {
        Ok(Outcome::Paid | Outcome::NeedsAction | Outcome::Processing) => None,
        Ok(Outcome::Declined) => Some("Your card was declined.".to_owned()),
        Err(refusal) => Some(refusal.message().to_owned()),
    };
    render(&world, &id, fault.as_deref())
}

/// A person is there: with another card, the one on file, or to authenticate.
fn pay(world: &mut World, id: &str, asked: &Act) -> Result<Outcome, Refusal> {
    let invoice = world.copy("invoice", id)?;
    match asked.action.as_str() {
        "authenticate" | "fail-authentication" => {
            let (_, intent) =
                invoices::payment_of(world, id).ok_or_else(|| Refusal::state("This invoice needs no payment."))?;
            let outcome = payments::authenticate(world, &intent, asked.action == "authenticate")?;
            invoices::intent_moved(world, &intent, outcome)?;
            return Ok(outcome);
        }
        "card" => {
            let card = Card::typed(&asked.card)?;
            payments::attach_card(world, invoice["customer"].as_str().unwrap_or_default(), card)?;
        }
        _ => {}
    }
    if invoice["status"] != "open" && invoice["status"] != "uncollectible" {
        return Err(Refusal::state("This invoice cannot be paid."));
    }
    invoices::collect(world, id, false)
}

fn render(world: &World, id: &str, fault: Option<&str>) -> Response {
    let Ok(invoice) = world.get("invoice", id, "id") else {
        return page(StatusCode::NOT_FOUND, "Invoice", "<p>There is no such invoice.</p>");
    };
    let text = |value: &Value| escape(value.as_str().unwrap_or_default());
    let currency = invoice["currency"].as_str().unwrap_or_default();
    let mut body =
        fault.map_or_else(String::new, |fault| format!("<p class=\"alert\" role=\"alert\">{}</p>", escape(fault)));
    let _ = write!(
        body,
        "<p>{}: <strong>{}</strong>, <span class=\"status\">{}</span>, {}</p>",
        text(&invoice["number"]),
        amount(invoice["amount_due"].as_i64().unwrap_or(0), currency),
        text(&invoice["status"]),
        moment(invoice["created"].as_i64().unwrap_or(0)),
    );
    body.push_str(forms(world, invoice));
    let _ = write!(body, "<p><a id=\"pdf\" href=\"/i/{}/pdf\">Download as PDF</a></p>", escape(id));
    page(StatusCode::OK, "Invoice", &body)
}

fn forms(world: &World, invoice: &Value) -> &'static str {
    if invoice["status"] != "open" && invoice["status"] != "uncollectible" {
        return "";
    }
    let intent = invoices::payment_of(world, invoice["id"].as_str().unwrap_or_default())
        .and_then(|(_, intent)| world.find(&intent))
        .and_then(|intent| intent["status"].as_str());
    match intent {
        Some("requires_action") => {
            "<p>Your bank asks whether it is you who pays.</p><form method=\"post\">\
             <button class=\"main\" id=\"authenticate\" name=\"action\" value=\"authenticate\">Complete authentication</button>\
             <button id=\"fail-authentication\" name=\"action\" value=\"fail-authentication\">Fail authentication</button></form>"
        }
        Some("processing") => "<p>Your payment is being processed.</p>",
        _ => {
            "<form method=\"post\"><button class=\"main\" id=\"pay\">Pay with the card on file</button></form>\
             <form method=\"post\"><label for=\"card\">Another card</label>\
             <input id=\"card\" name=\"card\" inputmode=\"numeric\" autocomplete=\"cc-number\">\
             <button id=\"pay-with-card\" name=\"action\" value=\"card\">Pay with this card</button></form>"
        }
    }
}

async fn pdf(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    let world = app.world();
    let Ok(invoice) = world.get("invoice", &id, "id") else {
        return page(StatusCode::NOT_FOUND, "Invoice", "<p>There is no such invoice.</p>");
    };
    let number = invoice["number"].as_str().unwrap_or("draft");
    let due = amount(invoice["amount_due"].as_i64().unwrap_or(0), invoice["currency"].as_str().unwrap_or_default());
    let document = one_page(&format!("Invoice {number}: {due}"));
    let name = format!("attachment; filename=\"Invoice-{number}.pdf\"");
    ([(header::CONTENT_TYPE, "application/pdf".to_owned()), (header::CONTENT_DISPOSITION, name)], document)
        .into_response()
}

async fn receipt(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    let world = app.world();
    let Some(charge) = world.get("charge", &id, "id").ok().filter(|charge| charge["paid"] == true) else {
        return page(StatusCode::NOT_FOUND, "Receipt", "<p>There is no such payment.</p>");
    };
    let currency = charge["currency"].as_str().unwrap_or_default();
    let paid = amount(charge["amount"].as_i64().unwrap_or(0), currency);
    let back = amount(charge["amount_refunded"].as_i64().unwrap_or(0), currency);
    page(StatusCode::OK, "Receipt", &format!("<p>You paid {paid}; {back} were given back.</p>"))
}

/// A PDF of one page with one line of text.
fn one_page(line: &str) -> Vec<u8> {
    let safe: String = line.chars().filter(|c| c.is_ascii() && !matches!(c, '(' | ')' | '\\')).collect();
    let stream = format!("BT /F1 18 Tf 72 720 Td ({safe}) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{stream}\nendstream", stream.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let mut document = "%PDF-1.4\n".to_owned();
    let mut table = "0000000000 65535 f \n".to_owned();
    for (index, object) in objects.iter().enumerate() {
        let _ = writeln!(table, "{:010} 00000 n ", document.len());
        let _ = write!(document, "{} 0 obj\n{object}\nendobj\n", index + 1);
    }
    let start = document.len();
    let size = objects.len() + 1;
    let _ =
        write!(document, "xref\n0 {size}\n{table}trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n");
    document.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::one_page;

    #[test]
    fn the_pdf_has_a_table_that_points_at_its_objects() {
        let document = String::from_utf8(one_page("Invoice EZ-0001 (of 3)")).expect("ascii");
        assert!(document.starts_with("%PDF-1.4\n") && document.ends_with("%%EOF\n"));
        assert!(document.contains("(Invoice EZ-0001 of 3) Tj"));
        let start = document.rsplit("startxref\n").next().and_then(|rest| rest.lines().next()).expect("start");
        let table = &document[start.parse::<usize>().expect("number")..];
        assert!(table.starts_with("xref\n0 6\n"));
        for (number, row) in table.lines().skip(3).take(5).enumerate() {
            let at: usize = row[..10].parse().expect("offset");
            assert!(document[at..].starts_with(&format!("{} 0 obj", number + 1)));
        }
    }
}
