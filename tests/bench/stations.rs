//! Where the time of an order goes: how long after the webhook of its payment each station was reached, and how long it took.
use anyhow::{Context as _, Result, ensure};
use house::House;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::figures::{Aim, Figure};

/// When the first event of each order's payment came.
const BEGUN: &str = "
    select o.id, o.paid_at, o.delivered_at, min(e.received_at) as at
    from orders o join payment_events e on e.object_id = o.stripe_session_id and e.type = 'checkout.session.completed'
    where o.id = any($1) group by o.id, o.paid_at, o.delivered_at";

/// One station: what it is called, and a median in milliseconds.
pub(crate) type Median = (String, f64);

/// The medians of all stations, one value for each run.
#[derive(Default)]
pub(crate) struct Stations {
    figures: Vec<(String, Figure)>,
}

impl Stations {
    /// Adds what one run gave.
    pub(crate) fn add(&mut self, medians: Vec<Median>) {
        for (name, millis) in medians {
            if let Some((_, figure)) = self.figures.iter_mut().find(|(known, _)| *known == name) {
                figure.add(millis);
            } else {
                let mut figure = Figure::new(name.clone(), "ms", Aim::Told);
                figure.add(millis);
                self.figures.push((name, figure));
            }
        }
    }

    /// In the order in which they were reached.
    pub(crate) fn figures(self) -> Vec<Figure> {
        self.figures.into_iter().map(|(_, figure)| figure).collect()
    }
}

/// The medians over these orders: paid, each step that began after the payment, delivered.
pub(crate) async fn medians(house: &House, orders: &[Uuid]) -> Result<Vec<Median>> {
    let ends = format!(
        "select percentile_cont(0.5) within group (order by extract(epoch from paid_at - at)::float8 * 1000),
            percentile_cont(0.5) within group (order by extract(epoch from delivered_at - at)::float8 * 1000)
         from ({BEGUN}) begun"
    );
    let (paid, delivered): (Option<f64>, Option<f64>) =
        sqlx::query_as(AssertSqlSafe(ends)).bind(orders).fetch_one(house.db()).await?;
    let steps = format!(
        "select s.step, percentile_cont(0.5) within group (order by extract(epoch from s.started_at - at)::float8 * 1000),
            percentile_cont(0.5) within group
                (order by extract(epoch from coalesce(s.finished_at, s.started_at) - s.started_at)::float8 * 1000)
         from ({BEGUN}) begun join order_steps s on s.order_id = begun.id and s.started_at >= at group by s.step order by 2"
    );
    let steps: Vec<(String, f64, f64)> =
        sqlx::query_as(AssertSqlSafe(steps)).bind(orders).fetch_all(house.db()).await?;
    ensure!(!steps.is_empty(), "no step began after its payment");
    let mut medians = vec![("p50 after the webhook: noted as paid".to_owned(), paid.context("no order was paid")?)];
    for (step, began, took) in steps {
        medians.push((format!("p50 after the webhook: {step} begins"), began));
        medians.push((format!("p50 of {step}"), took));
    }
    medians.push(("p50 after the webhook: delivered".to_owned(), delivered.context("no order was delivered")?));
    Ok(medians)
}
