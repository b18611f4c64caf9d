-- Who gets in: tries that are counted, links that work once, devices that are known, sessions that people can read

-- How often something was tried. The subject is a keyed digest of a network, an address or a device: nobody can be read here.
create table limits (
    route text not null,
    subject bytea not null,
    attempts integer not null,
    last_at timestamptz not null,
    -- until then no try is taken
    closed_until timestamptz,
    primary key (route, subject)
);
create index limits_last on limits (last_at);

-- What somebody asked about their own way in. The link in the letter is derived from the row's id with the portal's key, so
-- no usable token is stored.
create table access_changes (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    kind text not null,
    new_email text,
    old_email text,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz
);
create index access_changes_user on access_changes (user_id, kind, created_at);
create index access_changes_expires on access_changes (expires_at);

-- A browser somebody logged in with before; its cookie holds 256 random bits, of which the SHA-256 stands here.
create table devices (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    token_hash bytea not null constraint devices_token_key unique,
    agent text not null,
    network text not null,
    created_at timestamptz not null default now(),
    seen_at timestamptz not null default now()
);
create index devices_user on devices (user_id);
create index devices_seen on devices (seen_at);

-- A session's id is a credential and stands here as its SHA-256 from now on; whoever was logged in before logs in once more.
alter table sessions
    add column handle uuid not null default gen_random_uuid() constraint sessions_handle_key unique,
    add column agent text,
    add column network text,
    add column idle_secs integer,
    -- a session of an earlier epoch than its user's is over
    add column access_epoch integer not null default 0,
    add column created_at timestamptz not null default now(),
    add column used_at timestamptz not null default now();

alter table accounts add column closed_at timestamptz;
alter table users
    add column closed_at timestamptz,
    -- grows whenever every session of the user ends, so what was begun before and comes after is worth nothing
    add column access_epoch integer not null default 0;
