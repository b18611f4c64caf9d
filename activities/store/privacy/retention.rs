//! What is kept how long: the one table of it. The pages and the documents show it, and [`Store::prune`] does it.
use super::{
    personal::{Rows, Table, Why, tables},
    statements::remove,
};
use crate::{Store, StoreError, fault::Doing};
use sqlx::AssertSqlSafe;
use time::{Date, Duration, OffsetDateTime, format_description::StaticFormatDescription, macros::format_description};

const DAY: StaticFormatDescription = format_description!("[day padding:none] [month repr:long] [year]");

/// For how many days the trail says from where something was done.
const PARTICULARS_DAYS: u16 = 400;

/// How many entries of the trail lose that at one go.
const PARTICULARS_LIMIT: i64 = 10_000;

/// How many people's books go at one go.
const BOOKS_LIMIT: i64 = 20;

/// One kind of data that goes by itself.
struct Rule {
    what: &'static str,
    days: u16,
    counted: &'static str,
    why: &'static str,
    /// Removes what is older than the days, which are bound.
    sql: &'static str,
}

static RULES: &[Rule] = &[
    Rule {
        what: "Counts of tries, as digests that name nobody",
        days: 2,
        counted: "after the last try",
        why: "so that nobody guesses passwords",
        sql: "delete from limits where last_at < now() - make_interval(days => $1)
            and (closed_until is null or closed_until < now())",
    },
    Rule {
        what: "Links that change a password or an address, or open a log-in",
        days: 30,
        counted: "after they ended",
        why: "so that we can say what happened to a link",
        sql: "delete from access_changes where expires_at < now() - make_interval(days => $1)",
    },
    Rule {
        what: "Links that confirm an address",
        days: 30,
        counted: "after they ended",
        why: "so that we can say what happened to a link",
        sql: "delete from email_verifications where expires_at < now() - make_interval(days => $1)",
    },
    Rule {
        what: "Browsers you logged in with",
        days: 400,
        counted: "after the last time",
        why: "so that a log-in from elsewhere is told to you",
        sql: "delete from devices where seen_at < now() - make_interval(days => $1)",
    },
    Rule {
        what: "Invitations to an account",
        days: 30,
        counted: "after they ended",
        why: "so that we can say what happened to a link",
        sql: "delete from invitations where expires_at < now() - make_interval(days => $1)",
    },
    Rule {
        what: "Tokens for programs, as digests",
        days: 400,
        counted: "after they ended",
        why: "so that you can see what could read your account",
        sql: "delete from api_tokens where coalesce(revoked_at, expires_at) < now() - make_interval(days => $1)",
    },
    Rule {
        what: "That your second factors were changed",
        days: 400,
        counted: "after it was done",
        why: "so that we can show that you were told",
        sql: "delete from factor_changes where created_at < now() - make_interval(days => $1)",
    },
    Rule {
        what: "That our staff were asked to take your second factors away",
        days: 400,
        counted: "after it was done or objected to",
        why: "so that we can show who asked",
        sql: "delete from factor_resets where ended_at < now() - make_interval(days => $1)",
    },
    Rule {
        what: "That our staff looked at your pages, and why",
        days: 400,
        counted: "after they looked",
        why: "so that we can show who looked",
        sql: "delete from viewings where ends_at < now() - make_interval(days => $1)",
    },
    Rule {
        what: "That a letter about your log-in left",
        days: 400,
        counted: "after it left",
        why: "so that we can show that you were told",
        sql: "delete from letters where sent_at < now() - make_interval(days => $1)
            and order_id is null and subscription_id is null",
    },
    Rule {
        what: "Why a letter was refused",
        days: 90,
        counted: "after it was written",
        why: "so that our staff can mend it",
        sql: "update letters set last_error = null where state = 'refused' and last_error is not null
            and created_at < now() - make_interval(days => $1)",
    },
    Rule {
        what: "That Stripe reported something that is about nobody and that we do nothing about",
        days: 90,
        counted: "after it came",
        why: "so that the same report is taken in once",
        // What is about somebody belongs to the books. Stripe itself forgets a report after thirty days.
        sql: "delete from payment_events where id in (
            select id from payment_events where state = 'ignored' and received_at < now() - make_interval(days => $1)
                and order_id is null and subscription_id is null and customer_id is null and payment_id is null
            order by received_at limit 10000)",
    },
    Rule {
        what: "Passwords we made for a server that nobody looked at, sealed",
        days: 30,
        counted: "after the server was removed",
        why: "so that its owner can see it",
        sql: "update credentials set sealed_password = null where sealed_password is not null and service_id in (
            select id from services where status in ('expired', 'undone')
            and changed_at < now() - make_interval(days => $1))",
    },
    Rule {
        what: "SSH keys you gave a server, sealed",
        days: 30,
        counted: "after the server was removed, or the order came to nothing",
        why: "so that the server can be made again",
        sql: "update orders o set sealed_ssh_key = null where o.sealed_ssh_key is not null and (
            o.status in ('lapsed', 'sold_out', 'abandoned') and coalesce(o.closed_at, o.created_at) < now() - make_interval(days => $1)
            or exists (select 1 from services s where s.order_id = o.id and s.status in ('expired', 'undone')
                and s.changed_at < now() - make_interval(days => $1)))",
    },
    Rule {
        what: "Everything about an account that you closed",
        days: 30,
        counted: "after you closed it",
        why: "so that what is asked about it can be answered",
        // The erasure's workflow does it, as for whoever asks.
        sql: "insert into erasures (id, user_id, account_id, state, expires_at, confirmed_at, due_at)
            select gen_random_uuid(), u.id, u.account_id, 'waiting', now(), now(), now() from users u
            where u.closed_at < now() - make_interval(days => $1) and not exists (
                select 1 from erasures e where e.user_id = u.id and e.state in ('waiting', 'erasing', 'erased', 'done')
            ) on conflict do nothing",
    },
    Rule {
        what: "That you asked for a copy of your data",
        days: 400,
        counted: "after you asked",
        why: "so that we can show that we gave it",
        sql: "delete from data_exports where state in ('used', 'gone') and asked_at < now() - make_interval(days => $1)",
    },
    Rule {
        what: "That you wanted everything erased and did not confirm it, or took it back",
        days: 400,
        counted: "after you asked",
        why: "so that we can show what was wanted",
        sql: "delete from erasures where state in ('lapsed', 'taken_back') and asked_at < now() - make_interval(days => $1)",
    },
];

/// One line of the table of what is kept how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeping {
    /// What.
    pub what: String,
    /// How long.
    pub how_long: String,
    /// What for.
    pub why: String,
}

/// The periods that an installation chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepingTerms {
    /// How long somebody stays logged in at most, in seconds.
    pub session_secs: u32,
    /// How long a copy of somebody's data can be fetched, in seconds.
    pub export_secs: u32,
    /// For how long an erasure can be taken back, in seconds.
    pub erasure_secs: u32,
    /// How many years after the end of a year its books are kept.
    pub books_years: u8,
}

/// The whole table, for the pages and the documents.
pub fn schedule(terms: &KeepingTerms) -> Vec<Keeping> {
    let line =
        |what: &str, how_long: String, why: &str| Keeping { what: what.to_owned(), how_long, why: why.to_owned() };
    let mut all = vec![
        line(
            "Your name, your address, your servers and their history",
            "as long as you have an account".to_owned(),
            "the contract with you",
        ),
        line(
            "What you ordered and paid, invoices, refunds",
            format!("{} after the end of their year", counted(terms.books_years.into(), "year")),
            "tax and commercial law",
        ),
        line(
            "Log-ins, with the browser and the network address",
            format!("until they end, at most {}", span(terms.session_secs)),
            "so that you stay logged in and can see where",
        ),
        line(
            "A copy of your data that you asked for, sealed",
            format!("until you fetch it, at most {}", span(terms.export_secs)),
            "so that you can fetch it",
        ),
        line(
            "From where something was done, and the words that were written with it, in the trail of what was done",
            format!("{} after it was done", counted(PARTICULARS_DAYS.into(), "day")),
            "so that a break-in can be found and shown",
        ),
        line("Everything, after you asked us to erase it", span(terms.erasure_secs), "so that you can take it back"),
    ];
    all.extend(
        RULES
            .iter()
            .map(|rule| line(rule.what, format!("{} {}", counted(rule.days.into(), "day"), rule.counted), rule.why)),
    );
    all
}

/// One line of what stays after an erasure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLine {
    /// What stays.
    pub what: &'static str,
    /// Why.
    pub why: &'static str,
    /// Until when.
    pub until: String,
}

/// What stays after an erasure whose books have to be kept until a day; without books nearly nothing does.
pub fn kept_after_erasure(books_until: Option<Date>) -> Vec<KeptLine> {
    let mut kept = vec![];
    if let Some(day) = books_until {
        let until = format!("until {}", day.format(DAY).unwrap_or_default());
        kept.push(KeptLine {
            what: "What was ordered and paid, by its numbers: orders, servers, subscriptions, invoices, payments, refunds, disputes. \
                   Names, addresses and keys are gone from it.",
            why: "Tax and commercial law want books kept.",
            until: until.clone(),
        });
        kept.push(KeptLine {
            what: "The invoices as they were issued, with the name and the address on them, at Stripe.",
            why: "An invoice must not be changed after it was issued.",
            until,
        });
    }
    kept.push(KeptLine {
        what: "That something was done, and when, by numbers: the trail of what was done. From where, and every word, are gone from it; \
               from what somebody did who worked for us, they go 400 days after it was done.",
        why: "We have to be able to show that nothing was changed behind anybody's back.",
        until: "without an end; it names nobody".to_owned(),
    });
    kept.push(KeptLine {
        what: "That you asked for this, and when it was done, by a number.",
        why: "We have to be able to show that we did it.",
        until: "without an end; it names nobody".to_owned(),
    });
    kept
}

impl Store {
    /// Removes everything that was kept long enough, and gives how many rows there were. Any number of processes may do it
    /// at once.
    pub async fn prune(&self) -> Result<u64, StoreError> {
        let mut rows = self.delete_expired_sessions().await?;
        for rule in RULES {
            let done = sqlx::query(rule.sql).bind(i32::from(rule.days)).execute(&self.pool).await;
            rows += done.doing("removing what was kept long enough")?.rows_affected();
        }
        let copies = sqlx::query!(
            "update data_exports set state = 'gone', sealed_archive = null where state = 'ready' and expires_at <= now()"
        )
        .execute(&self.pool)
        .await
        .doing("dropping copies")?;
        let asked = sqlx::query!("delete from passkey_ceremonies where expires_at < now()")
            .execute(&self.pool)
            .await
            .doing("removing what browsers were asked to sign")?;
        let long_ago = OffsetDateTime::now_utc() - Duration::days(PARTICULARS_DAYS.into());
        rows += self.forget_audit_before(long_ago, PARTICULARS_LIMIT).await?;
        Ok(rows + copies.rows_affected() + asked.rows_affected() + self.prune_books().await?)
    }

    /// Removes what stayed of people whose data was erased, when the law lets it go. What still holds a machine's number
    /// stays, whatever the day.
    async fn prune_books(&self) -> Result<u64, StoreError> {
        let mut rows = 0;
        let mut tx = self.begin().await?;
        let over = sqlx::query!(
            "select e.id, e.user_id, e.account_id from erasures e
             where e.state = 'done' and e.rest_erased_at is null and (e.kept_until is null or e.kept_until < current_date)
                and not exists (
                    select 1 from orders o join reservations r on r.order_id = o.id and r.released_at is null
                    where o.account_id = e.account_id
                )
             order by e.kept_until nulls first, e.id limit $1 for update skip locked",
            BOOKS_LIMIT,
        )
        .fetch_all(&mut *tx)
        .await
        .doing("looking for books that may go")?;
        for one in over {
            for statement in tables().filter(|table| goes_with_the_books(table)).map(remove) {
                let done = sqlx::query(AssertSqlSafe(statement)).bind(one.account_id).bind(one.user_id);
                rows += done.execute(&mut *tx).await.doing("removing old books")?.rows_affected();
            }
            sqlx::query!("update erasures set rest_erased_at = now() where id = $1", one.id)
                .execute(&mut *tx)
                .await
                .doing("noting that old books went")?;
        }
        tx.commit().await.doing("removing old books")?;
        Ok(rows)
    }
}

fn goes_with_the_books(table: &Table) -> bool {
    !matches!(table.rows, Rows::Kept(Why::Proof) | Rows::Apart)
}

fn counted(number: u32, unit: &str) -> String {
    if number == 1 { format!("1 {unit}") } else { format!("{number} {unit}s") }
}

/// Seconds as the largest unit that divides them.
fn span(secs: u32) -> String {
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let fits = units.into_iter().find(|(unit, _)| secs.is_multiple_of(*unit));
    fits.map_or_else(|| counted(secs, "second"), |(unit, name)| counted(secs / unit, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    const TERMS: KeepingTerms =
        KeepingTerms { session_secs: 1_209_600, export_secs: 604_800, erasure_secs: 1_209_600, books_years: 10 };

    #[test]
    fn what_is_kept_is_told_in_words_with_its_time_and_its_reason() {
        let lines = schedule(&TERMS);
        assert!(lines.len() > RULES.len());
        for line in &lines {
            assert!(!line.what.is_empty() && !line.how_long.is_empty() && !line.why.is_empty(), "{line:?}");
        }
        let books = lines.iter().find(|line| line.what.contains("invoices")).expect("the books");
        assert_eq!(books.how_long, "10 years after the end of their year");
        let copy = lines.iter().find(|line| line.what.starts_with("A copy")).expect("the copies");
        assert_eq!(copy.how_long, "until you fetch it, at most 7 days");
    }

    #[test]
    fn every_rule_binds_its_days_and_touches_one_table() {
        for rule in RULES {
            assert!(rule.sql.contains("make_interval(days => $1)") && !rule.sql.contains(';'), "{}", rule.what);
            assert!(rule.days > 0, "{}", rule.what);
        }
    }

    #[test]
    fn what_stays_names_its_reason_and_its_day() {
        let kept = kept_after_erasure(Some(date!(2036 - 12 - 31)));
        assert_eq!(kept.len(), 4);
        assert_eq!(kept[0].until, "until 31 December 2036");
        assert_eq!(kept_after_erasure(None).len(), 2);
    }

    #[test]
    fn spans_read_in_their_largest_unit() {
        assert_eq!(span(604_800), "7 days");
        assert_eq!(span(86_400), "1 day");
        assert_eq!(span(7_200), "2 hours");
        assert_eq!(span(90), "90 seconds");
    }
}
