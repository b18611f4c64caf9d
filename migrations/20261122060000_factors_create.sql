-- Second factors: an app that shows codes, passkeys, and codes for when both are lost; what a session has shown; and what staff
-- do for whoever lost everything

-- The seed of somebody's app, sealed with the portal's key. A code is taken only for a later step of time than the last one.
create table totp (
    user_id uuid primary key references users on delete cascade,
    sealed_seed text not null,
    last_step bigint not null,
    created_at timestamptz not null default now()
);

-- Each is 80 random bits, of which the SHA-256 stands here, and works once.
create table recovery_codes (
    user_id uuid not null references users on delete cascade,
    code_hash bytea not null,
    created_at timestamptz not null default now(),
    used_at timestamptz,
    primary key (user_id, code_hash)
);

-- A public key and what is known of its owner's device; nothing here is a secret.
create table passkeys (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    credential_id bytea not null constraint passkeys_credential_key unique,
    credential jsonb not null,
    name text not null,
    created_at timestamptz not null default now(),
    used_at timestamptz
);
create index passkeys_user on passkeys (user_id);

-- What a browser was asked to sign. Whoever answers takes the row away, so an answer counts once.
create table passkey_ceremonies (
    id uuid primary key,
    kind text not null,
    user_id uuid references users on delete cascade,
    state jsonb not null,
    expires_at timestamptz not null
);
create index passkey_ceremonies_expires on passkey_ceremonies (expires_at);

-- What changed; a letter tells of each.
create table factor_changes (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    what text not null,
    created_at timestamptz not null default now()
);
create index factor_changes_user on factor_changes (user_id, created_at);

-- Somebody lost every factor, and staff ask to take them away. It happens when it is due, unless its owner objects.
create table factor_resets (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    asked_by uuid references users on delete set null,
    reason text not null,
    created_at timestamptz not null default now(),
    due_at timestamptz not null,
    ended_at timestamptz,
    -- done or kept
    outcome text
);
create unique index factor_resets_open on factor_resets (user_id) where ended_at is null;
create index factor_resets_due on factor_resets (due_at) where ended_at is null;

alter table sessions
    -- which second factor it was begun with; none was asked for where it is null
    add column factor text,
    -- when whoever uses it last said who they are
    add column proven_at timestamptz;
