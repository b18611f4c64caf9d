//! What is sold, as Stripe knows it: a product for each plan and a price for each term and currency.
use domain::{money::Money, plan::Term};
use stripe::StripeRequest as _;
use stripe_product::{
    Price, RecurringInterval,
    price::{CreatePrice, CreatePriceRecurring, CreatePriceRecurringInterval, ListPrice},
    product::{CreateProduct, RetrieveProduct, UpdateProduct},
};

use super::{Attempt, Denial, StripeApi, asked, read, short, under, write};
use crate::{call::Kind, fault::Fault};

const FIRST: Attempt = Attempt(1);

impl StripeApi {
    /// Gives the id (`price_…`) of the Stripe price of a plan, making product and price when they are not there.
    ///
    /// *Idempotence*: looks first, for the product by its id `ez-<slug>` and for the price by its lookup key
    /// `<slug>-<term>-<currency>`. A price whose amount changed gets a successor, which takes the lookup key over; whoever
    /// subscribed to the old one keeps it.
    pub async fn ensure_product_and_price(
        &self,
        plan_slug: &str,
        plan_name: &str,
        term: Term,
        money: &Money,
    ) -> Result<String, Fault> {
        let product = self.ensure_product(plan_slug, plan_name).await?;
        let lookup_key = format!("{plan_slug}-{}-{}", term.as_str(), money.currency.as_str());
        let known = ListPrice::new().lookup_keys([lookup_key.clone()]).active(true).limit(1);
        let known = read("looking for a price", known.send(&self.client)).await?;
        if let Some(price) = known.data.iter().find(|price| charges(price, &product, term, money)) {
            return Ok(price.id.to_string());
        }
        let interval = match term {
            Term::Monthly => CreatePriceRecurringInterval::Month,
            Term::Annual => CreatePriceRecurringInterval::Year,
        };
        // An amount that comes back is another price than the one it was before.
        let before = known.data.first().map_or_else(|| "none".to_owned(), |price| price.id.to_string());
        let key = under(&FIRST.key(&format!("price-{lookup_key}/{}/after/{before}", money.amount_minor)))?;
        let request = CreatePrice::new(currency(money))
            .product(product)
            .unit_amount(money.amount_minor)
            .recurring(CreatePriceRecurring::new(interval))
            .lookup_key(lookup_key)
            .transfer_lookup_key(true)
            .customize()
            .request_strategy(key);
        Ok(write("making a price", request.send(&self.client)).await?.id.to_string())
    }

    async fn ensure_product(&self, plan_slug: &str, plan_name: &str) -> Result<String, Fault> {
        let id = format!("ez-{plan_slug}");
        match asked(Kind::Read, RetrieveProduct::new(id.as_str()).send(&self.client)).await {
            Ok(product) if product.name == plan_name => Ok(id),
            Ok(product) => {
                // A name that comes back is another change than the one it was before.
                let change = short(&[product.updated.to_string().as_str(), product.name.as_str(), plan_name]);
                let request = UpdateProduct::new(id.as_str())
                    .name(plan_name)
                    .customize()
                    .request_strategy(under(&FIRST.key(&format!("plan-{plan_slug}/product/name/{change}")))?);
                write("renaming a product", request.send(&self.client)).await?;
                Ok(id)
            }
            Err(Denial::Refused { status: 404, .. }) => {
                let request = CreateProduct::new(plan_name)
                    .id(id.as_str())
                    .metadata([("plan".to_owned(), plan_slug.to_owned())])
                    .customize()
                    .request_strategy(under(&FIRST.key(&format!("plan-{plan_slug}/product")))?);
                write("making a product", request.send(&self.client)).await?;
                Ok(id)
            }
            Err(denial) => Err(denial.on_read("looking for a product")),
        }
    }
}

/// Whether the price is for this product and asks exactly this.
fn charges(price: &Price, product: &str, term: Term, money: &Money) -> bool {
    let interval = match term {
        Term::Monthly => RecurringInterval::Month,
        Term::Annual => RecurringInterval::Year,
    };
    price.product.id().as_str() == product
        && price.unit_amount == Some(money.amount_minor)
        && price.currency.to_string() == money.currency.as_str()
        && price.recurring.as_ref().is_some_and(|every| every.interval == interval && every.interval_count == 1)
}

fn currency(money: &Money) -> stripe_types::Currency {
    let Ok(currency) = money.currency.as_str().parse();
    currency
}
