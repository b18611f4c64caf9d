//! Over HTTP: chosen deliveries, the hosted invoice page, its PDF.

use std::sync::{Arc, Mutex, PoisonError};

use axum::routing::post as posted;
use axum::{Json, Router};
use clap::Parser;
use serde_json::{Value, json};

use super::super::{App, StripeArgs, cards, checkout, checkout::Typed, new_app, router};
use super::{MONTH_SECS, latest_invoice, open_session, text};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: StripeArgs,
}

async fn served(routes: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move { axum::serve(listener, routes).await });
    format!("http://{address}")
}

/// What an endpoint got, in order.
#[derive(Clone, Default)]
struct Inbox(Arc<Mutex<Vec<Value>>>);

impl Inbox {
    fn taken(&self) -> Vec<Value> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A stand-in over HTTP with a subscription in its second month, unpaid until somebody authenticates.
async fn stand_in() -> (Arc<App>, String, Inbox) {
    let inbox = Inbox::default();
    let keeps = inbox.clone();
    let hook = posted(move |Json(event): Json<Value>| async move {
        keeps.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    });
    let endpoint = format!("{}/hook", served(Router::new().route("/hook", hook)).await);
    let line = ["x", "--secret-key", "sk_test_x", "--webhook-secret", "whsec_x", "--webhook-url", &endpoint];
    let args = Line::try_parse_from(line).expect("arguments").args;
    let app = Arc::new(new_app(&args, args.listen).expect("app"));
    let (world, _, session) = open_session(Some(MONTH_SECS));
    *app.world() = world;
    checkout::pay(&mut app.world(), &session, &Typed::card(cards::AUTHENTICATE)).expect("paid");
    let base = served(router(Arc::clone(&app))).await;
    app.world().advance(MONTH_SECS + 1);
    super::billing::bill_due(&mut app.world()).expect("billed");
    (app, base, inbox)
}

#[tokio::test]
async fn chosen_events_arrive_in_the_chosen_order_and_number() {
    let (app, base, inbox) = stand_in().await;
    let mut ids: Vec<String> = app.world().all("event").rev().take(3).map(|row| text(&row["id"])).collect();
    ids.push(ids[0].clone());
    let answer: Value = app
        .http
        .post(format!("{base}/_control/webhooks/deliver"))
        .json(&json!({"events": ids, "shape": "legacy"}))
        .send()
        .await
        .expect("answer")
        .json()
        .await
        .expect("json");
    assert_eq!(answer["delivered"].as_array().map(Vec::len), Some(4));
    let got = inbox.taken();
    assert_eq!(got.iter().map(|event| text(&event["id"])).collect::<Vec<_>>(), ids);
    assert!(got.iter().all(|event| event["api_version"] == "2025-02-24.acacia"));
}

#[tokio::test]
async fn a_person_authenticates_on_the_hosted_page_and_keeps_a_pdf() {
    let (app, base, _) = stand_in().await;
    let id = text(&latest_invoice(&app.world())["id"]);
    let page = format!("{base}/i/{id}");
    let shown = app.http.get(&page).send().await.expect("page").text().await.expect("text");
    assert!(shown.contains("Complete authentication"));
    let form = [("action", "authenticate")];
    let paid = app.http.post(&page).form(&form).send().await.expect("page").text().await.expect("text");
    assert!(paid.contains("paid") && !paid.contains("<form"), "{paid}");
    assert_eq!(latest_invoice(&app.world())["status"], "paid");
    let pdf = app.http.get(format!("{page}/pdf")).send().await.expect("pdf");
    assert_eq!(pdf.headers()["content-type"], "application/pdf");
    assert!(pdf.bytes().await.expect("bytes").starts_with(b"%PDF"));
}
