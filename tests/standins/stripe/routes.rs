//! The endpoints of `/v1`.

use super::forms::{self, only, text};
use super::refusal::{Answer, Refusal};
use super::world::{Call, World};
use super::{catalogue, checkout, clocks, customers, invoices, payments, portal, refunds, subscriptions};

/// Runs the endpoint of a method and path.
pub(super) fn dispatch(world: &mut World, method: &str, call: &Call) -> Answer {
    let path = call.path.trim_start_matches("/v1/");
    let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    match method {
        "GET" => read(world, call, &parts),
        "POST" => write(world, call, &parts),
        "DELETE" => delete(world, call, &parts),
        _ => Err(Refusal::no_such_path(method, &call.path)),
    }
}

fn one(world: &World, call: &Call, kind: &str, id: &str) -> Answer {
    only(&call.params, &[])?;
    world.copy(kind, id)
}

fn read(world: &mut World, call: &Call, parts: &[&str]) -> Answer {
    match *parts {
        ["customers"] => customers::list(world, call),
        ["customers", id] => one(world, call, "customer", id),
        ["products"] => catalogue::list_products(world, call),
        ["products", id] => one(world, call, "product", id),
        ["prices"] => catalogue::list_prices(world, call),
        ["prices", id] => one(world, call, "price", id),
        ["checkout", "sessions"] => checkout::list(world, call),
        ["checkout", "sessions", id] => {
            checkout::expire_due(world)?;
            one(world, call, "checkout.session", id)
        }
        ["checkout", "sessions", id, "line_items"] => {
            world.get("checkout.session", id, "id")?;
            world.list("item", call, |row| row["session"] == id)
        }
        ["subscriptions"] => subscriptions::list(world, call),
        ["subscriptions", id] => one(world, call, "subscription", id),
        ["invoices"] => invoices::list(world, call),
        ["invoices", id] => one(world, call, "invoice", id),
        ["invoice_payments"] => invoices::list_payments(world, call),
        ["invoice_payments", id] => one(world, call, "invoice_payment", id),
        ["payment_intents"] => payments::list_intents(world, call),
        ["payment_intents", id] => {
            only(&call.params, &["client_secret"])?;
            world.copy("payment_intent", id)
        }
        ["payment_methods", id] => one(world, call, "payment_method", id),
        ["charges"] => payments::list_charges(world, call),
        ["charges", id] => one(world, call, "charge", id),
        ["refunds"] => refunds::list(world, call),
        ["refunds", id] => one(world, call, "refund", id),
        ["billing_portal", "configurations"] => portal::list_configurations(world, call),
        ["billing_portal", "configurations", id] => one(world, call, "billing_portal.configuration", id),
        ["events"] => list_events(world, call),
        ["events", id] => one(world, call, "event", id),
        ["test_helpers", "test_clocks", id] => one(world, call, clocks::KIND, id),
        _ => Err(Refusal::no_such_path("GET", &call.path)),
    }
}

fn write(world: &mut World, call: &Call, parts: &[&str]) -> Answer {
    match *parts {
        ["customers"] => customers::create(world, call),
        ["customers", id] => customers::update(world, call, id),
        ["products"] => catalogue::create_product(world, call),
        ["products", id] => catalogue::update_product(world, call, id),
        ["prices"] => catalogue::create_price(world, call),
        ["prices", id] => catalogue::update_price(world, call, id),
        ["checkout", "sessions"] => checkout::create(world, call),
        ["checkout", "sessions", id, "expire"] => {
            only(&call.params, &[])?;
            checkout::expire(world, id)
        }
        ["subscriptions", id] => subscriptions::update(world, call, id),
        ["invoices", id] => invoices::update(world, call, id),
        ["invoices", id, "pay"] => invoices::pay(world, call, id),
        ["invoices", id, "void"] => invoices::void(world, call, id),
        ["refunds"] => refunds::create(world, call),
        ["refunds", id] => refunds::update(world, call, id),
        ["billing_portal", "sessions"] => portal::create_session(world, call),
        ["billing_portal", "configurations"] => portal::create_configuration(world, call),
        ["billing_portal", "configurations", id] => portal::update_configuration(world, call, id),
        ["test_helpers", "test_clocks"] => clocks::create(world, call),
        ["test_helpers", "test_clocks", id, "advance"] => clocks::advance(world, call, id),
        _ => Err(Refusal::no_such_path("POST", &call.path)),
    }
}

fn delete(world: &mut World, call: &Call, parts: &[&str]) -> Answer {
    match *parts {
        ["subscriptions", id] => subscriptions::cancel(world, call, id),
        _ => Err(Refusal::no_such_path("DELETE", &call.path)),
    }
}

fn list_events(world: &World, call: &Call) -> Answer {
    let params = &call.params;
    only(params, &["created", "type", "types", "delivery_success", "limit", "starting_after", "ending_before"])?;
    let mut types = forms::texts(params, "types");
    types.extend(text(params, "type").map(str::to_owned));
    let delivered = forms::boolean(params, "delivery_success")?;
    world.list("event", call, |row| {
        let wanted = types.is_empty()
            || types.iter().any(|pattern| {
                let name = row["type"].as_str().unwrap_or_default();
                pattern.strip_suffix('*').map_or(name == pattern, |prefix| name.starts_with(prefix))
            });
        wanted && delivered.is_none_or(|delivered| (row["pending_webhooks"] == 0) == delivered)
    })
}
