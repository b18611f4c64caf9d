-- A plan may begin with days that cost nothing, once for each account.
alter table plans
    add column trial_days integer not null default 0 constraint plans_trial check (trial_days between 0 and 90);
alter table orders add column trial_days integer not null default 0 constraint orders_trial check (trial_days >= 0);
create unique index orders_one_trial on orders (account_id)
    where trial_days > 0 and status not in ('lapsed', 'sold_out', 'abandoned');
-- Until when nothing is charged, while nothing was.
alter table subscriptions add column trial_until timestamptz;
