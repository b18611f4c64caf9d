-- Who belongs to which account and what they are there, who is invited, what staff do here, and whom they look at

create table members (
    account_id uuid not null references accounts on delete cascade,
    user_id uuid not null references users on delete cascade,
    role text not null constraint members_role check (role in ('owner', 'billing', 'technical', 'read_only')),
    created_at timestamptz not null default now(),
    -- when they chose it last, so that the next session begins in it
    chosen_at timestamptz,
    primary key (account_id, user_id)
);
create index members_user on members (user_id);

-- Whoever is made, by this release or the one before, owns the account that was made with them. `users.account_id` is always
-- an account that the user owns.
create function users_own_account() returns trigger language plpgsql as $$
begin
    insert into members (account_id, user_id, role) values (new.account_id, new.id, 'owner') on conflict do nothing;
    return null;
end
$$;
create trigger users_own_account after insert on users for each row execute function users_own_account();
insert into members (account_id, user_id, role, created_at)
    select account_id, id, 'owner', created_at from users on conflict do nothing;

-- The link in the letter is derived from the row's id with the portal's key, so no usable token is stored.
create table invitations (
    id uuid primary key,
    account_id uuid not null references accounts on delete cascade,
    email text not null constraint invitations_email_lower check (email = lower(email)),
    role text not null constraint invitations_role check (role in ('owner', 'billing', 'technical', 'read_only')),
    invited_by uuid not null references users on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz,
    used_by uuid references users on delete set null,
    -- taken back, or overtaken by a newer one to the same address
    withdrawn_at timestamptz
);
create index invitations_account on invitations (account_id) where used_at is null and withdrawn_at is null;
create index invitations_expires on invitations (expires_at);
create index invitations_invited_by on invitations (invited_by);
create index invitations_used_by on invitations (used_by);

-- Which of their accounts somebody looks at; nothing in a session that is not logged in.
alter table sessions add column account_id uuid references accounts on delete set null;
create index sessions_account on sessions (account_id);

-- Whoever `is_staff` is an admin, and nobody else is: the release before this one knows that column alone, and for it nobody
-- works here but admins.
alter table users
    add column staff_role text
    constraint users_staff_role check (staff_role in ('support', 'operator', 'finance', 'admin'));
create function users_staff_agree() returns trigger language plpgsql as $$
begin
    if new.is_staff then
        new.staff_role := 'admin';
    elsif new.staff_role = 'admin' then
        new.staff_role := null;
    end if;
    return new;
end
$$;
create trigger users_staff_agree before insert or update of is_staff, staff_role on users
    for each row execute function users_staff_agree();
update users set is_staff = is_staff where is_staff;
create index users_staff_role on users (staff_role) where staff_role is not null;

-- A member of staff looks at a customer's pages: who, at whom, why, and for how long. Rows stay.
create table viewings (
    id uuid primary key,
    user_id uuid not null references users,
    account_id uuid not null references accounts,
    reason text not null constraint viewings_reason check (reason <> ''),
    -- the session it is done in, as it stands in sessions.id
    session_id text not null,
    begun_at timestamptz not null default now(),
    ends_at timestamptz not null,
    ended_at timestamptz
);
create unique index viewings_session_key on viewings (session_id) where ended_at is null;
create index viewings_begun on viewings (begun_at);
create index viewings_account on viewings (account_id, begun_at);
create index viewings_user on viewings (user_id);
