//! A past that nobody lived: orders, services and everything around them put straight into the tables, for measuring and for
//! showing that pages do not grow with it. Nothing of it exists at the vendors.

use anyhow::{Context, Result, ensure};
use sqlx::{Executor as _, Row as _};
use uuid::Uuid;

use crate::house::House;

/// How many lines of history each order gets.
pub const LINES_EACH: i64 = 10;

const WANTED: &str =
    "create temp table wanted (account_id uuid, running int, open int, ended int, lapsed int) on commit drop";

/// The orders to be put, each with the account it belongs to, its state and a number nobody else has. Everything held is
/// held on a node that takes no new orders, so that what is on sale stays as it was.
const BATCH: &str = "
    create temp table batch on commit drop as
    select row_number() over () + (select count(*) from orders) as nr, gen_random_uuid() as order_id,
        gen_random_uuid() as service_id, account_id, state,
        now() - row_number() over () * interval '30 seconds' as at
    from wanted cross join lateral (
        select 'running' as state, n as number from generate_series(1, running) n
        union all select 'open', n from generate_series(1, open) n
        union all select 'ended', n from generate_series(1, ended) n
        union all select 'lapsed', n from generate_series(1, lapsed) n
    ) as each;
    create index on batch (order_id);
    insert into nodes (name, memory_mib_limit, storage, template_node, active)
        values ('full', 2000000000, 'local-lvm', 'full', false) on conflict do nothing;
    insert into vmids (vmid) select 5000000 + nr from batch;
    insert into addresses (address, family, prefix_length, gateway, nameserver)
        select '172.16.0.0'::inet + nr, 4, 12, '172.16.0.0'::inet, '172.16.0.0'::inet from batch
        union all select 'fd01::'::inet + nr, 6, 64, 'fd01::'::inet, 'fd01::'::inet from batch;";

const ROWS: &str = "
    insert into orders (id, account_id, service_id, plan_id, price_id, hostname, image, status, stripe_session_id,
        checkout_url, subscription_id, created_at, paid_at, delivered_at, closed_at)
    select order_id, account_id, service_id, plan_id, price_id, 'crowd-' || nr, image,
        case state when 'open' then 'provisioning' when 'lapsed' then 'lapsed' else 'delivered' end, 'cs_crowd_' || nr,
        'https://checkout.example/' || nr, case when state <> 'lapsed' then 'sub_crowd_' || nr end, at,
        case when state <> 'lapsed' then at end, case when state in ('running', 'ended') then at end,
        case when state = 'lapsed' then at end
    from batch cross join (
        select p.id as plan_id, pr.id as price_id, (select min(slug) from images) as image
        from plans p join prices pr on pr.plan_id = p.id and pr.active and pr.term = 'monthly'
        order by p.position, pr.currency limit 1
    ) as sold;
    insert into reservations (order_id, node, memory_mib, vmid, ipv4, ipv6, created_at, released_at)
    select order_id, 'full', 1024, 5000000 + nr, '172.16.0.0'::inet + nr, 'fd01::'::inet + nr, at,
        case when state in ('ended', 'lapsed') then at end
    from batch;
    insert into subscriptions (id, account_id, order_id, plan_id, price_id, status, phase, period_start, period_end,
        created_at, read_at)
    select 'sub_crowd_' || nr, b.account_id, order_id, plan_id, price_id,
        case state when 'ended' then 'canceled' else 'active' end, case state when 'ended' then 'expired' else 'active' end,
        at, at + interval '30 days', at, at
    from batch b join orders o on o.id = b.order_id where state <> 'lapsed';
    insert into invoices (id, subscription_id, status, amount_due_minor, amount_paid_minor, currency, hosted_url, created_at)
    select 'in_crowd_' || nr || '_' || n, 'sub_crowd_' || nr, 'paid', 500, 500, 'eur', 'https://invoice.example/' || nr, at
    from batch cross join generate_series(1, 2) n where state <> 'lapsed';
    insert into entitlements (subscription_id, kind, quantity, closed_at)
    select 'sub_crowd_' || nr, 'vps', 1, case state when 'ended' then at end from batch where state <> 'lapsed';
    insert into services (id, order_id, account_id, subscription_id, kind, status, hostname, dns_name, created_at, changed_at)
    select service_id, order_id, account_id, 'sub_crowd_' || nr, 'vps',
        case state when 'running' then 'running' when 'open' then 'provisioning' else 'expired' end,
        'crowd-' || nr, 'crowd-' || nr || '.example.test.', at, at - interval '60 days'
    from batch where state <> 'lapsed';
    insert into order_steps (order_id, step, state, started_at, finished_at)
    select order_id, step, case when state = 'open' and step = 'clone' then 'running' else 'done' end, at,
        case when state = 'open' and step = 'clone' then null else at end
    from batch cross join unnest(array['reserve', 'checkout', 'payment', 'clone']) as step;
    insert into timeline (account_id, order_id, service_id, subscription_id, happened_at, actor, kind, line, fact)
    select account_id, order_id, service_id, 'sub_crowd_' || nr, at, 'system', 'machine', 'Something happened to it.',
        'crowd/' || nr || '/' || n
    from batch cross join generate_series(1, 10) n;
    insert into payment_events (id, type, object_id, object_kind, order_id, subscription_id, stripe_created_at, livemode,
        state, received_at, handled_at)
    select 'evt_crowd_' || nr || '_' || n, 'invoice.paid', 'in_crowd_' || nr || '_' || n, 'invoice', order_id,
        'sub_crowd_' || nr, at, false, 'handled', at, at
    from batch cross join generate_series(1, 2) n where state <> 'lapsed';
    insert into letters (occasion, kind, order_id, state, created_at, sent_at)
    select 'crowd/' || nr, 'service_delivered', order_id, 'sent', at, at from batch where state in ('running', 'ended');
    insert into attention (id, workflow_id, occurrence, order_id, step, reason, raised_at, settled_at, verdict, decided_by)
    select gen_random_uuid(), 'order-' || order_id, 1, order_id, 'clone', 'A past trouble.', at, at, 'retry', account_id
    from batch where nr % 4 = 0 and state in ('running', 'ended');
    insert into billing_customers (id, account_id, deleted, balance_minor, currency, delinquent, created_at, read_at)
    select 'cus_crowd_' || account_id, account_id, false, 0, 'eur', false, min(at), min(at)
    from batch where state <> 'lapsed' group by account_id on conflict do nothing;
    insert into payments (id, customer_id, account_id, invoice_id, subscription_id, order_id, status, amount_minor,
        refunded_minor, currency, disputed, created_at, read_at)
    select 'ch_crowd_' || nr, 'cus_crowd_' || account_id, account_id, 'in_crowd_' || nr || '_1', 'sub_crowd_' || nr, order_id,
        'succeeded', 500, case state when 'ended' then 500 else 0 end, 'eur', false, at, at
    from batch where state <> 'lapsed';
    insert into refunds (id, payment_id, status, amount_minor, currency, created_at, read_at)
    select 're_crowd_' || nr, 'ch_crowd_' || nr, 'succeeded', 500, 'eur', at, at from batch where state = 'ended';
    insert into credit_moves (id, customer_id, account_id, kind, amount_minor, currency, created_at)
    select 'cbtxn_crowd_' || nr, 'cus_crowd_' || account_id, account_id, 'adjustment', -100, 'eur', at
    from batch where state = 'ended';
    insert into instructions (id, subscription_id, order_id, kind, about, amount_minor, currency, actor, reason, state,
        asked_at, settled_at)
    select gen_random_uuid(), 'sub_crowd_' || nr, order_id, 'refund', 'in_crowd_' || nr || '_1', 500, 'eur', account_id,
        'A past wish.', 'done', at, at
    from batch where state = 'ended';
    insert into removals (occasion, subscription_id, order_id, kind, asked_at, allowed_at)
    select 'expire/sub_crowd_' || nr, 'sub_crowd_' || nr, order_id, 'expire', at - interval '2 days', at - interval '2 days'
    from batch where state = 'ended';";

/// What an account is given: how many orders of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Past {
    /// Delivered and running.
    pub running: i32,
    /// Paid and being set up.
    pub open: i32,
    /// Delivered, and long over.
    pub ended: i32,
    /// Never paid.
    pub lapsed: i32,
}

impl House {
    /// Gives one account a past. Its rows are those that living it would have left.
    pub async fn furnish(&self, account: Uuid, past: Past) -> Result<()> {
        self.put_past(past, "select $1::uuid as account_id", Some(account)).await
    }

    /// Makes so many accounts and gives each the same past.
    pub async fn crowd(&self, accounts: i32, past: Past) -> Result<()> {
        ensure!(accounts > 0, "a crowd of nobody");
        let made = format!(
            "with made as (
                insert into accounts (id, name) select gen_random_uuid(), 'Crowd ' || n
                from generate_series(1, {accounts}) n returning id
             ), people as (
                insert into users (id, account_id, name, email, password_hash, email_verified_at)
                select id, id, 'Somebody', id || '@crowd.test', 'none', now() from made returning id
             )
             select id as account_id from made where id in (select id from people)"
        );
        self.put_past(past, &made, None).await
    }

    async fn put_past(&self, past: Past, accounts: &str, account: Option<Uuid>) -> Result<()> {
        let Past { running, open, ended, lapsed } = past;
        let mut tx = self.db().begin().await?;
        let mut whose = sqlx::query(sqlx::AssertSqlSafe(accounts.to_owned()));
        if let Some(account) = account {
            whose = whose.bind(account);
        }
        let whose: Vec<Uuid> =
            whose.fetch_all(&mut *tx).await?.iter().map(|row| row.try_get("account_id")).collect::<Result<_, _>>()?;
        tx.execute(WANTED).await?;
        sqlx::query("insert into wanted select unnest($1::uuid[]), $2, $3, $4, $5")
            .bind(whose)
            .bind(running)
            .bind(open)
            .bind(ended)
            .bind(lapsed)
            .execute(&mut *tx)
            .await?;
        for statements in [BATCH, ROWS] {
            tx.execute(sqlx::raw_sql(statements)).await.context("putting a past into the tables")?;
        }
        tx.commit().await?;
        // Without statistics and a tidy table the planner guesses, as it would not in production.
        self.db().execute("vacuum (analyze)").await?;
        Ok(())
    }
}
