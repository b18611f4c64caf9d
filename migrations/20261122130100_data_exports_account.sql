-- A copy is its person's. The account that it is of may be somebody else's by now, and gone with them: it is told, and held by nothing.
alter table data_exports drop constraint if exists data_exports_account_id_fkey;
