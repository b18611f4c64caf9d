-- The trail knows of roles of staff, and of the second factor a session was begun with.

create or replace function audit_session() returns trigger language plpgsql as $$
declare
    whose uuid;
    kind text;
    is_over boolean;
begin
    if tg_op = 'DELETE' then
        select account_id, case when staff_role is not null then 'staff' else 'user' end into whose, kind
            from users where id = old.user_id;
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
    select account_id, case when staff_role is not null then 'staff' else 'user' end into whose, kind
        from users where id = new.user_id;
    perform audit_write(kind, new.user_id, whose, 'session.begun', 'session/' || new.handle,
        null, null, new.network, null,
        jsonb_build_object('browser', new.agent)
            || case when new.factor is null then '{}'::jsonb else jsonb_build_object('factor', new.factor) end);
    return null;
end
$$;

create or replace function audit_user() returns trigger language plpgsql as $$
declare
    about text := 'user/' || new.id;
begin
    if tg_op = 'INSERT' then
        if new.staff_role is not null then
            perform audit_write(null, null, new.account_id, 'user.made', about,
                null, jsonb_build_object('staff', true), null, null, jsonb_build_object('email', new.email));
        else
            perform audit_write('user', new.id, new.account_id, 'user.made', about,
                null, jsonb_build_object('staff', false), null, null, jsonb_build_object('email', new.email));
        end if;
        return null;
    end if;
    if old.staff_role is distinct from new.staff_role then
        perform audit_write(null, null, new.account_id, 'user.staff', about,
            jsonb_build_object('staff', old.staff_role is not null, 'role', old.staff_role),
            jsonb_build_object('staff', new.staff_role is not null, 'role', new.staff_role), null, null, null);
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

drop trigger users_audit_changed on users;
create trigger users_audit_changed after update on users for each row
    when (
        old.staff_role is distinct from new.staff_role or old.closed_at is distinct from new.closed_at
        or old.email is distinct from new.email or old.password_hash is distinct from new.password_hash
    )
    execute function audit_user();
