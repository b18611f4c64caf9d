-- The mirror of Stripe, completed: whatever stands in these tables was read at Stripe and can be read there again

create table billing_customers (
    id text primary key,
    account_id uuid not null references accounts,
    -- a deleted one is never charged again
    deleted boolean not null,
    -- what Stripe owes the customer is below nought
    balance_minor bigint not null,
    currency text,
    delinquent boolean not null,
    created_at timestamptz,
    read_at timestamptz not null
);
create index billing_customers_account on billing_customers (account_id);

-- One row for each charge that was tried, failed ones included.
create table payments (
    id text primary key,
    payment_intent_id text,
    customer_id text not null,
    account_id uuid not null references accounts,
    invoice_id text,
    subscription_id text,
    order_id uuid,
    status text not null constraint payments_status check (status in ('succeeded', 'pending', 'failed')),
    amount_minor bigint not null,
    refunded_minor bigint not null,
    currency text not null,
    disputed boolean not null,
    failure text,
    receipt_url text,
    created_at timestamptz not null,
    read_at timestamptz not null
);
create index payments_account on payments (account_id, created_at desc);
create index payments_subscription on payments (subscription_id, created_at desc);
create index payments_order on payments (order_id);

create table refunds (
    id text primary key,
    payment_id text not null references payments,
    -- Stripe's word: pending, requires_action, succeeded, failed, canceled
    status text not null,
    amount_minor bigint not null,
    currency text not null,
    reason text,
    created_at timestamptz not null,
    read_at timestamptz not null
);
create index refunds_payment on refunds (payment_id);

create table disputes (
    id text primary key,
    payment_id text not null references payments,
    -- Stripe's word: needs_response, under_review, won, lost, warning_…, prevented
    status text not null,
    amount_minor bigint not null,
    currency text not null,
    reason text not null,
    -- until when Stripe takes an answer
    answer_by timestamptz,
    created_at timestamptz not null,
    read_at timestamptz not null
);
create index disputes_payment on disputes (payment_id);
create index disputes_open on disputes (created_at) where status in ('needs_response', 'warning_needs_response');

alter table invoices
    add column number text,
    add column billing_reason text,
    add column period_start timestamptz,
    add column period_end timestamptz,
    add column subtotal_minor bigint,
    add column discount_minor bigint,
    add column tax_minor bigint,
    add column total_minor bigint,
    add column pdf_url text,
    add column paid_at timestamptz;

-- Whom an event is about besides its order and its subscription.
alter table payment_events
    add column customer_id text,
    add column payment_id text;
create index payment_events_differences on payment_events (object_id) where type = 'difference';

-- What has to be looked at in Stripe: a customer (cus_…), or a payment (ch_…, py_…, pi_…) whose customer is not known yet.
-- A row goes when it was looked at and nobody has asked again meanwhile.
create table mirror_looks (
    id text primary key,
    asked bigint not null default 1,
    asked_at timestamptz not null default now(),
    due_at timestamptz not null,
    attempts integer not null default 0,
    last_error text
);
create index mirror_looks_due on mirror_looks (due_at);

-- The mirror is dropped and rebuilt as a whole; what we built for a subscription must not hold it.
alter table entitlements drop constraint entitlements_subscription_id_fkey;
alter table services drop constraint services_subscription_id_fkey;

-- What is gone round for by a schedule: how far, and when the last round was whole.
create table rounds (
    name text primary key constraint rounds_name check (name in ('events', 'comparison')),
    -- events made before this were all seen
    walked_to timestamptz,
    finished_at timestamptz not null default now()
);
