//! What plans and prices are called and cost, kept in memory: pages name them beside every row, and they hardly ever
//! change.
use crate::{
    Store, StoreError,
    catalogue::money,
    fault::{Doing, word},
};
use domain::{money::Money, plan::Term};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;
use uuid::Uuid;

/// How old what is kept may be before it is read again.
const FRESH: Duration = Duration::from_millis(500);

/// What a price asks for.
pub(crate) struct PriceLabel {
    /// How much each time.
    pub(crate) money: Money,
    /// How often.
    pub(crate) term: Term,
}

/// Every plan and price there ever was, on sale or not.
pub(crate) struct Labels {
    plans: HashMap<Uuid, String>,
    prices: HashMap<Uuid, PriceLabel>,
    plans_by_stripe_price: HashMap<String, Uuid>,
}

impl Labels {
    /// A plan's name.
    pub(crate) fn plan(&self, plan: Uuid) -> Option<&str> {
        self.plans.get(&plan).map(String::as_str)
    }

    /// What a price asks for.
    pub(crate) fn price(&self, price: Uuid) -> Option<&PriceLabel> {
        self.prices.get(&price)
    }

    /// The name of the plan that Stripe's price is asked for; nothing when the price is none of ours.
    pub(crate) fn plan_of(&self, stripe_price: &str) -> Option<&str> {
        self.plan(*self.plans_by_stripe_price.get(stripe_price)?)
    }
}

/// Where the labels are kept.
#[derive(Default)]
pub(crate) struct LabelShelf(Mutex<Option<(Instant, Arc<Labels>)>>);

impl Store {
    /// What plans and prices were called at most half a second ago, or now.
    pub(crate) async fn labels(&self, read_now: bool) -> Result<Arc<Labels>, StoreError> {
        let mut kept = self.labels.0.lock().await;
        if let Some((read_at, labels)) = kept.as_ref()
            && !read_now
            && read_at.elapsed() < FRESH
        {
            return Ok(Arc::clone(labels));
        }
        let read_at = Instant::now();
        let labels = Arc::new(self.read_labels().await?);
        *kept = Some((read_at, Arc::clone(&labels)));
        Ok(labels)
    }

    async fn read_labels(&self) -> Result<Labels, StoreError> {
        let rows = sqlx::query!(
            r#"select p.id as "plan!", p.name as "name!", pr.id as "price?", pr.amount_minor as "amount_minor?", pr.currency as "currency?",
                pr.term as "term?", pr.stripe_price_id as "stripe_price_id?"
               from plans p left join prices pr on pr.plan_id = p.id"#
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading what plans are called")?;
        let mut labels =
            Labels { plans: HashMap::new(), prices: HashMap::new(), plans_by_stripe_price: HashMap::new() };
        for row in rows {
            labels.plans.insert(row.plan, row.name);
            if let (Some(price), Some(amount_minor), Some(currency), Some(term), Some(stripe_price)) =
                (row.price, row.amount_minor, row.currency, row.term, row.stripe_price_id)
            {
                let label = PriceLabel { money: money(amount_minor, &currency)?, term: word(&term, "a price's term")? };
                labels.prices.insert(price, label);
                labels.plans_by_stripe_price.insert(stripe_price, row.plan);
            }
        }
        Ok(labels)
    }
}
