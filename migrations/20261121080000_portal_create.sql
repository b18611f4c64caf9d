-- Accounts and users

create table accounts (
    id uuid primary key,
    name text not null,
    stripe_customer_id text unique,
    created_at timestamptz not null default now()
);

create table users (
    id uuid primary key,
    account_id uuid not null references accounts,
    name text not null,
    email text not null,
    password_hash text not null,
    is_staff boolean not null default false,
    email_verified_at timestamptz,
    created_at timestamptz not null default now(),
    constraint users_email_lower check (email = lower(email)),
    constraint users_email_key unique (email)
);
create index users_account on users (account_id);

-- The link in the letter is derived from the row's id with the portal's key, so no usable token is stored.
create table email_verifications (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz
);
create index email_verifications_user on email_verifications (user_id);

create table sessions (
    id text primary key,
    user_id uuid references users on delete cascade,
    data jsonb not null,
    expires_at timestamptz not null
);
create index sessions_user on sessions (user_id);
create index sessions_expires_at on sessions (expires_at);

-- What is sold

create table plans (
    id uuid primary key,
    slug text not null constraint plans_slug_key unique,
    name text not null,
    tagline text not null,
    kind text not null constraint plans_kind check (kind in ('vps')),
    cores integer not null constraint plans_cores check (cores > 0),
    memory_mib integer not null constraint plans_memory check (memory_mib > 0),
    disk_gib integer not null constraint plans_disk check (disk_gib > 0),
    service_limit integer not null default 1 constraint plans_service_limit check (service_limit > 0),
    position integer not null,
    active boolean not null default true
);

create table plan_features (
    plan_id uuid not null references plans on delete cascade,
    position integer not null,
    line text not null,
    primary key (plan_id, position)
);

create table prices (
    id uuid primary key,
    plan_id uuid not null references plans on delete cascade,
    term text not null constraint prices_term check (term in ('monthly', 'annual')),
    currency text not null constraint prices_currency check (currency ~ '^[a-z]{3}$'),
    amount_minor bigint not null constraint prices_amount check (amount_minor > 0),
    stripe_price_id text not null constraint prices_stripe_price_key unique,
    active boolean not null default true
);
create unique index prices_one_active on prices (plan_id, term, currency) where active;

create table images (
    slug text primary key,
    name text not null,
    template_vmid integer not null,
    position integer not null,
    active boolean not null default true
);

-- What can be reserved

create table nodes (
    name text primary key,
    memory_mib_limit integer not null,
    storage text not null,
    template_node text not null,
    active boolean not null default true
);

-- One row for each machine number we may use; a number somebody else was found to use is blocked.
create table vmids (
    vmid integer primary key,
    blocked_at timestamptz,
    blocked_reason text
);

create table addresses (
    address inet primary key,
    family smallint not null constraint addresses_family check (family in (4, 6)),
    prefix_length smallint not null,
    gateway inet not null,
    nameserver inet not null
);

-- Orders

create table orders (
    id uuid primary key,
    account_id uuid not null references accounts,
    service_id uuid not null constraint orders_service_key unique,
    plan_id uuid not null references plans,
    price_id uuid not null references prices,
    hostname text not null,
    image text not null references images,
    sealed_ssh_key text,
    status text not null constraint orders_status check (
        status in ('awaiting_payment', 'lapsed', 'sold_out', 'provisioning', 'delivered', 'abandoned')
    ),
    reason text,
    stripe_session_id text constraint orders_stripe_session_key unique,
    checkout_url text,
    subscription_id text,
    created_at timestamptz not null default now(),
    paid_at timestamptz,
    delivered_at timestamptz,
    closed_at timestamptz
);
create index orders_account on orders (account_id, created_at desc);
create index orders_status_index on orders (status, created_at desc);
create index orders_subscription on orders (subscription_id);

create table order_steps (
    order_id uuid not null references orders,
    step text not null,
    state text not null constraint order_steps_state check (
        state in ('waiting', 'running', 'done', 'delayed', 'skipped', 'undone')
    ),
    started_at timestamptz not null default now(),
    finished_at timestamptz,
    primary key (order_id, step)
);

-- Node, machine number and addresses held for an order, before it is paid and for as long as its service lives.
create table reservations (
    order_id uuid primary key references orders,
    node text not null references nodes,
    memory_mib integer not null,
    vmid integer not null references vmids,
    ipv4 inet not null references addresses,
    ipv6 inet not null references addresses,
    created_at timestamptz not null default now(),
    released_at timestamptz
);
create unique index reservations_vmid on reservations (vmid) where released_at is null;
create unique index reservations_ipv4 on reservations (ipv4) where released_at is null;
create unique index reservations_ipv6 on reservations (ipv6) where released_at is null;
create index reservations_node on reservations (node) where released_at is null;

-- Subscriptions: the mirror of Stripe, rebuilt at every look

create table subscriptions (
    id text primary key,
    account_id uuid not null references accounts,
    order_id uuid not null references orders,
    plan_id uuid not null references plans,
    price_id uuid not null references prices,
    status text not null constraint subscriptions_status check (
        status in ('incomplete', 'incomplete_expired', 'trialing', 'active', 'past_due', 'canceled', 'unpaid', 'paused')
    ),
    phase text not null constraint subscriptions_phase check (
        phase in ('active', 'past_due', 'suspended', 'retained', 'expired')
    ),
    period_start timestamptz,
    period_end timestamptz,
    cancel_at_period_end boolean not null default false,
    destroy_at timestamptz,
    created_at timestamptz not null default now(),
    read_at timestamptz
);
create index subscriptions_account on subscriptions (account_id);

create table invoices (
    id text primary key,
    subscription_id text not null references subscriptions,
    status text not null,
    amount_due_minor bigint not null,
    amount_paid_minor bigint not null,
    currency text not null,
    hosted_url text,
    created_at timestamptz not null,
    read_at timestamptz not null default now()
);
create index invoices_subscription on invoices (subscription_id, created_at desc);

-- What a subscription lets its account order, and how many.
create table entitlements (
    subscription_id text not null references subscriptions,
    kind text not null constraint entitlements_kind check (kind in ('vps')),
    quantity integer not null constraint entitlements_quantity check (quantity > 0),
    closed_at timestamptz,
    primary key (subscription_id, kind)
);

create table services (
    id uuid primary key,
    order_id uuid not null constraint services_order_key unique references orders,
    account_id uuid not null references accounts,
    subscription_id text not null references subscriptions,
    kind text not null constraint services_kind check (kind in ('vps')),
    status text not null constraint services_status check (
        status in ('provisioning', 'running', 'suspended', 'retained', 'expired', 'undone')
    ),
    hostname text not null,
    dns_name text,
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now()
);
create index services_account on services (account_id, created_at desc);
create index services_subscription on services (subscription_id);

-- A generated password, sealed; the link in the page shows it once.
create table credentials (
    service_id uuid primary key,
    sealed_password text,
    created_at timestamptz not null default now(),
    shown_at timestamptz,
    constraint credentials_shown_once check (shown_at is null or sealed_password is null)
);

-- The Stripe inbox. Only the envelope is kept; everything else is read at Stripe.

create table payment_events (
    id text primary key,
    type text not null,
    object_id text not null,
    object_kind text not null,
    order_id uuid,
    subscription_id text,
    stripe_created_at timestamptz not null,
    livemode boolean not null,
    state text not null default 'received' constraint payment_events_state check (
        state in ('received', 'handled', 'ignored', 'unclaimed')
    ),
    attempts integer not null default 0,
    next_attempt_at timestamptz not null default now(),
    last_error text,
    received_at timestamptz not null default now(),
    handled_at timestamptz
);
create index payment_events_open on payment_events (next_attempt_at) where state = 'received';
create index payment_events_recent on payment_events (received_at desc);

-- What people read

create table timeline (
    id bigint generated always as identity primary key,
    account_id uuid not null references accounts,
    order_id uuid references orders,
    service_id uuid,
    subscription_id text,
    happened_at timestamptz not null default now(),
    actor text not null,
    kind text not null,
    line text not null,
    -- the fact an entry is about: the same fact again makes no second line
    fact text not null constraint timeline_fact_key unique
);
create index timeline_account on timeline (account_id, happened_at desc);
create index timeline_order on timeline (order_id, id);
create index timeline_service on timeline (service_id, id);

create table attention (
    id uuid primary key,
    workflow_id text not null,
    occurrence integer not null,
    order_id uuid references orders,
    subscription_id text,
    step text not null,
    reason text not null,
    raised_at timestamptz not null default now(),
    settled_at timestamptz,
    verdict text constraint attention_verdict check (verdict in ('retry', 'skip', 'abandon')),
    result text,
    decided_by text,
    decided_because text
);
create unique index attention_once on attention (workflow_id, occurrence) where settled_at is null;
create index attention_order on attention (order_id);
create index attention_open on attention (raised_at) where settled_at is null;

-- One row for each occasion to write; the occasion is written to at most once.
create table letters (
    occasion text primary key,
    kind text not null,
    user_id uuid references users on delete cascade,
    order_id uuid references orders,
    subscription_id text,
    service_id uuid,
    state text not null constraint letters_state check (state in ('queued', 'started', 'sent', 'refused')),
    -- chosen by the first try, kept by every later one
    message_id text,
    attempts integer not null default 0,
    last_error text,
    created_at timestamptz not null default now(),
    sent_at timestamptz
);
create index letters_user on letters (user_id, kind, created_at);
create index letters_refused on letters (created_at desc) where state = 'refused';
create index letters_queued on letters (created_at) where state = 'queued';
