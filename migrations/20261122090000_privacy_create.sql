-- What people ask about their own data: a copy of it, and its end

create table data_exports (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    account_id uuid not null references accounts,
    state text not null constraint data_exports_state check (state in ('asked', 'ready', 'used', 'gone')),
    -- a zip, sealed with the portal's key; only while it can be fetched
    sealed_archive text,
    size_bytes bigint,
    asked_at timestamptz not null default now(),
    ready_at timestamptz,
    -- until when it can be fetched
    expires_at timestamptz,
    used_at timestamptz,
    -- when its workflow was started
    told_at timestamptz,
    constraint data_exports_sealed check ((sealed_archive is not null) = (state = 'ready'))
);
create unique index data_exports_one on data_exports (user_id) where state = 'asked';
create index data_exports_user on data_exports (user_id, asked_at desc);
create index data_exports_untold on data_exports (asked_at) where told_at is null;
create index data_exports_expires on data_exports (expires_at) where state = 'ready';

-- The row outlives the person it was about, and names nobody any more then.
create table erasures (
    id uuid primary key,
    user_id uuid not null,
    account_id uuid not null,
    state text not null constraint erasures_state check (
        state in ('asked', 'lapsed', 'waiting', 'taken_back', 'erasing', 'erased', 'done')
    ),
    -- where the letters go after the account was closed; removed with the last one
    email text,
    asked_at timestamptz not null default now(),
    -- until when it has to be confirmed
    expires_at timestamptz not null,
    confirmed_at timestamptz,
    -- until when it can be taken back
    due_at timestamptz,
    taken_back_at timestamptz,
    begun_at timestamptz,
    erased_at timestamptz,
    done_at timestamptz,
    -- why it is not begun although it is due
    held_because text,
    -- until when the law wants the books kept; nothing when there are none
    kept_until date,
    -- when what had been kept went, too
    rest_erased_at timestamptz,
    -- how often something was pressed, and which of these its workflow was told
    version bigint not null default 1,
    told bigint not null default 0,
    -- when its workflow looked at it last
    read_at timestamptz
);
create unique index erasures_one on erasures (user_id) where state in ('asked', 'waiting', 'erasing', 'erased');
create index erasures_user on erasures (user_id, asked_at desc);
create index erasures_recent on erasures (asked_at desc, id);
create index erasures_untold on erasures (asked_at) where told < version;
create index erasures_kept on erasures (kept_until) where state = 'done' and rest_erased_at is null;

-- What the schedule of what is kept how long asks for.
create index email_verifications_expires on email_verifications (expires_at);
create index letters_sent on letters (sent_at) where sent_at is not null;
