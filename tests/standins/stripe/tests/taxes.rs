//! Tax, addresses, tax ids, currencies.

use serde_json::json;

use super::super::checkout::{self, Typed};
use super::super::world::World;
use super::{GOOD, events, get, latest_invoice, open_session, post, text};

fn taxed_session(world: &mut World, customer: &str, more: &str) -> super::Answer {
    let price = text(&world.all("price").next().expect("price")["id"]);
    let form = format!(
        "mode=subscription&customer={customer}&success_url=http://shop.test/&line_items[0][price]={price}\
         &line_items[0][quantity]=1&automatic_tax[enabled]=true&tax_id_collection[enabled]=true{more}"
    );
    post(world, "checkout/sessions", &form)
}

const UPDATES: &str = "&customer_update[address]=auto&customer_update[name]=auto&billing_address_collection=required";

#[test]
fn tax_follows_the_address_that_is_typed() {
    for (country, vat, tax, reason) in [
        ("DE", None, 190, "standard_rated"),
        ("FR", None, 200, "standard_rated"),
        ("FR", Some("FR12345678901"), 0, "reverse_charge"),
        ("US", None, 0, "not_collecting"),
    ] {
        let (mut world, customer, _) = open_session(None);
        let session = text(&taxed_session(&mut world, &customer, UPDATES).expect("session")["id"]);
        let none = checkout::pay(&mut world, &session, &Typed::card(GOOD)).expect_err("no address");
        assert_eq!(none.body()["error"]["code"], "customer_tax_location_invalid");
        let typed = Typed {
            address: Some(json!({"country": country})),
            tax_id: vat.map(|value: &str| ("eu_vat".to_owned(), value.to_owned())),
            ..Typed::card(GOOD)
        };
        checkout::pay(&mut world, &session, &typed).expect("paid");
        let row = world.copy("checkout.session", &session).expect("session");
        assert_eq!((&row["amount_total"], &row["total_details"]["amount_tax"]), (&json!(1000 + tax), &json!(tax)));
        let invoice = latest_invoice(&world);
        assert_eq!(invoice["total_taxes"][0]["taxability_reason"], reason);
        assert_eq!((&invoice["total_excluding_tax"], &invoice["total"]), (&json!(1000), &json!(1000 + tax)));
        assert_eq!(get(&mut world, &format!("customers/{customer}"))["address"]["country"], country);
    }
}

#[test]
fn a_session_that_could_not_keep_what_is_typed_is_refused() {
    let (mut world, customer, _) = open_session(None);
    let refusal = taxed_session(&mut world, &customer, "").expect_err("no address, not to be kept");
    assert_eq!(refusal.body()["error"]["code"], "customer_tax_location_invalid");
    assert!(taxed_session(&mut world, &customer, "&customer_update[address]=auto").is_err());
}

#[test]
fn tax_is_worked_out_before_anybody_pays() {
    let (mut world, customer, _) = open_session(None);
    let lines = "currency=eur&line_items[0][amount]=1000&line_items[0][reference]=vps";
    let form = format!("{lines}&customer_details[address][country]=DE&customer_details[address_source]=billing");
    let shown = post(&mut world, "tax/calculations", &form).expect("calculation");
    assert_eq!((&shown["tax_amount_exclusive"], &shown["amount_total"]), (&json!(190), &json!(1190)));
    assert_eq!(shown["tax_breakdown"][0]["tax_rate_details"]["percentage_decimal"], "19.0");
    assert!(post(&mut world, "tax/calculations", &format!("{lines}&customer={customer}")).is_err());
    post(&mut world, &format!("customers/{customer}"), "address[country]=FR&address[city]=Paris").expect("address");
    post(&mut world, &format!("customers/{customer}/tax_ids"), "type=eu_vat&value=FR12345678901").expect("tax id");
    assert!(post(&mut world, &format!("customers/{customer}/tax_ids"), "type=eu_vat&value=1").is_err());
    let shown = post(&mut world, "tax/calculations", &format!("{lines}&customer={customer}")).expect("calculation");
    assert_eq!(
        (&shown["tax_amount_exclusive"], &shown["tax_breakdown"][0]["taxability_reason"]),
        (&json!(0), &json!("reverse_charge"))
    );
    let listed = get(&mut world, &format!("customers/{customer}/tax_ids"));
    let id = text(&listed["data"][0]["id"]);
    super::call(&mut world, "DELETE", &format!("customers/{customer}/tax_ids/{id}"), "").expect("deleted");
    assert_eq!(events(&world, "customer.tax_id.deleted"), 1);
}

#[test]
fn a_price_is_sold_in_each_of_its_currencies() {
    let (mut world, customer, _) = open_session(None);
    let product = text(&world.all("product").next().expect("product")["id"]);
    let form = format!(
        "product={product}&currency=eur&unit_amount=2000&recurring[interval]=month&currency_options[usd][unit_amount]=2300"
    );
    let price = text(&post(&mut world, "prices", &form).expect("price")["id"]);
    let session = |world: &mut World, currency: &str| {
        let form = format!(
            "mode=subscription&customer={customer}&success_url=http://shop.test/&currency={currency}\
             &line_items[0][price]={price}&line_items[0][quantity]=2"
        );
        post(world, "checkout/sessions", &form)
    };
    assert!(session(&mut world, "gbp").is_err());
    let made = session(&mut world, "usd").expect("session");
    assert_eq!((&made["currency"], &made["amount_total"]), (&json!("usd"), &json!(4600)));
    checkout::pay(&mut world, &text(&made["id"]), &Typed::card(GOOD)).expect("paid");
    let invoice = latest_invoice(&world);
    assert_eq!((&invoice["currency"], &invoice["total"]), (&json!("usd"), &json!(4600)));
    let refusal = session(&mut world, "eur").expect_err("one currency for each customer");
    assert!(refusal.message().contains("combine currencies"));
}
