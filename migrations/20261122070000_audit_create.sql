-- The trail: who did what, when, from where. It is only ever added to.
--
-- An entry is written in the transaction that does what it tells of, and never changed. It waits in audit_unlinked until a
-- worker links it into the chain (audit_links): entries of many transactions are written side by side, and nobody waits for
-- the end of the chain. In every snapshot an entry is either waiting or linked.
--
-- What says something of a person (a network, an address, words that somebody typed) stands in audit_particulars, which may
-- be forgotten. The entry keeps a salted hash of it: what is there can be proved, and what was forgotten can not be guessed.

create table audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    -- hand: at the database, the command line or Temporal; stranger: nobody knows who
    actor_kind text not null constraint audit_actor_kind check (
        actor_kind in ('system', 'hand', 'stranger', 'user', 'staff', 'token')
    ),
    actor_id uuid,
    account_id uuid,
    action text not null,
    -- what it is about, such as order/<id>; never a name or an address
    subject text not null,
    -- states, never anything of a person
    before jsonb,
    after jsonb,
    particulars_hash bytea constraint audit_particulars_hash check (octet_length(particulars_hash) = 32)
);
create index audit_account on audit (account_id, id) where account_id is not null;
create index audit_actor on audit (actor_id, id) where actor_id is not null;
create index audit_subject on audit (subject, id);
create index audit_action on audit (action, id);
create index audit_at on audit using brin (at);

-- No foreign key leads to audit: it would lock, and so write, a row that is never to be written again.
create table audit_particulars (
    audit_id bigint primary key,
    -- 244 random bits
    salt bytea not null,
    network text,
    before jsonb,
    after jsonb
);

-- The hash is SHA-256 over the one before and the entry; activities/store/audit/chain.rs says how.
create table audit_links (
    seq bigint primary key constraint audit_links_seq check (seq > 0),
    audit_id bigint not null constraint audit_links_entry_key unique,
    hash bytea not null constraint audit_links_hash check (octet_length(hash) = 32)
);

create table audit_unlinked (
    id bigint primary key
);

create function audit_added() returns trigger language plpgsql as $$
begin
    new.at := clock_timestamp();
    insert into audit_unlinked (id) values (new.id);
    return new;
end
$$;
create trigger audit_added before insert on audit for each row execute function audit_added();

create function audit_refuse() returns trigger language plpgsql as $$
begin
    if tg_table_name = 'audit_particulars' and tg_op = 'DELETE' and current_setting('ez.erasure', true) = 'on' then
        return null;
    end if;
    raise exception '% is only ever added to', tg_table_name using errcode = 'insufficient_privilege';
end
$$;
create trigger audit_stays before update or delete or truncate on audit
    for each statement execute function audit_refuse();
create trigger audit_links_stay before update or delete or truncate on audit_links
    for each statement execute function audit_refuse();
create trigger audit_particulars_stay before update or delete or truncate on audit_particulars
    for each statement execute function audit_refuse();
-- Also for a session that calls itself a replica.
alter table audit enable always trigger audit_added;
alter table audit enable always trigger audit_stays;
alter table audit_links enable always trigger audit_links_stay;
alter table audit_particulars enable always trigger audit_particulars_stay;

-- Writes an entry and gives its id. Who and where not given are taken from the transaction's settings ez.actor
-- (<kind>:<uuid>) and ez.network; without them it was the portal itself, or a hand when the connection is not the portal's.
create function audit_write(
    who_kind text, who uuid, whose uuid, what text, about text, was jsonb, became jsonb,
    whence text, hidden_was jsonb, hidden_became jsonb
) returns bigint language plpgsql as $$
declare
    kind text := who_kind;
    person uuid := who;
    given text := nullif(current_setting('ez.actor', true), '');
    place text := coalesce(whence, nullif(current_setting('ez.network', true), ''));
    grain bytea;
    sealed bytea;
    made bigint;
begin
    if kind is null and given is not null then
        kind := split_part(given, ':', 1);
        person := nullif(split_part(given, ':', 2), '')::uuid;
    elsif kind is null then
        kind := case when current_setting('application_name', true) = 'ez' then 'system' else 'hand' end;
    end if;
    if place is not null or hidden_was is not null or hidden_became is not null then
        grain := uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
        sealed := sha256(grain || convert_to(jsonb_build_array(place, hidden_was, hidden_became)::text, 'UTF8'));
    end if;
    insert into audit (actor_kind, actor_id, account_id, action, subject, before, after, particulars_hash)
    values (kind, person, whose, what, about, was, became, sealed)
    returning id into made;
    if grain is not null then
        insert into audit_particulars (audit_id, salt, network, before, after)
        values (made, grain, place, hidden_was, hidden_became);
    end if;
    return made;
end
$$;

-- Every change of state, whoever writes it: this release, the one before, a person at the database.
create function audit_order() returns trigger language plpgsql as $$
declare
    was jsonb;
begin
    if tg_op = 'DELETE' then
        perform audit_write(null, null, old.account_id, 'order.deleted', 'order/' || old.id,
            jsonb_build_object('status', old.status), null, null, null, null);
        return null;
    end if;
    if tg_op = 'UPDATE' then
        was := jsonb_build_object('status', old.status);
    end if;
    perform audit_write(null, null, new.account_id, 'order.' || new.status, 'order/' || new.id,
        was, jsonb_build_object('status', new.status), null, null, null);
    return null;
end
$$;
create trigger orders_audit_made after insert or delete on orders for each row execute function audit_order();
create trigger orders_audit_changed after update on orders for each row
    when (old.status is distinct from new.status) execute function audit_order();

create function audit_service() returns trigger language plpgsql as $$
declare
    was jsonb;
begin
    if tg_op = 'DELETE' then
        perform audit_write(null, null, old.account_id, 'service.deleted', 'service/' || old.id,
            jsonb_build_object('status', old.status), null, null, null, null);
        return null;
    end if;
    if tg_op = 'UPDATE' then
        was := jsonb_build_object('status', old.status);
    end if;
    perform audit_write(null, null, new.account_id, 'service.' || new.status, 'service/' || new.id,
        was, jsonb_build_object('status', new.status), null, null, null);
    return null;
end
$$;
create trigger services_audit_made after insert or delete on services for each row execute function audit_service();
create trigger services_audit_changed after update on services for each row
    when (old.status is distinct from new.status) execute function audit_service();

create function audit_subscription() returns trigger language plpgsql as $$
declare
    was jsonb;
begin
    if tg_op = 'DELETE' then
        perform audit_write(null, null, old.account_id, 'subscription.deleted', 'subscription/' || old.id,
            jsonb_build_object('phase', old.phase, 'status', old.status), null, null, null, null);
        return null;
    end if;
    if tg_op = 'UPDATE' then
        was := jsonb_build_object('phase', old.phase, 'status', old.status);
    end if;
    perform audit_write(null, null, new.account_id, 'subscription.' || new.phase, 'subscription/' || new.id,
        was, jsonb_build_object('phase', new.phase, 'status', new.status), null, null, null);
    return null;
end
$$;
create trigger subscriptions_audit_made after insert or delete on subscriptions
    for each row execute function audit_subscription();
create trigger subscriptions_audit_changed after update on subscriptions for each row
    when (old.phase is distinct from new.phase or old.status is distinct from new.status)
    execute function audit_subscription();

-- A table that is emptied at one go, as the mirror of Stripe may be.
create function audit_emptied() returns trigger language plpgsql as $$
begin
    perform audit_write(null, null, null, tg_table_name::text || '.emptied', tg_table_name::text, null, null, null, null, null);
    return null;
end
$$;
create trigger orders_audit_emptied after truncate on orders for each statement execute function audit_emptied();
create trigger services_audit_emptied after truncate on services for each statement execute function audit_emptied();
create trigger subscriptions_audit_emptied after truncate on subscriptions
    for each statement execute function audit_emptied();

-- Every way in and out ends in a row of sessions. One that is ended is ended by its owner, unless the transaction says by whom.
create function audit_session() returns trigger language plpgsql as $$
declare
    whose uuid;
    kind text;
    is_over boolean;
begin
    if tg_op = 'DELETE' then
        select account_id, case when is_staff then 'staff' else 'user' end into whose, kind from users where id = old.user_id;
        is_over := old.expires_at <= now()
            or (old.idle_secs is not null and old.used_at <= now() - make_interval(secs => old.idle_secs));
        if is_over then
            perform audit_write('system', null, whose, 'session.ended', 'session/' || old.handle,
                null, jsonb_build_object('why', 'time'), null, null, null);
        elsif nullif(current_setting('ez.actor', true), '') is null
            and current_setting('application_name', true) = 'ez' and kind is not null then
            perform audit_write(kind, old.user_id, whose, 'session.ended', 'session/' || old.handle,
                null, jsonb_build_object('why', 'asked'), null, null, null);
        else
            perform audit_write(null, null, whose, 'session.ended', 'session/' || old.handle,
                null, jsonb_build_object('why', 'asked'), null, null, null);
        end if;
        return null;
    end if;
    select account_id, case when is_staff then 'staff' else 'user' end into whose, kind from users where id = new.user_id;
    perform audit_write(kind, new.user_id, whose, 'session.begun', 'session/' || new.handle,
        null, null, new.network, null, jsonb_build_object('browser', new.agent));
    return null;
end
$$;
create trigger sessions_audit_begun after insert on sessions for each row
    when (new.user_id is not null) execute function audit_session();
create trigger sessions_audit_became after update on sessions for each row
    when (new.user_id is not null and old.user_id is distinct from new.user_id) execute function audit_session();
create trigger sessions_audit_ended after delete on sessions for each row
    when (old.user_id is not null) execute function audit_session();

-- What lets a person in. Of somebody closed no address is kept here.
create function audit_user() returns trigger language plpgsql as $$
declare
    about text := 'user/' || new.id;
begin
    if tg_op = 'INSERT' then
        if new.is_staff then
            perform audit_write(null, null, new.account_id, 'user.made', about,
                null, jsonb_build_object('staff', true), null, null, jsonb_build_object('email', new.email));
        else
            perform audit_write('user', new.id, new.account_id, 'user.made', about,
                null, jsonb_build_object('staff', false), null, null, jsonb_build_object('email', new.email));
        end if;
        return null;
    end if;
    if old.is_staff is distinct from new.is_staff then
        perform audit_write(null, null, new.account_id, 'user.staff', about,
            jsonb_build_object('staff', old.is_staff), jsonb_build_object('staff', new.is_staff), null, null, null);
    end if;
    if new.closed_at is not null then
        if old.closed_at is null then
            perform audit_write(null, null, new.account_id, 'user.closed', about,
                jsonb_build_object('closed', false), jsonb_build_object('closed', true), null, null, null);
        end if;
        return null;
    end if;
    if old.email is distinct from new.email then
        perform audit_write(null, null, new.account_id, 'user.address', about,
            null, null, null, jsonb_build_object('email', old.email), jsonb_build_object('email', new.email));
    end if;
    if old.password_hash is distinct from new.password_hash then
        perform audit_write(null, null, new.account_id, 'user.password', about, null, null, null, null, null);
    end if;
    return null;
end
$$;
create trigger users_audit_made after insert on users for each row execute function audit_user();
create trigger users_audit_changed after update on users for each row
    when (
        old.is_staff is distinct from new.is_staff or old.closed_at is distinct from new.closed_at
        or old.email is distinct from new.email or old.password_hash is distinct from new.password_hash
    )
    execute function audit_user();
