-- Tokens of programs: 256 random bits, of which the SHA-256 stands here. They are shown once and end by themselves.
create table api_tokens (
    -- made by the form, so that a form sent twice makes one
    id uuid primary key,
    account_id uuid not null references accounts,
    user_id uuid not null references users on delete cascade,
    -- as its owner calls it
    name text not null,
    -- its first characters, to recognise it by
    prefix text not null,
    token_hash bytea not null constraint api_tokens_hash_key unique,
    scopes text[] not null constraint api_tokens_scopes check (cardinality(scopes) > 0),
    -- it is worth nothing in a later epoch of its user: whatever ends every session ends it, too
    access_epoch integer not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz,
    used_network text,
    revoked_at timestamptz
);
create index api_tokens_account on api_tokens (account_id, created_at desc);
create index api_tokens_user on api_tokens (user_id);
